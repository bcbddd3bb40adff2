"""What a server answered to a chat request, whatever it was: a reply, or a failure in words. Never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factuality_harness.harness.engines.base import Reply
from factuality_harness.harness.words import whole_characters

_SHOWN = 200  # characters of an odd answer that are shown


@dataclass(frozen=True, slots=True)
class Completion:
    """reply: None where the body is an error that the server wrapped into status 200. status: that error's code."""

    reply: Reply | None
    status: int = 200
    error: str = ""
    usage: Mapping[str, int] | None = None


def read_completion(body: str) -> Completion:
    """A chat completion's body. Content may be a text, a list of parts, or missing."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        kind = "an HTML page" if body.lstrip()[:1] == "<" else "no JSON"
        return _odd(f"the server answered with {kind}: {_short(body)}")
    if not isinstance(data, dict):
        return _odd(f"the server answered with no chat completion: {_short(body)}")
    if error := data.get("error"):
        details = error if isinstance(error, dict) else {"message": error}
        code = details.get("code") or details.get("status")
        words = f"the server reports an error: {_short(json.dumps(error, ensure_ascii=False))}"
        return Completion(None, code if isinstance(code, int) else 500, words)
    choices = data.get("choices")
    if not isinstance(choices, list):
        return _odd(f"the server answered with no chat completion: {_short(body)}")
    choice = choices[0] if choices else None
    if not isinstance(choice, dict):
        return Completion(Reply(None, "the server sent no answer"), usage=_usage(data))
    return Completion(_reply(choice), usage=_usage(data))


def _odd(words: str) -> Completion:
    return Completion(Reply(None, words), error=words)


def _reply(choice: Mapping[str, Any]) -> Reply:
    message = choice.get("message")
    finish = str(choice.get("finish_reason") or "")
    if not isinstance(message, dict):
        return Reply(None, f"the server sent no message (finish_reason {finish or 'missing'})")
    text, thought = _texts(message.get("content"))
    thought = thought or bool(message.get("reasoning_content") or message.get("reasoning"))
    if refusal := message.get("refusal"):
        return Reply(None, f"the model refused: {_short(str(refusal))}")
    if finish == "content_filter":
        return Reply(None, "stopped by the server's content filter")
    cut = finish in ("length", "max_tokens", "MAX_TOKENS")
    if text is None or not text.strip():
        if cut:
            where = "inside its thinking" if thought else "before any text"
            return Reply(None, f"cut {where}: raise the token limit, or ask for less thinking")
        return Reply(None, f"an empty answer (finish_reason {finish or 'missing'})")
    return Reply(whole_characters(text), cut=cut)


def _texts(content: Any) -> tuple[str | None, bool]:
    """The text of a message's content, and whether thinking stood beside it."""
    if content is None or isinstance(content, str):
        return content, False
    if not isinstance(content, list):
        return None, False
    texts, thought = [], False
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif (
            isinstance(part, dict) and part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str)
        ):
            texts.append(part["text"])
        elif isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            thought = True
    return "".join(texts) if texts else None, thought


def _usage(data: Mapping[str, Any]) -> dict[str, int] | None:
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    found = {
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else 0,
    }
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
