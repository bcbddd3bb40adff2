"""A response to score by its facts, and the scored one: sentences, facts, verdicts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.score import FactCounts


@dataclass(frozen=True, slots=True)
class TopicResponse:
    """A response to score. topic: the title of the page its facts are checked against."""

    topic: str
    question: str
    response: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Fact:
    """An atomic fact. supported: None without a usable verdict, `detail` then says why.

    undecided: the judge's answer held neither true nor false. passages: indices of the retrieved passages in
    the topic's page, best first.
    """

    text: str
    supported: bool | None
    undecided: bool = False
    passages: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SentenceFacts:
    """A sentence of the response, its span there, its facts. extracted: False when none could be read."""

    text: str
    start: int
    end: int
    facts: tuple[Fact, ...] = ()
    extracted: bool = True
    detail: str = ""

    def label(self) -> Label:
        """One label for the sentence: `unverifiable` with an unsupported fact, `ok` with all supported.

        `nofact` without facts; `unparsed` when they could not be read, or one has no verdict and none is
        unsupported.
        """
        if not self.extracted:
            return Label.UNPARSED
        if not self.facts:
            return Label.NOFACT
        verdicts = [f.supported for f in self.facts]
        if False in verdicts:
            return Label.UNVERIFIABLE
        return Label.UNPARSED if None in verdicts else Label.OK


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One response, sentence by sentence, fact by fact. judge: the verifier's spec.

    abstained: it declines to answer; its sentences then hold no facts. skipped: the topic has no page;
    nothing was asked. answer_language: the response's own, which split it; "" where it is `language`.
    """

    topic: str
    question: str
    response: str
    language: str
    judge: str
    abstained: bool = False
    skipped: bool = False
    sentences: tuple[SentenceFacts, ...] = ()
    answer_language: str = ""

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of all sentences, in order."""
        return tuple(f for s in self.sentences for f in s.facts)

    def counts(self) -> FactCounts:
        """What `harness.factscore.score` needs of it."""
        verdicts = [f.supported for f in self.facts]
        return FactCounts(
            topic=self.topic,
            responded=not self.abstained,
            supported=verdicts.count(True),
            unsupported=verdicts.count(False),
            unparsed=verdicts.count(None),
            undecided=sum(f.undecided for f in self.facts),
            sentences=len(self.sentences),
            unparsed_sentences=sum(not s.extracted for s in self.sentences),
            skipped=self.skipped,
            other_language=bool(self.answer_language),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ScoredResponse:
        """Inverse of `to_dict`, also after JSON.

        Raises HarnessError on a missing or unknown key, or a span that does not slice to its text.
        """
        try:
            scored = cls(
                **{
                    **data,
                    "sentences": tuple(
                        SentenceFacts(
                            **{
                                **s,
                                "facts": tuple(Fact(**{**f, "passages": tuple(f["passages"])}) for f in s["facts"]),
                            }
                        )
                        for s in data["sentences"]
                    ),
                }
            )
        except (KeyError, TypeError) as error:
            raise HarnessError(f"not a scored response: {type(error).__name__}: {error}") from error
        for s in scored.sentences:
            if scored.response[s.start : s.end] != s.text:
                raise HarnessError(
                    f"not a scored response: characters {s.start}:{s.end} of the response are not {s.text!r}"
                )
        return scored

    def to_annotation(self) -> Annotation:
        """The response as a sentence annotation, with the labels of `SentenceFacts.label`.

        extra: `facts`, one list a sentence with a row for each fact, aligned with the sentences; `abstained`,
        `skipped`.
        """
        return Annotation(
            question=self.question,
            response=self.response,
            language=self.language,
            judge=self.judge,
            topic=self.topic,
            sentences=tuple(Sentence(s.text, s.start, s.end) for s in self.sentences),
            judgements=tuple(Judgement(s.label(), (), s.detail) for s in self.sentences),
            extra={
                "facts": [[{**asdict(f), "passages": list(f.passages)} for f in s.facts] for s in self.sentences],
                "abstained": self.abstained,
                "skipped": self.skipped,
                **({"answer_language": self.answer_language} if self.answer_language else {}),
            },
        )
