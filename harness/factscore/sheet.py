"""FActScore's verifier that reads the passages once a response: all facts in, a line of True or False for each out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import PositiveInt

from factuality_harness.harness.annotators.asking import Request, Sheet, SheetAsker, SheetOptions, Unread
from factuality_harness.harness.annotators.base import Progress
from factuality_harness.harness.annotators.lines import Line
from factuality_harness.harness.annotators.reading import read_truth
from factuality_harness.harness.annotators.watch import tried
from factuality_harness.harness.engines import CachedEngine
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.factscore.verify import PASSAGE_TOKENS, Query, Verdict, shown
from factuality_harness.harness.settings import read_settings

_ECHO = 200  # characters of an answer kept in a verdict
_PASSAGES = (Passage("France", "France is a country in western Europe. Its capital and largest city is Paris."),)
TRIAL = [
    Query("France", "What is the capital of France?", fact, "en", _PASSAGES)
    for fact in ("Paris is the capital of France.", "France is a country in Asia.")
]
"""What a verifier is tried on before a run."""


class FactSheetOptions(SheetOptions):
    """line_tokens is small, since a line holds a number and one word. passage_tokens: of the passages that a response
    is checked against, about (four characters a token, one in Chinese)."""

    line_tokens: PositiveInt = 16
    passage_tokens: PositiveInt = PASSAGE_TOKENS


def _schema(_language: str) -> dict[str, Any]:
    return {"type": "string", "enum": ["True", "False"]}


def _states(text: str) -> bool:
    return read_truth(text) is not None


class SheetVerifier:
    """Asks a model about all facts of a response in one request. A fact whose line is of no use is asked about once
    more, alone; then it is undecided."""

    name = "factscore_sheet"
    whole_responses = True
    reading = "stated"
    OPTIONS = FactSheetOptions

    def __init__(self, engine: CachedEngine, **options: Any) -> None:
        """options: `FactSheetOptions`. Raises HarnessError for one that is wrong."""
        self.options = read_settings(FactSheetOptions, options, "judge_args of factscore_sheet")
        self.engine = engine
        self.passage_tokens = self.options.passage_tokens

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.engine.engine.identity}"

    def asker(self, engine: CachedEngine | None = None) -> SheetAsker[Verdict]:
        """What asks the engine."""
        return SheetAsker(engine or self.engine, self.spec, self.options, _schema, _read, _states, lambda _: "True")

    def check(self) -> None:
        """Raises EngineError when the engine is not there, or its model fills in no sheet of two plain facts."""
        self.engine.engine.check()
        if self.engine.engine.remote:
            failure = self.asker(self.engine.uncached()).trial(sheets_of(TRIAL)[0])
            tried(self.spec, "two plain facts", failure, self.options.stop_after)

    def requests(self, queries: Sequence[Query]) -> list[Request]:
        """What is asked at first about these facts."""
        return self.asker().requests(sheets_of(queries))

    def verify(self, queries: Sequence[Query], progress: Progress | None = None) -> list[Verdict]:
        """Facts of one response that follow each other, with the same passages, are asked about together. Raises
        EngineError, too, when nothing but failures of one kind comes back."""
        found = self.asker().ask(sheets_of(queries), progress)
        return [
            Verdict(None, undecided=True, detail=one.why) if isinstance(one, Unread) else one
            for of_sheet in found
            for one in of_sheet
        ]


def _read(_sheet: Sheet, lines: Sequence[Line]) -> Verdict | Unread:
    said = [text for line in lines for text in line.stated]
    values = {read_truth(text) for text in said}
    if None in values or len(values) != 1:
        return Unread(f"neither true nor false, or both: {' / '.join(said)[:_ECHO]!r}")
    return Verdict(values.pop())


def sheets_of(queries: Sequence[Query]) -> list[Sheet]:
    """The queries by response, in their order."""
    return [
        Sheet(
            "factscore_sheet",
            language,
            {"passages": shown(passages, language), "topic": topic},
            tuple(q.fact for q in part),
        )
        for (_, topic, language, passages), part in groupby(
            queries, lambda q: (q.response, q.topic, q.language, q.passages)
        )
    ]
