"""A real HTTP server on loopback that speaks OpenAI's files and batches, beside the chat API of `JudgeServer`."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.helpers import rule_judge
from tests.helpers.judge_server import ChatHandler, JudgeServer

Line = dict[str, Any]


class _Handler(ChatHandler):
    @property
    def batches(self) -> BatchServer:
        assert isinstance(self.server.judge, BatchServer)
        return self.server.judge

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        if path not in ("/v1/files", "/v1/batches"):
            super().do_POST()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused() or self.batches.reach(f"before {path[4:]}"):
            return
        if path == "/v1/files":
            made: Any = self.batches.add_file(_part(body, self.headers["Content-Type"]))
        else:
            made = self.batches.add_batch(json.loads(body))
        if not self.batches.reach(f"after {path[4:]}"):
            self.send(200, made)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/v1/models"):
            super().do_GET()
            return
        if self.refused():
            return
        if path == "/v1/batches":
            self.batches.listed += 1
            self.send(200, self.batches.listing(dict(re.findall(r"(\w+)=([^&]*)", query))))
        elif match := re.fullmatch(r"/v1/batches/(.+)", path):
            if not self.batches.reach("look"):
                self.send(*self.batches.look(match[1]))
        elif match := re.fullmatch(r"/v1/files/(.+)/content", path):
            if self.batches.reach("content"):
                return
            if match[1] in self.batches.files:
                self.send(200, self.batches.files[match[1]])
            else:
                self.send(404, {"error": {"message": "no such file"}})
        else:
            self.send(404, {"error": {"message": f"no {path}"}})


def _part(body: bytes, kind: str) -> str:
    """The file in a multipart form."""
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)]
    assert any(b'name="purpose"' in head and rest.strip() == b"batch" for head, _, rest in parts)
    (file,) = (rest.removesuffix(b"\r\n") for head, _, rest in parts if b"filename=" in head)
    return file.decode()


class BatchServer(JudgeServer):
    """Switches: looks: how often a batch is looked at until it is through. ends: what its last status is (its result
    for `failed` are `errors`). mangle: from output and error lines to those that are sent, or to a text. hang_at: a
    step (`before files`, `after files`, `before batches`, `after batches`, `look`, `content`) at which the server
    hangs, after `hang_after` times there; `hung` is then set. drop_at: a step at which the connection is closed, once.

    created: the custom ids of each batch, in order. most_waiting: how many batches were on their way at once.
    """

    handler = _Handler

    def __init__(self, answer: Callable[[list[dict[str, str]]], str | None] = rule_judge.answer) -> None:
        self.files: dict[str, str] = {}
        self.rows: dict[str, Line] = {}
        self.created: list[list[str]] = []
        self.bodies: list[Line] = []
        self.looks = 1
        self.ends: Callable[[Line], str] = lambda batch: "completed"
        self.errors: list[Line] = []
        self.mangle: Callable[[list[Line]], Iterable[Line] | str] = lambda lines: lines
        self.hang_at, self.hang_after = "", 0
        self.drop_at = ""
        self.hung = threading.Event()
        self.listed = 0
        self.most_waiting = 0
        super().__init__(answer)

    def reach(self, step: str) -> bool:
        """Whether a request ends here without an answer."""
        if step == self.drop_at:
            self.drop_at = ""
            return True
        if step == self.hang_at:
            if self.hang_after:
                self.hang_after -= 1
                return False
            self.hung.set()
            self.closing.wait(20)
            return True
        return False

    def add_file(self, text: str) -> Line:
        with self.lock:
            name = f"file-{len(self.files)}"
            self.files[name] = text
        return {"id": name, "object": "file", "purpose": "batch", "status": "processed"}

    def add_batch(self, asked: Line) -> Line:
        assert asked["endpoint"] == "/v1/chat/completions"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        with self.lock:
            name = f"batch_{len(self.rows)}"
            self.created.append([line["custom_id"] for line in lines])
            self.bodies += [line["body"] for line in lines]
            self.rows[name] = {
                "id": name,
                "object": "batch",
                "created_at": time.time(),
                "status": "validating",
                "metadata": asked.get("metadata"),
                "lines": lines,
                "looks": 0,
            }
            waiting = [row for row in self.rows.values() if row["status"] in ("validating", "in_progress")]
            self.most_waiting = max(self.most_waiting, len(waiting))
        return self._shown(name)

    def _shown(self, name: str) -> Line:
        row = self.rows[name]
        through = row["status"] == "completed"
        counts = {"total": len(row["lines"]), "completed": len(row["lines"]) * through, "failed": 0}
        kept = {key: value for key, value in row.items() if key not in ("lines", "looks")}
        return {**kept, "request_counts": counts}

    def listing(self, query: dict[str, str]) -> Line:
        """Two batches a page, newest first."""
        names = [*self.rows][::-1]
        names = names[names.index(query["after"]) + 1 :] if "after" in query else names
        return {"object": "list", "data": [self._shown(name) for name in names[:2]], "has_more": len(names) > 2}

    def look(self, name: str) -> tuple[int, Line]:
        if name not in self.rows:
            return 404, {"error": {"message": f"No batch found with id {name}"}}
        row = self.rows[name]
        if row["status"] in ("validating", "in_progress"):
            row["looks"] += 1
            row["status"] = "in_progress" if row["looks"] < self.looks else self.ends(row)
            if row["status"] == "failed":
                row["errors"] = {"object": "list", "data": self.errors}
            elif row["status"] != "in_progress":
                self._work(row)
        return 200, self._shown(name)

    def _work(self, row: Line) -> None:
        answered = [self._answered(number, line) for number, line in enumerate(row["lines"], 1)]
        if row["status"] != "completed":  # the rest was not reached
            answered = answered[: len(answered) // 2]
        said = self.mangle(answered)
        text = said if isinstance(said, str) else "".join(json.dumps(line) + "\n" for line in said)
        row["output_file_id"] = self.add_file(text)["id"]

    def _answered(self, number: int, line: Line) -> Line:
        body = line["body"]
        odd = self.odd(body, number)
        if odd is not None:
            status, answer = odd[:2]
        elif (said := self.answer(body["messages"])) is None:
            status, answer = 400, {"error": {"message": "too long"}}
        else:
            message = {"role": "assistant", "content": said}
            usage = {"prompt_tokens": 10, "completion_tokens": 2}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            status, answer = 200, {"id": "1", "choices": choices, "usage": usage}
        response = {"status_code": status, "request_id": "r", "body": answer}
        return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}
