"""Is a fact supported by the retrieved passages? By a model asked "True or False?", or by a sentence
annotator.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import NonNegativeInt, PositiveInt

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Annotator, Claim, Progress
from factuality_harness.harness.annotators.reading import read_truth, spoken
from factuality_harness.harness.annotators.watch import FailureWatch, tried
from factuality_harness.harness.engines import CachedEngine, Message, Reply, Sampling, opening
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.settings import Settings, read_settings

PASSAGE_TOKENS = 4096  # of the passages that all facts of a response are checked against, by default
_ECHO = 200  # characters of an answer kept in a verdict
_DENIAL = {"not", "cannot", "unknown", "information"}
_DENIAL_ZH = ("不", "没有", "未", "无法", "信息")
# Chinese answers in place of the two words asked for; the negative forms contain the positive one and go
# first.
_CHINESE_WORDS = ((re.compile("不正确|不是真的|错误"), "false"), (re.compile("正确"), "true"))
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Query:
    """A fact to verify. passages: best first, or in the page's order where several facts share them. response: tells
    responses apart whose facts are handed over together."""

    topic: str
    question: str
    fact: str
    language: str
    passages: tuple[Passage, ...]
    response: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """supported: None when there is no usable answer; `detail` then says why.

    undecided: the answer held neither true nor false. checkable: False when an annotator sees no fact in the
    text.
    """

    supported: bool | None
    undecided: bool = False
    checkable: bool = True
    detail: str = ""


class Verifier(Protocol):
    """Facts in, verdicts out. whole_responses: whether it wants the facts of a response together, all with the same
    passages, of about `passage_tokens` tokens. reading: how its answers are read, for the record."""

    whole_responses: bool
    passage_tokens: int
    reading: str

    @property
    def spec(self) -> str:
        """The string that names it in results."""

    def check(self) -> None:
        """Raise HarnessError now if it cannot work, before any generation is spent."""

    def verify(self, queries: Sequence[Query], progress: Progress | None = None) -> list[Verdict]:
        """One verdict a query, in order. Raises EngineError when its engine fails as a whole."""


def shown(passages: Iterable[Passage], language: str) -> str:
    """Passages as a prompt shows them."""
    form = prompt(f"factscore_{language}_passage")
    return "\n\n".join(form.format(title=p.title, text=p.text) for p in passages)


def reference_verdict(answer: str, language: str = "en") -> Verdict:
    """Read an answer as FActScore's code does where it has no logits; for comparison with published numbers only.

    One of true/false decides; of both, the one that comes last; with neither, an empty answer too, the fact counts as
    SUPPORTED, unless the answer has a word of {not, cannot, unknown, information}, and the verdict is marked undecided.
    For `zh`, 正确 and 错误 are read as true and false, and the words of denial are 不, 没有, 未, 无法, 信息.
    """
    text = answer.lower()
    if language == "zh":
        for word, meaning in _CHINESE_WORDS:
            text = word.sub(meaning, text)
    true, false = text.rfind("true"), text.rfind("false")
    if true != false:  # -1 is "absent", so they are equal only when both are
        return Verdict(true > false)
    denied = not _DENIAL.isdisjoint(text.translate(_PUNCTUATION).split())
    denied = denied or (language == "zh" and any(word in text for word in _DENIAL_ZH))
    return Verdict(not denied, undecided=True, detail=f"neither true nor false: {answer[:_ECHO]!r}")


def read_verdict(reply: Reply) -> Verdict:
    """What a verifier states; undecided, without a verdict, where it states nothing or both (`read_truth`)."""
    text, why = spoken(reply)
    if text is None:
        return Verdict(None, undecided=True, detail=why)
    if reply.cut:
        return Verdict(None, undecided=True, detail=f"cut at the token limit: {text[:_ECHO]!r}")
    supported = read_truth(text)
    if supported is None:
        return Verdict(None, undecided=True, detail=f"neither true nor false: {text[:_ECHO]!r}")
    return Verdict(supported)


class VerifierOptions(Settings):
    """max_tokens: limit of an answer; a judge that thinks needs thousands. guided: constrain answers to True and False
    where the engine can. system: a system message before the question. reading: `stated`, or `reference` for
    FActScore's own (see `reference_verdict`). stop_after: see `FailureWatch`."""

    max_tokens: PositiveInt = 256
    guided: bool = True
    system: str = ""
    reading: Literal["stated", "reference"] = "stated"
    stop_after: NonNegativeInt = 20


