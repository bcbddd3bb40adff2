"""A scripted judge behind a real HTTP server: ANAH-v2's words, FActScore's words, and embeddings, by rules alone.

What it says follows from the text it is asked about, so the same request always gets the same answer; it has nothing to
do with the truth.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WIDTH = 32  # of an embedding
TRUE_OR_FALSE = ("True or False?", "True 还是 False？")
SENTENCE = re.compile(r"\A(?:Sentence: |句子：)(.*)\Z", re.DOTALL)
TYPES = {
    "en": ("<No Hallucination>", "<No Hallucination>", "<Contradictory>", "<Unverifiable>"),
    "zh": ("<无幻觉>", "<无幻觉>", "<矛盾>", "<无法验证>"),
}


def answer(messages: Sequence[dict[str, str]]) -> str:
    """The next message: True or False, atomic facts, or the turn of ANAH-v2's dialogue that is due."""
    asked = messages[-1]["content"]
    draw = int(hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16)
    if asked.rstrip().endswith(TRUE_OR_FALSE):
        return "True" if draw % 3 else "False"
    if sentence := SENTENCE.match(asked):
        half = len(sentence[1]) // 2
        return "\n".join(
            f"- {' '.join(part.split())}" for part in (sentence[1][:half], sentence[1][half:]) if part.strip()
        )
    turn = sum(message["role"] == "assistant" for message in messages)
    zh = len(re.findall(r"[一-鿿]", asked)) > len(re.findall(r"[a-zA-Z]", asked))
    if turn == 0:
        names = ("<无事实>", "<有事实>") if zh else ("<No Facts>", "<Facts Present>")
        return names[draw % 6 > 0]
    if turn == 1:
        if draw % 8 == 0:
            return "<无参考信息>" if zh else "<No Reference Information>"
        return max(asked.splitlines(), key=len)[:200]
    return TYPES["zh" if zh else "en"][draw % 4]


def embedding(text: str) -> list[float]:
    """A vector that follows from the text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return [byte / 128 - 1 for byte in digest[:WIDTH]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: workers write to the terminal."""

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": ""} for name in sorted(self.server.models)]
        self._send({"object": "list", "data": rows})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests += 1
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        if self.path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": answer(body["messages"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(
                {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
            )
        elif self.path.endswith("/embeddings"):
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            rows = [{"object": "embedding", "index": i, "embedding": embedding(t)} for i, t in enumerate(texts)]
            self._send({"object": "list", "data": rows, "model": body["model"], "usage": usage})
        else:
            self._send({"error": {"message": f"no such page: {self.path}"}}, 404)


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.requests = 0
        self.models: set[str] = set()


class ScriptedJudge:
    """The server, listening on loopback inside the block."""

    def __enter__(self) -> ScriptedJudge:
        self._listener = _Listener()
        threading.Thread(target=self._listener.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_port}/v1"

    def stand_for(self, model: str) -> str:
        """Serve under the name of `model` too; returns the target that asks for it."""
        self._listener.models.add(model)
        return f"{self.url}#{model}"

    @property
    def requests(self) -> int:
        """How many were answered so far."""
        return self._listener.requests
