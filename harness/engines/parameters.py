"""Parameters of a chat request that a server takes: what it refuses is renamed or left out, once, and written down.

Servers differ: GPT-5 and o-series want `max_completion_tokens` and no temperature, Claude takes temperature or top_p,
Mistral knows no `seed`, constrained answers have two forms. The first refusal teaches it; every later request is sent
in the form learned.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

from factuality_harness.harness.engines.base import Sampling
from factuality_harness.harness.thinking import set_thinking_aside

log = logging.getLogger(__name__)

_REFUSAL = re.compile(
    r"unsupported|n[o'’]t (?:\w+ )?support|incompatible|unrecogni[sz]ed|unknown|extra (?:fields|inputs)"
    r"|extra_forbidden|not permitted|not allowed|can ?not both|only one|unexpected|deprecated|not available"
    r"|only the default|additional propert|no longer|not a valid|invalid (?:param|arg|value|type)|instead"
    r"|mutually exclusive",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context (?:length|window|size)|too long|too large|maximum .{0,20}tokens", re.IGNORECASE)
_PLAIN = ("temperature", "top_p", "top_k", "seed")
_DEFAULT = "temperature other than 1"
_LENGTHS = ("max_tokens", "max_completion_tokens")
STRAYS = 5
"""Stray answers in a row that change the form of constraints once it has held an answer."""
_CONSTRAINTS = ("structured_outputs", "response_format", "")  # vLLM and SGLang; OpenAI and llama.cpp; none


class Parameters:
    """The form of a request's parameters, learned from refusals and from constraints without effect. Safe for several
    threads.

    learned: what was changed, in words, for the records.
    """

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        """fixed: fields the user asked for in every request; they are never left out."""
        self._fixed = dict(fixed)
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._strays: dict[str, int] = {}  # of a form that has held an answer: answers since then that it did not hold
        self.learned: list[str] = []

    @property
    def constrained(self) -> bool:
        """Whether the server takes constraints on answers, as far as is known by now."""
        return bool(self._first(_CONSTRAINTS))

    def _first(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if name not in self._refused), names[-1])

    def body(self, sampling: Sampling) -> dict[str, Any]:
        """Fields of a request. What is at its neutral value is not sent: top_p 1, top_k 0, the seed of greedy
        decoding."""
        values: dict[str, Any] = {"temperature": 1 if _DEFAULT in self._refused else sampling.temperature}
        if not any(name in self._fixed for name in _LENGTHS):
            values[self._first(_LENGTHS)] = sampling.max_tokens
        values |= {"top_p": sampling.top_p} if sampling.top_p != 1 else {}
        values |= {"top_k": sampling.top_k} if sampling.top_k else {}
        values |= {"seed": sampling.seed} if sampling.temperature > 0 else {}
        if sampling.choices:
            match self._first(_CONSTRAINTS):
                case "structured_outputs":
                    values["structured_outputs"] = {"choice": list(sampling.choices)}
                case "response_format":
                    values["response_format"] = _response_format("label", _label_schema(sampling.choices))
        elif sampling.schema:
            schema = json.loads(sampling.schema)
            match self._first(_CONSTRAINTS):
                case "structured_outputs":
                    values["structured_outputs"] = {"json": schema}
                case "response_format":
                    values["response_format"] = _response_format("lines", schema)
        return {name: value for name, value in values.items() if name not in self._refused} | self._fixed

    def learn(self, sent: Mapping[str, Any], refusal: str) -> bool:
        """Change the form after a refusal of `sent`; True where asking again makes sense.

        False where the refusal is of something else: the content, or a field that the user asked for.
        """
        if not _REFUSAL.search(refusal):
            return False
        named = {name for name in sent if re.search(rf"\b{name}\b", refusal)} - {*self._fixed}
        if _TOO_LONG.search(refusal) and "instead" not in refusal:
            return False
        with self._lock:
            old = "temperature" in named and sent["temperature"] != 1 and _DEFAULT in self._refused
            if old or named & self._refused:  # this request was on its way when another one taught it
                return True
            if {"temperature", "top_p"} <= named:
                return self._refuse("top_p")
            if "temperature" in named and sent["temperature"] != 1:  # the only value some models take
                return self._refuse(_DEFAULT)
            for name in (*_CONSTRAINTS[:-1], *_LENGTHS, *_PLAIN):
                if name in named:
                    other = set(_LENGTHS) - {name}
                    if name in _LENGTHS and other <= self._refused:
                        return False
                    return self._refuse(name)
        return False

    def ignored(
        self, sent: Mapping[str, Any], sampling: Sampling, answer: str, *, cut: bool = False, row: int = STRAYS
    ) -> bool:
        """Change the form where the constraint sent had no effect on `answer`; True where asking again makes sense.

        Many servers drop a field they do not know without a word (llama.cpp: `structured_outputs`). One stray answer
        shows it as long as the form has held none; afterwards it takes `row` strays one after the other. cut: the
        answer ended at the token limit.
        """
        form = next((name for name in _CONSTRAINTS[:-1] if name in sent and name not in self._fixed), "")
        if not form or not (sampling.choices or sampling.schema):
            return False
        if held(answer, sampling):
            self._strays[form] = 0
            return False
        if cut and _begun(answer, sampling):
            return False
        with self._lock:
            if form in self._strays:
                self._strays[form] += 1
                if self._strays[form] < row:
                    return False
            if form not in self._refused:
                self._refuse(form, "ignores")
        return True

    def _refuse(self, name: str, how: str = "refuses") -> bool:
        self._refused.add(name)
        words = "with temperature 1" if name == _DEFAULT else f"without {name}"
        if name in _LENGTHS:
            words = f"with {self._first(_LENGTHS)} instead of {name}"
        elif name in _CONSTRAINTS:
            words = f"with {self._first(_CONSTRAINTS) or 'unconstrained answers'} instead of {name}"
        self.learned.append(words)
        log.warning("the server %s %s; asking on %s", how, name, words)
        return True


def held(answer: str, sampling: Sampling) -> bool:
    """Whether an answer is one of the choices, or an object with all that the schema requires."""
    text = set_thinking_aside(answer).text.strip()
    if text in sampling.choices:
        return True
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict):
        return False
    return (
        data.get("label") in sampling.choices
        if sampling.choices
        else {*json.loads(sampling.schema)["required"]} <= {*data}
    )


def _begun(answer: str, sampling: Sampling) -> bool:
    """Whether an answer that was cut may be the beginning of one that the constraint allows, or is all thinking."""
    text = set_thinking_aside(answer).text.strip()
    return not text or text.startswith("{") or any(choice.startswith(text) for choice in sampling.choices)


def _label_schema(choices: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(choices)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def _response_format(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