TRIAL = Query(
    topic="France",
    question="What is the capital of France?",
    fact="Paris is the capital of France.",
    language="en",
    passages=(Passage("France", "France is a country in western Europe. Its capital and largest city is Paris."),),
)
"""What a verifier is tried on before a run."""


class ModelVerifier:
    """Asks a model about every fact, decoding greedily.

    The passages open the prompt, so facts with the same passages share it as their prefix; as in FActScore
    they stand in reverse, the best one last and next to the fact.
    """

    whole_responses = False
    passage_tokens = 0

    def __init__(self, engine: CachedEngine, **options: Any) -> None:
        """options: `VerifierOptions`. Raises HarnessError for one that is wrong."""
        self.options = read_settings(VerifierOptions, options, "judge_args of factscore")
        self.engine = engine
        self.reading: str = self.options.reading
        choices = ("True", "False") if self.options.guided and self.options.reading == "stated" else ()
        self.sampling = Sampling(max_tokens=self.options.max_tokens, choices=choices)

    @property
    def spec(self) -> str:
        return f"factscore@{self.engine.engine.identity}"

    def check(self) -> None:
        """Raises EngineError when the engine is not there, or its model gives no verdict on a plain fact."""
        self.engine.engine.check()
        if self.engine.engine.remote and self.options.reading == "stated":
            (verdict,) = ModelVerifier(self.engine.uncached(), **self.options.model_dump()).verify([TRIAL])
            failure = verdict.detail if verdict.supported is None else ""
            tried(self.spec, "one plain fact", failure, self.options.stop_after)

    def conversation(self, query: Query) -> list[Message]:
        """What the model is asked about one fact."""
        passages = shown(reversed(query.passages), query.language)
        form = prompt(f"factscore_{query.language}_verify")
        text = form.format(passages=passages, topic=query.topic, fact=query.fact)
        return [*opening(self.options.system), {"role": "user", "content": text}]

    def verify(self, queries: Sequence[Query], progress: Progress | None = None) -> list[Verdict]:
        """Raises EngineError, too, when nothing but failures of one kind comes back."""
        watch = FailureWatch(self.spec, self.options.stop_after)

        def take(index: int, reply: Reply) -> None:
            verdict = self._read(queries[index], reply)
            watch.note(verdict.detail if verdict.supported is None else "")
            if progress is not None:
                progress(1)

        def keep(index: int, reply: Reply) -> bool:
            return self._read(queries[index], reply).supported is not None

        conversations = [self.conversation(q) for q in queries]
        replies = self.engine.complete(conversations, self.sampling, take, keep, lambda _: "True")
        return [self._read(q, reply) for q, reply in zip(queries, replies, strict=True)]

    def _read(self, query: Query, reply: Reply) -> Verdict:
        if self.options.reading == "reference":
            failed = Verdict(None, detail=reply.error)
            return failed if reply.text is None else reference_verdict(reply.text, query.language)
        return read_verdict(reply)


class AnnotatorVerifier:
    """Any sentence annotator as verifier: the fact is the sentence, the retrieved passages are the document.

    Supported if and only if the label is `ok`; `unparsed` gives no verdict, `nofact` one marked as not
    checkable.
    """

    reading = "labels"

    def __init__(self, annotator: Annotator) -> None:
        self.annotator = annotator
        self.spec = annotator.spec
        self.whole_responses: bool = getattr(annotator, "whole_responses", False)
        self.passage_tokens = PASSAGE_TOKENS

    def check(self) -> None:
        self.annotator.check()

    def verify(self, queries: Sequence[Query], progress: Progress | None = None) -> list[Verdict]:
        claims = [
            Claim(q.question, q.fact, "\n\n".join(p.text for p in q.passages), q.language, q.response) for q in queries
        ]
        verdicts = []
        for start in range(0, len(claims), self.annotator.window):
            part = claims[start : start + self.annotator.window]
            for judgement in self.annotator.judge(part, progress):
                label = judgement.label
                supported = None if label is Label.UNPARSED else label is Label.OK
                verdicts.append(Verdict(supported, checkable=label is not Label.NOFACT, detail=judgement.detail))
        return verdicts
