"""A real HTTP server on loopback that speaks the OpenAI chat API; the model behind it is `rule_judge`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.helpers import rule_judge

TRIAL = "Paris is the capital of France."


class _Listener(ThreadingHTTPServer):
    request_queue_size = 64
    judge: JudgeServer


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, and says nothing on the tests' output."""

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the tests' output."""

    def send(self, status: int, body: dict[str, Any] | str, **headers: str) -> None:
        page = isinstance(body, str)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


class ChatHandler(JsonHandler):
    server: _Listener

    def refused(self) -> bool:
        key = self.server.judge.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self.send(401, {"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}})
        return True

    def do_GET(self) -> None:
        judge = self.server.judge
        if self.refused():
            return
        if judge.page is not None:
            self.send(200, judge.page)
        elif judge.models is None or not self.path.startswith("/v1/models"):
            self.send(404, {"error": {"message": "no such page"}})
        else:
            rows = [{"id": m, "object": "model", "created": 0, "owned_by": "tests"} for m in judge.models]
            self.send(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        judge = self.server.judge
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        with judge.lock:
            (judge.trials if TRIAL in json.dumps(body["messages"]) else judge.requests).append(body)
            turn = len(judge.requests) + len(judge.trials)
        if self.path.partition("?")[0] != "/v1/chat/completions":
            self.send(404, {"detail": "Not Found"})
            return
        if (odd := judge.odd(body, turn)) is not None:
            status, answer, headers = odd
            self.send(status, answer, **headers)
            return
        if turn <= judge.fail_first:
            self.send(500, {"error": {"message": f"out of memory ({self.headers.get('Authorization')})"}})
            return
        if turn <= judge.hang_first:
            judge.closing.wait(30)
            return
        with judge.lock if judge.one_at_a_time else nullcontext():
            if judge.stop_after is not None and len(judge.answered) >= judge.stop_after:
                judge.stop_listening()
                return  # no answer at all: the connection just closes
            text = judge.answer(body["messages"])
            if text is not None and TRIAL not in json.dumps(body["messages"]):
                judge.answered.append(json.dumps(body["messages"], sort_keys=True))
        if text is None:
            self.send(400, {"error": {"message": f"too long ({self.headers.get('Authorization')})"}})
            return
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}] if judge.choices else []
        self.send(
            200, {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}
        )


class JudgeServer:
    """Switches: fail_first: that many requests get 500. hang_first: that many never get an answer. stop_after: after
    that many answers the server is gone. key: without it, 401. models: what it lists (None: 404). choices: False for
    answers without any. one_at_a_time: answers are made one after the other. page:
    HTML sent in place of the model list. odd: from the body and number of a chat request to (status, body, headers) of
    the answer; None: answer as always.

    requests: every chat request that came in, without those that try the judge before a run, which are in trials.
    answered: the messages of those that got an answer, as JSON.
    """

    handler: type[JsonHandler] = ChatHandler

    def __init__(self, answer: Callable[[list[dict[str, str]]], str | None] = rule_judge.answer) -> None:
        self.answer = answer
        self.models: list[str] | None = ["rules"]
        self.key: str | None = None
        self.fail_first = 0
        self.hang_first = 0
        self.stop_after: int | None = None
        self.choices = True
        self.one_at_a_time = True
        self.page: str | None = None
        self.odd: Callable[[dict[str, Any], int], tuple[int, dict[str, Any] | str, dict[str, str]] | None] = (
            lambda body, turn: None
        )
        self.requests: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self.answered: list[str] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.port = 0
        self._listener: _Listener | None = None
        self.start()

    def start(self) -> None:
        """Listen; after a stop, on the same port again."""
        self._listener = _Listener(("127.0.0.1", self.port), self.handler)
        self._listener.judge = self
        self.port = self._listener.server_port
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop_listening(self) -> None:
        """From now on connections are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.socket.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.stop_listening()
