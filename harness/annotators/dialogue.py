"""The three-turn dialogue of ANAH-v2 with prompts of our own, for any instruct model, English and Chinese.

Turn 1: does the sentence hold a checkable fact? Turn 2: which passages of the reference bear on it? Turn 3: supported,
contradictory or unverifiable? All sentences go through a turn together, so an engine always has a full batch. The
reference document opens the conversation and the instructions for all three steps follow it: everything but the
question and the sentence is a prefix that all sentences about the document share, which an engine with prefix caching
reads once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress
from factuality_harness.harness.engines import CachedEngine, Message, Reply, Sampling
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.prompts import prompt

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "1_fact": {"en": ("<Facts Present>", "<No Facts>"), "zh": ("<有事实>", "<无事实>")},
    "3_type": {
        "en": ("<No Hallucination>", "<Contradictory>", "<Unverifiable>"),
        "zh": ("<无幻觉>", "<矛盾>", "<无法验证>"),
    },
}
"""The allowed answers of the turns that end in a label."""
_ECHO = 200  # characters of an answer kept in an error


class Prompts(Protocol):
    """The user messages of the three turns."""

    def fact(self, claim: Claim) -> str: ...
    def reference(self, claim: Claim) -> str: ...
    def type(self, claim: Claim, reference: str) -> str: ...


class OwnPrompts:
    """The prompts of `harness/prompts/dialogue_*`: document and instructions first, question and sentence last."""

    def fact(self, claim: Claim) -> str:
        return prompt(f"dialogue_{claim.language}_1_fact").format(
            document=claim.document, question=claim.question, sentence=claim.sentence
        )

    def reference(self, claim: Claim) -> str:
        return prompt(f"dialogue_{claim.language}_2_reference")

    def type(self, claim: Claim, reference: str) -> str:
        return prompt(f"dialogue_{claim.language}_3_type").format(sentence=claim.sentence)


def squeeze(answer: str) -> str:
    """Lower case without white space: how ANAH-v2 compares answers."""
    return re.sub(r"\s+", "", answer).lower()


def parse_fact(answer: str) -> bool | None:
    """True: checkable facts present; False: none; None: no usable answer. A mixed answer is not usable."""
    text = squeeze(answer)
    none = "nofact" in text or "无事实" in text
    some = "factspresent" in text or "factpresent" in text or "有事实" in text
    return None if none == some else some


def parse_reference(answer: str) -> tuple[str, ...] | None:
    """The quoted passages; () when the reference says nothing on the sentence; None: no usable answer."""
    text = squeeze(answer)
    if "noreferenceinformation" in text or "无参考信息" in text:
        return ()
    passages = tuple(p for part in re.split(r"<SEP>", answer, flags=re.IGNORECASE) if (p := part.strip()))
    return passages or None


def parse_type(answer: str) -> Label | None:
    """ok, contradictory or unverifiable in the order ANAH-v2 tests for them; None: no usable answer."""
    text = squeeze(answer)
    if "nohallucination" in text or "无幻觉" in text:
        return Label.OK
    if "contradict" in text or "矛盾" in text:
        return Label.CONTRADICTORY
    if "unverifiable" in text or "无法验证" in text:
        return Label.UNVERIFIABLE
    return None


@dataclass(slots=True)
class _Case:
    """One claim on its way through the turns."""

    claim: Claim
    messages: list[Message]
    answer: str = ""
    evidence: tuple[str, ...] = ()


class DialogueAnnotator:
    """Judge by dialogue. An answer that does not parse is asked for once more, with a reminder of the allowed answers;
    if that does not parse either, or the engine refuses the request, the sentence becomes `unparsed` with the reason.
    """

    name = "dialogue"

    def __init__(
        self,
        engine: CachedEngine,
        *,
        max_tokens: int = 256,
        guided: bool = False,
        window: int = 4096,
        prompts: Prompts | None = None,
    ) -> None:
        """max_tokens: limit of the quoted passages (the labels need a dozen). window: sentences a batch of turns.

        guided: constrain turns 1 and 3 to the allowed answers (vLLM, its server, and transformers can), so that a small
        judge always parses; a model that knows the protocol does not need it.
        """
        self.engine = engine
        self.window = window
        self.guided = guided
        self._passages = Sampling(max_tokens=max_tokens)
        self._prompts = prompts or OwnPrompts()

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.engine.engine.identity}"

    def check(self) -> None:
        self.engine.engine.check()

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """Judge all claims, turn by turn. Raises HarnessError for a claim without a document or in another language."""
        for claim in claims:
            if claim.language not in ("en", "zh"):
                raise HarnessError(f"language {claim.language!r} of question {claim.question!r}: not en or zh")
            if not claim.document.strip():
                raise HarnessError(f"question {claim.question!r} has no reference document to judge against")
        results: dict[int, Judgement] = {}

        def settle(index: int, judgement: Judgement) -> None:
            results[index] = judgement
            if progress is not None:
                progress(1)

        def after_fact(index: int, case: _Case, has_fact: bool) -> bool:
            if not has_fact:
                settle(index, Judgement(Label.NOFACT))
            return has_fact

        def after_reference(index: int, case: _Case, passages: tuple[str, ...]) -> bool:
            case.evidence = passages
            if not passages:
                settle(index, Judgement(Label.UNVERIFIABLE))
            return bool(passages)

        def after_type(index: int, case: _Case, label: Label) -> bool:
            settle(index, Judgement(label, case.evidence))
            return False

        cases = {
            i: _Case(claim, [{"role": "user", "content": self._prompts.fact(claim)}]) for i, claim in enumerate(claims)
        }
        cases = self._turn(cases, "1_fact", parse_fact, after_fact, settle)
        for case in cases.values():
            case.messages.append({"role": "user", "content": self._prompts.reference(case.claim)})
        cases = self._turn(cases, "2_reference", parse_reference, after_reference, settle)
        for case in cases.values():
            case.messages.append({"role": "user", "content": self._prompts.type(case.claim, case.answer)})
        self._turn(cases, "3_type", parse_type, after_type, settle)
        return [results[i] for i in range(len(claims))]

    def _sampling(self, turn: str, language: str) -> Sampling:
        if turn not in CHOICES:
            return self._passages
        return Sampling(max_tokens=24, choices=CHOICES[turn][language] if self.guided else ())

    def _turn(
        self,
        cases: dict[int, _Case],
        turn: str,
        parse: Callable[[str], Any],
        after: Callable[[int, _Case, Any], bool],
        settle: Callable[[int, Judgement], None],
    ) -> dict[int, _Case]:
        """Ask one turn of all cases; return those that go on to the next one, with the answer in their messages."""
        going_on: dict[int, _Case] = {}
        again: dict[int, _Case] = {}

        def take(part: list[tuple[int, _Case]], last: bool, position: int, reply: Reply) -> None:
            index, case = part[position]
            if reply.text is None:
                settle(index, Judgement(Label.UNPARSED, case.evidence, f"turn {turn}: {reply.error}"))
                return
            parsed = parse(reply.text)
            if parsed is not None:
                case.answer = reply.text
                if after(index, case, parsed):
                    case.messages.append({"role": "assistant", "content": reply.text})
                    going_on[index] = case
            elif last:
                detail = f"turn {turn}: no usable answer: {reply.text[:_ECHO]!r}"
                settle(index, Judgement(Label.UNPARSED, case.evidence, detail))
            else:
                # The same request would bring the same words: say what was wrong with them.
                reminder = prompt(f"dialogue_{case.claim.language}_{turn}_again")
                case.messages += [
                    {"role": "assistant", "content": reply.text},
                    {"role": "user", "content": reminder},
                ]
                again[index] = case

        for last in (False, True):
            asked = again if last else cases
            order = list(asked.items())
            again = {}
            # Constrained answers differ by language, so each language is a batch of its own.
            for language in sorted({case.claim.language for _, case in order}):
                part = [(index, case) for index, case in order if case.claim.language == language]
                messages = [case.messages for _, case in part]
                self.engine.complete(messages, self._sampling(turn, language), partial(take, part, last))
        # Replies come in any order; keep the claims' own, so that what is asked next stays grouped by document.
        return {index: going_on[index] for index in sorted(going_on)}
