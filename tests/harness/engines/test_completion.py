"""Bodies that servers send with status 200: a reply or a failure in words, never a traceback."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.engines.completion import read_completion


def body(finish: str = "stop", **message: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, "message": message}]})


@pytest.mark.parametrize(
    ("text", "answer", "cut"),
    [
        (body(content="yes"), "yes", False),
        (body("length", content="ye"), "ye", True),
        (body("MAX_TOKENS", content="ye"), "ye", True),
        (body(content=["a", {"type": "text", "text": "b"}]), "ab", False),
        (body(content=[{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "b"}]), "b", False),
        (body(content="half \ud83d, whole 😀"), "half �, whole 😀", False),
    ],
)
def test_answers(text: str, answer: str, cut: bool) -> None:
    reply = read_completion(text).reply
    assert reply is not None and (reply.text, reply.cut, reply.error) == (answer, cut, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (body(content=None), "an empty answer"),
        (body(content=" \n"), "an empty answer"),
        (body(content=7), "an empty answer"),
        (
            body("length", content=None, reasoning_content="Let me think"),
            "cut inside its thinking: raise the token limit",
        ),
        (body("length", content=""), "cut before any text"),
        (body(content=None, refusal="I cannot help."), "the model refused: I cannot help."),
        (body("content_filter", content=None), "stopped by the server's content filter"),
        (body("content_filter", content="half a sen"), "stopped by the server's content filter"),
        (json.dumps({"choices": []}), "the server sent no answer"),
        (json.dumps({"choices": [{"finish_reason": "length"}]}), "the server sent no message (finish_reason length)"),
    ],
)
def test_answers_that_are_none(text: str, words: str) -> None:
    reply = read_completion(text).reply
    assert reply is not None and reply.text is None and reply.error.startswith(words)


@pytest.mark.parametrize(
    "text",
    ["<!doctype html><html></html>", '{"id": "1", "choices": [{"mess', "", "[]", '"x"', '{"object": "list"}', "null"],
)
def test_bodies_of_another_protocol(text: str) -> None:
    found = read_completion(text)
    assert found.error and found.reply is not None and found.reply.text is None


@pytest.mark.parametrize(
    ("error", "status"),
    [({"message": "Provider returned error", "code": 429}, 429), ({"message": "x"}, 500), ("overloaded", 500)],
)
def test_an_error_with_status_200_keeps_its_code(error: Any, status: int) -> None:
    found = read_completion(json.dumps({"error": error}))
    assert (found.reply, found.status) == (None, status)
    assert "reports an error" in found.error


def test_usage_is_read() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
    text = json.dumps({"choices": [{"message": {"content": "a"}}], "usage": usage})
    assert read_completion(text).usage == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 5}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "text", "type", "usage", "refusal"]),
            x,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_a_reply_or_a_failure(data: Any) -> None:
    found = read_completion(json.dumps(data))
    assert found.reply is not None or found.error
