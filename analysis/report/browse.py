"""The responses of a report's browser, from lm_eval's samples files, packed for the page.

What repeats (questions, documents, evidence) stands once in a table and is referred to by its place. Offsets are in
UTF-16 units, as JavaScript counts.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from factuality_harness.analysis.results import TaskScore, samples_of
from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.samples import judged_rows
from factuality_harness.harness.page.render import MARKS

T = TypeVar("T", bound=Hashable)
LABEL_ORDER = list(Label)


@dataclass(frozen=True, slots=True)
class BrowsedRun:
    """A model whose responses can be read. root: the folder that the scores' files are relative to."""

    name: str
    root: Path
    scores: dict[str, TaskScore]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into the page: the first responses of a question, the first ones of a run on a task."""

    per_question: int = 4
    per_task: int = 500


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class _Table(Generic[T]):
    """Values in order of appearance, each once."""

    places: dict[T, int] = field(default_factory=dict)

    def place(self, value: T) -> int:
        return self.places.setdefault(value, len(self.places))

    @property
    def values(self) -> list[T]:
        return list(self.places)


@dataclass(frozen=True, slots=True)
class Packed:
    """Responses ready for the page. data: base64 of gzipped JSON (see `scripts/responses.js` for its shape). notes:
    what was left out and why, for people."""

    data: str
    responses: int
    notes: tuple[str, ...]


def pack(runs: list[BrowsedRun], limits: Limits) -> Packed:
    """Responses of all judged tasks of `runs`.

    Raises HarnessError for two runs of one name, a run that was made with --predict_only, and a malformed row of a
    samples file (file and row named).
    """
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise HarnessError(f"two runs are called {', '.join(map(repr, twice))}; names tell them apart, so change one")
    packer = _Packer()
    notes: list[str] = []
    for place, run in enumerate(runs):
        for task, score in run.scores.items():
            if "bypass" in score.metrics:
                raise HarnessError(
                    f"{run.root / score.file}: task {task} was run with --predict_only and is not judged; judge its "
                    "answers with --model replay --model_args responses=SAMPLES"
                )
            if not score.judge:
                notes.append(f"{run.name}: {task} is not judged sentence by sentence, so it has no responses here")
                continue
            samples = samples_of(run.root / score.file, task)
            if not samples.is_file():
                notes.append(f"{run.name}: {samples.name} is not there (lm_eval writes it with --log_samples)")
                continue
            shown, of = packer.add(place, task, samples, limits)
            if shown < of:
                notes.append(f"{run.name}: {shown:,} of {of:,} responses to {task}")
    text = json.dumps({"runs": names, **packer.tables()}, separators=(",", ":"))
    data = base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")
    return Packed(data, len(packer.responses), tuple(notes))


class _Packer:
    def __init__(self) -> None:
        self.tasks: _Table[str] = _Table()
        self.topics: _Table[str] = _Table()
        self.languages: _Table[str] = _Table()
        self.judges: _Table[str] = _Table()
        self.documents: _Table[str] = _Table()
        self.questions: _Table[tuple[str, int, int, int]] = _Table()
        self.quotes: _Table[str] = _Table()
        self.findings: _Table[tuple[tuple[int, ...], str]] = _Table({((), ""): 0})
        self.responses: list[list[Any]] = []

    def tables(self) -> dict[str, Any]:
        return {
            "labels": [label.value for label in LABEL_ORDER],
            "marks": [MARKS[label] for label in LABEL_ORDER],
            **{
                name: getattr(self, name).values
                for name in ("tasks", "topics", "languages", "judges", "documents", "questions", "quotes", "findings")
            },
            "responses": self.responses,
        }

    def add(self, run: int, task: str, samples: Path, limits: Limits) -> tuple[int, int]:
        """Take up one samples file; returns how many responses were taken, of how many."""
        before, total = len(self.responses), 0
        for doc_id, document, found, n in _rows(samples, limits.per_question):
            total += n
            room = limits.per_task - (len(self.responses) - before)
            for sample, annotation in enumerate(found[:room]):
                self.responses.append(self.response(run, self.tasks.place(task), doc_id, sample, document, annotation))
        return len(self.responses) - before, total

    def response(self, run: int, task: int, doc_id: int, sample: int, document: str, a: Annotation) -> list[Any]:
        topic, language = self.topics.place(a.topic or a.question), self.languages.place(a.language)
        question = self.questions.place((a.question, topic, language, self.documents.place(document)))
        flat: list[int] = []
        done = 0
        for sentence, judgement in zip(a.sentences, a.judgements, strict=True):
            quotes = tuple(self.quotes.place(quote) for quote in judgement.evidence)
            flat += [
                _units(a.response[done : sentence.start]),
                _units(sentence.text),
                LABEL_ORDER.index(judgement.label),
                self.findings.place((quotes, judgement.detail)),
            ]
            done = sentence.end
        return [run, task, question, doc_id, sample, self.judges.place(a.judge), a.response, flat]


def _rows(samples: Path, most: int) -> Iterator[tuple[int, str, list[Annotation], int]]:
    """(doc_id, reference document, first annotations, number of all) of every row that holds annotations."""
    for doc_id, row in judged_rows(samples):
        document = row.doc.get("document")
        text = document if isinstance(document, str) else ""
        yield doc_id, text, row.annotations(most), len(row.annotated)


def _units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
