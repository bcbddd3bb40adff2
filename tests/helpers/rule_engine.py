"""A small real engine for these tests: it answers by rules, in batches and out of order, as engines may.

Extraction: the last sentence is cut at "and" and commas, one fact a piece. Verification: True when every
capitalised word and number of the statement stands in the passages. Words in capitals ask for trouble: see
`RuleEngine`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from factuality_harness.harness.engines import Conversation, Reply, Sampling
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.errors import EngineError

_SENTENCE = re.compile(r"(?:Sentence: |句子：)(.*)\Z", re.DOTALL)
_STATEMENT = re.compile(r"(?:Statement: |陈述：)([^\n]*)\n(?:True or False|True 还是 False)")


class RuleEngine:
    """MUMBLE: no fact lines, ever. STUTTER: none at the first try. TOOLONG: refused. VAGUE, UNSURE: neither
    true nor false. fail_after: the engine breaks down after that many answers.
    """

    settings: ClassVar[dict[str, Any]] = {}
    remote = False

    def __init__(self, fail_after: int | None = None) -> None:
        self.identity = "rule#1"
        self.fail_after = fail_after
        self.asked: list[str] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        order = list(range(len(conversations)))[::-1]
        for start in range(0, len(order), 3):
            batch: Batch = []
            for i in order[start : start + 3]:
                if self.fail_after is not None and len(self.asked) >= self.fail_after:
                    if batch:
                        yield batch
                    raise EngineError("the engine broke down")
                self.asked.append(conversations[i][-1]["content"])
                batch.append((i, self.answer(conversations[i])))
            yield batch

    def answer(self, conversation: Conversation) -> Reply:
        text = conversation[-1]["content"]
        if "TOOLONG" in text:
            return Reply(None, "prompt too long")
        if match := _STATEMENT.search(text):
            return Reply(self.verdict(match[1], text[: match.start()]))
        if match := _SENTENCE.search(text):
            return Reply(self.facts(match[1], reminded=False))
        return Reply(self.facts(_SENTENCE.search(conversation[-3]["content"])[1], reminded=True))

    @staticmethod
    def facts(sentence: str, reminded: bool) -> str:
        if "MUMBLE" in sentence or ("STUTTER" in sentence and not reminded):
            return "Let me think about that."
        if "hope" in sentence or "希望" in sentence:
            return "No facts"
        pieces = [p.strip(" .。") for p in re.split(r",|，|\band\b", sentence)]
        return "Here they are:\n" + "\n".join(f"- {p}." for p in pieces if p)

    @staticmethod
    def verdict(statement: str, passages: str) -> str:
        if "VAGUE" in statement:
            return "It is so."
        if "UNSURE" in statement:
            return "I do not know."
        words = re.findall(r"[A-Z]\w+|\d+|[一-鿿]{2,}", statement)
        return "True" if all(w in passages for w in words) else "False."
