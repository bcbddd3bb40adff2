"""The lines of batch files: OpenAI's format, which vLLM's `run-batch` reads and writes too."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factuality_harness.harness.engines.base import Conversation
from factuality_harness.harness.engines.completion import Completion, read_completion

log = logging.getLogger(__name__)

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
TRANSIENT = (408, 409, 425, 429)
"""Statuses, beside those from 500, with which a request may be asked again."""


def request_line(key: str, model: str, conversation: Conversation, parameters: Mapping[str, Any]) -> bytes:
    """One request, named by its key."""
    row = {
        "custom_id": key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": list(conversation), **parameters},
    }
    return json.dumps(row).encode() + b"\n"


def files(sizes: Mapping[str, int], most: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES) -> Iterator[list[str]]:
    """Keys in their order, cut into files of at most `most` requests and `most_bytes` bytes. sizes: bytes of each
    request; one that is too large goes alone, for the server to refuse."""
    part: list[str] = []
    held = 0
    for key, size in sizes.items():
        if part and (len(part) == most or held + size > most_bytes):
            yield part
            part, held = [], 0
        part.append(key)
        held += size
    if part:
        yield part


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request. completion.reply: None where it failed. words: what the server said of it."""

    completion: Completion
    words: str = ""

    @property
    def transient(self) -> bool:
        """Whether asking again may bring an answer."""
        return self.completion.reply is None and (self.completion.status >= 500 or self.completion.status in TRANSIENT)


MISSING = Answer(Completion(None, 503, "no line came back for this request"), "no line came back for this request")


def read_answers(texts: Sequence[str], keys: Collection[str]) -> dict[str, Answer]:
    """The answers in output and error files, in any order, by key; what came back for no or another request, twice, or
    torn, is passed over with a warning. Of several answers to a request the first good one counts."""
    known = keys if isinstance(keys, set | dict) else set(keys)
    found: dict[str, Answer] = {}
    odd: Counter[str] = Counter()
    for line in _lines(texts):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            odd["no JSON"] += 1
            continue
        key = row.get("custom_id") if isinstance(row, dict) else None
        if not isinstance(key, str) or key not in known:
            odd["of no request of this batch"] += 1
            continue
        answer = _answer(row)
        if key in found:
            odd["a second answer"] += 1
            if found[key].completion.reply is not None or answer.completion.reply is None:
                continue
        found[key] = answer
    if odd:
        log.warning("answers of a batch: passed over %s", ", ".join(f"{n} lines ({what})" for what, n in odd.items()))
    return found


def _lines(texts: Iterable[str]) -> Iterator[str]:
    # Not splitlines: JSON may hold U+2028 and its like unescaped.
    return (line for text in texts for line in text.split("\n") if line.strip())


def _answer(row: Mapping[str, Any]) -> Answer:
    response, error = row.get("response"), row.get("error")
    if isinstance(response, dict):
        body = response.get("body")
        text = body if isinstance(body, str) else json.dumps(body)
        status = response.get("status_code")
        if status == 200:
            completion = read_completion(text)
            return Answer(completion, completion.error)
        return Answer(Completion(None, status if isinstance(status, int) else 500), f"{status}: {_message(body, text)}")
    expired = isinstance(error, dict) and error.get("code") in ("batch_expired", "batch_cancelled")
    words = _message({"error": error}, json.dumps(error)) if error else "a line without an answer"
    # An error in place of a response is the batch's own: the request was not refused.
    return Answer(Completion(None, 503), "the batch ended before it was asked" if expired else words)


def _message(body: Any, otherwise: str) -> str:
    """The words of an error, in the forms that servers give them."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        return " ".join(str(error[name]) for name in ("code", "message", "param") if error.get(name)) or otherwise
    return str(error) if error else otherwise
