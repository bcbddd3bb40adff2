"""The three-turn dialogue of ANAH-v2 with prompts of our own, for any instruct model, English and Chinese.

Turn 1: does the sentence hold a checkable fact? Turn 2: which passages of the reference bear on it? Turn 3: supported,
contradictory or unverifiable? All sentences go through a turn together, so an engine always has a full batch. The
reference document opens the conversation and the instructions for all three steps follow it: everything but the
question and the sentence is a prefix that all sentences about the document share, which an engine with prefix caching
reads once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pydantic import NonNegativeInt, PositiveInt

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress, check_claims
from factuality_harness.harness.annotators.reading import FACT, TYPE, read, read_passages, spoken
from factuality_harness.harness.annotators.watch import FailureWatch, tried
from factuality_harness.harness.engines import CachedEngine, Message, Reply, Sampling, opening
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.settings import Settings, read_settings

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "1_fact": {"en": ("<Facts Present>", "<No Facts>"), "zh": ("<有事实>", "<无事实>")},
    "3_type": {
        "en": ("<No Hallucination>", "<Contradictory>", "<Unverifiable>"),
        "zh": ("<无幻觉>", "<矛盾>", "<无法验证>"),
    },
}
"""The allowed answers of the turns that end in a label."""
_ECHO = 200  # characters of an answer kept in an error
QUOTED = 300  # characters of a document that a typical answer quotes: two or three sentences
TRIAL = Claim(
    question="What is the capital of France?",
    sentence="Paris is the capital of France.",
    document="France is a country in western Europe. Its capital and largest city is Paris.",
    language="en",
)
"""What a judge is tried on before a run."""


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


@dataclass(frozen=True, slots=True)
class Readers:
    """How the answers of the three turns are read; None stands for no usable answer.

    fact: whether checkable facts are present. reference: the quoted passages, () for none. type: the label.
    """

    fact: Callable[[str], bool | None]
    reference: Callable[[str], tuple[str, ...] | None]
    type: Callable[[str], Label | None]


READERS = Readers(
    fact=lambda answer: read(answer, FACT), reference=read_passages, type=lambda answer: read(answer, TYPE)
)


class DialogueOptions(Settings):
    """max_tokens: limit of the quoted passages. label_tokens: limit of the turns that end in a label; a judge that
    thinks needs thousands. guided: constrain the label turns to the allowed answers where the engine can. window:
    sentences that go through a turn together. stop_after: see `FailureWatch`. system: a system message before all."""

    max_tokens: PositiveInt = 256
    label_tokens: PositiveInt = 256
    guided: bool = True
    window: PositiveInt = 4096
    stop_after: NonNegativeInt = 20
    system: str = ""


def typical_answer(turn: str, claim: Claim) -> str:
    """The answer of a turn that leads to the next one, for a dry run: a fact is there, and some text to quote."""
    return CHOICES[turn][claim.language][0] if turn in CHOICES else claim.document.strip()[:QUOTED]


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

    OPTIONS = DialogueOptions
    readers = READERS

    def __init__(self, engine: CachedEngine, prompts: Prompts | None = None, **options: Any) -> None:
        """options: `DialogueOptions`. Raises HarnessError for one that is wrong."""
        self.options = read_settings(self.OPTIONS, options, f"judge_args of {self.name}")
        self.engine = engine
        self.window = engine.wave(self.options.window)
        self._prompts = prompts or OwnPrompts()

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.engine.engine.identity}"

    def check(self) -> None:
        """Raises EngineError when the engine is not there, or its model does not hold a plain dialogue."""
        self.engine.engine.check()
        if self.engine.engine.remote:
            trial = type(self)(self.engine.uncached(), self._prompts, **self.options.model_dump())
            (judgement,) = trial.judge([TRIAL])
            failure = judgement.detail if judgement.label is Label.UNPARSED else ""
            tried(self.spec, "one plain sentence", failure, self.options.stop_after)

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """Judge all claims, turn by turn. Raises HarnessError for a claim without a document or in another language,
        and EngineError when nothing but failures of one kind comes back."""
        check_claims(claims)
        results: dict[int, Judgement] = {}
        watch = FailureWatch(self.spec, self.options.stop_after)

        def settle(index: int, judgement: Judgement) -> None:
            results[index] = judgement
            watch.note(judgement.detail if judgement.label is Label.UNPARSED else "")
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
            i: _Case(claim, [*opening(self.options.system), {"role": "user", "content": self._prompts.fact(claim)}])
            for i, claim in enumerate(claims)
        }
        cases = self._turn(cases, "1_fact", self.readers.fact, after_fact, settle)
        for case in cases.values():
            case.messages.append({"role": "user", "content": self._prompts.reference(case.claim)})
        cases = self._turn(cases, "2_reference", self.readers.reference, after_reference, settle)
        for case in cases.values():
            case.messages.append({"role": "user", "content": self._prompts.type(case.claim, case.answer)})
        self._turn(cases, "3_type", self.readers.type, after_type, settle)
        return [results[i] for i in range(len(claims))]

    def _sampling(self, turn: str, language: str) -> Sampling:
        if turn not in CHOICES:
            return Sampling(max_tokens=self.options.max_tokens)
        choices = CHOICES[turn][language] if self.options.guided else ()
        return Sampling(max_tokens=self.options.label_tokens, choices=choices)

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

        def usable(reply: Reply) -> Any:
            text, _ = spoken(reply)
            return None if text is None or (reply.cut and turn in CHOICES) else parse(text)

        def take(part: list[tuple[int, _Case]], last: bool, position: int, reply: Reply) -> None:
            index, case = part[position]
            text, why = spoken(reply)
            parsed = usable(reply)
            if parsed is not None and text is not None:
                case.answer = text
                if after(index, case, parsed):
                    case.messages.append({"role": "assistant", "content": text})
                    going_on[index] = case
            elif reply.text is None or last or (text is None and reply.text.strip()):
                # A refusal, or thinking that fills the limit: the same words again would bring the same.
                ended = "cut at the token limit: " if reply.cut else ""
                detail = f"turn {turn}: {why or f'{ended}no usable answer: {(text or str())[:_ECHO]!r}'}"
                settle(index, Judgement(Label.UNPARSED, case.evidence, detail))
            else:
                # The same request would bring the same words: say what was wrong with them.
                reminder = prompt(f"dialogue_{case.claim.language}_{turn}_again")
                if text is None:  # no server takes an empty message
                    content = f"{case.messages[-1]['content']}\n\n{reminder}"
                    case.messages[-1] = {"role": "user", "content": content}
                else:
                    case.messages += [{"role": "assistant", "content": text}, {"role": "user", "content": reminder}]
                again[index] = case

        for last in (False, True):
            asked = again if last else cases
            order = list(asked.items())
            again = {}
            # Constrained answers differ by language, so each language is a batch of its own.
            languages = sorted({case.claim.language for _, case in order})
            parts = [[(i, case) for i, case in order if case.claim.language == language] for language in languages]
            samplings = [self._sampling(turn, language) for language in languages]
            self.engine.announce(
                [([case.messages for _, case in part], s) for part, s in zip(parts, samplings, strict=True)]
            )
            for part, sampling in zip(parts, samplings, strict=True):
                self.engine.complete(
                    [case.messages for _, case in part],
                    sampling,
                    partial(take, part, last),
                    keep=lambda _, reply: usable(reply) is not None,
                    typical=lambda i, part=part: typical_answer(turn, part[i][1].claim),  # type: ignore[misc]
                )
        # Replies come in any order; keep the claims' own, so that what is asked next stays grouped by document.
        return {index: going_on[index] for index in sorted(going_on)}
