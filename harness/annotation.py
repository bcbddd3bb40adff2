"""What the harness produces: sentences with exact spans, a judgement for each, and JSON both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.markup import plain


class Label(StrEnum):
    """Verdict on one sentence (the types of ANAH-v2, plus `unparsed`).

    `ok` supported by the reference; `contradictory` and `unverifiable` are hallucinations;
    `nofact` holds nothing checkable; `unparsed` means that the judge gave no usable answer, which is no verdict.
    """

    OK = "ok"
    CONTRADICTORY = "contradictory"
    UNVERIFIABLE = "unverifiable"
    NOFACT = "nofact"
    UNPARSED = "unparsed"


WRONG = frozenset({Label.CONTRADICTORY, Label.UNVERIFIABLE})
CHECKABLE = WRONG | {Label.OK}
"""Labels of the sentences that were judged right or wrong."""
COUNTING = {"chosen": frozenset({Label.OK, Label.NOFACT}), "rejected": WRONG}
"""Labels of the sentences that Mask-DPO trains on, by the side of a preference pair."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A piece of a text: `text == original[start:end]`, offsets in characters, half-open."""

    text: str
    start: int
    end: int

    @property
    def plain(self) -> str:
        """What a judge reads: the text without the marks of its layout (markdown), which state nothing."""
        return plain(self.text)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict on one sentence.

    evidence: passages of the reference the judge quoted. detail: why a label is `unparsed`, or what an annotator
    without a model looked at; empty otherwise.
    """

    label: Label
    evidence: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One response, sentence by sentence. `sentences` and `judgements` have the same length.

    judge: the spec of the annotator that gave the labels, kept beside them wherever they go.
    """

    question: str
    response: str
    language: str
    judge: str
    topic: str = ""
    sentences: tuple[Sentence, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.sentences) != len(self.judgements):
            raise ValueError(f"{len(self.sentences)} sentences but {len(self.judgements)} judgements")

    def count(self, *labels: Label) -> int:
        """Number of sentences with one of `labels`."""
        return sum(j.label in labels for j in self.judgements)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the annotation's fields, with one flat row a sentence."""
        data: dict[str, Any] = {
            "question": self.question,
            "response": self.response,
            "language": self.language,
            "topic": self.topic,
            "judge": self.judge,
            "sentences": [
                {**asdict(s), "label": j.label.value, "evidence": list(j.evidence), "detail": j.detail}
                for s, j in zip(self.sentences, self.judgements, strict=True)
            ],
        }
        if self.extra:
            data["extra"] = self.extra
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Annotation:
        """Inverse of `to_dict`.

        Raises HarnessError on a missing key, an unknown label, or a span that does not slice to its text.
        """
        try:
            rows = data["sentences"]
            sentences = tuple(Sentence(r["text"], r["start"], r["end"]) for r in rows)
            judgements = tuple(
                Judgement(Label(r["label"]), tuple(r.get("evidence", ())), r.get("detail", "")) for r in rows
            )
            annotation = cls(
                question=data["question"],
                response=data["response"],
                language=data["language"],
                judge=data["judge"],
                topic=data.get("topic", ""),
                sentences=sentences,
                judgements=judgements,
                extra=data.get("extra", {}),
            )
            wrong = next((s for s in sentences if annotation.response[s.start : s.end] != s.text), None)
        except (KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"not an annotation: {type(error).__name__}: {error}") from error
        if wrong is not None:
            raise HarnessError(
                f"not an annotation: characters {wrong.start}:{wrong.end} of the response are not {wrong.text!r}"
            )
        return annotation


def dump_annotations(annotations: Iterable[Annotation]) -> str:
    """JSON text for a samples file: one object for a single annotation, a list for several."""
    rows = [a.to_dict() for a in annotations]
    return json.dumps(rows[0] if len(rows) == 1 else rows, ensure_ascii=False)


def load_annotations(text: str) -> list[Annotation]:
    """Inverse of `dump_annotations`. Raises HarnessError when `text` is not such JSON."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise HarnessError(f"not annotation JSON: {error}") from error
    return [Annotation.from_dict(row) for row in (data if isinstance(data, list) else [data])]
