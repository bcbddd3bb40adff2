"""A judge that reads the document once a response: document and numbered sentences in, a line for each sentence out.

A line holds the sentence's number, its label and passages quoted from the document. Where the engine can, the answer is
held to a JSON schema with a place for every sentence. A sentence whose line is missing or of no use is asked about once
more, alone. Labels need not be those of the three turns; a judge card tells how far they agree with humans.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import PositiveInt

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.asking import Sheet, SheetAsker, SheetOptions, Unread
from factuality_harness.harness.annotators.base import Claim, Progress, check_claims
from factuality_harness.harness.annotators.lines import Line, quoted_from
from factuality_harness.harness.annotators.reading import LINE, mentions, read
from factuality_harness.harness.annotators.watch import tried
from factuality_harness.harness.engines import CachedEngine
from factuality_harness.harness.settings import read_settings

LABELS: dict[str, tuple[str, ...]] = {
    "en": ("<No Facts>", "<No Hallucination>", "<Contradictory>", "<Unverifiable>"),
    "zh": ("<无事实>", "<无幻觉>", "<矛盾>", "<无法验证>"),
}
_FOUNDED = (Label.OK, Label.CONTRADICTORY)
_ECHO = 200  # characters of an answer kept in an error
_PASSAGE = 120  # characters of a passage that a typical line quotes: a sentence
_DOCUMENT = "France is a country in western Europe. Its capital and largest city is Paris."
TRIAL = [
    Claim("What is the capital of France?", sentence, _DOCUMENT, "en")
    for sentence in ("Paris is the capital of France.", "France is a country in Asia.")
]
"""What a judge is tried on before a run."""


class SheetJudgeOptions(SheetOptions):
    """window: sentences handed over together. quotes: a line that calls a sentence right or contradicted is taken only
    with a passage that stands in the document; false takes the label alone."""

    window: PositiveInt = 4096
    quotes: bool = True


def _typical(sheet: Sheet) -> tuple[str, str]:
    return LABELS[sheet.language][1], sheet.fields["document"].strip().split("\n")[0][:_PASSAGE]


def _schema(language: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": list(LABELS[language])},
            "evidence": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["label", "evidence"],
        "additionalProperties": False,
    }


class SheetAnnotator:
    """Judge by sheet. What has no usable line after being asked about alone becomes `unparsed`, with the reason."""

    name = "sheet"
    whole_responses = True
    OPTIONS = SheetJudgeOptions

    def __init__(self, engine: CachedEngine, **options: Any) -> None:
        """options: `SheetJudgeOptions`. Raises HarnessError for one that is wrong."""
        self.options = read_settings(SheetJudgeOptions, options, "judge_args of sheet")
        self.engine = engine
        self.window = engine.wave(self.options.window)

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.engine.engine.identity}"

    def _asker(self, engine: CachedEngine) -> SheetAsker[Judgement]:
        return SheetAsker(
            engine, self.spec, self.options, _schema, self._read, lambda text: mentions(text, LINE), _typical
        )

    def check(self) -> None:
        """Raises EngineError when the engine is not there, or its model fills in no sheet of two plain sentences."""
        self.engine.engine.check()
        if self.engine.engine.remote:
            failure = self._asker(self.engine.uncached()).trial(_sheets(TRIAL)[0])
            tried(self.spec, "two plain sentences", failure, self.options.stop_after)

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """Judge all claims; those of one response that follow each other are asked about together.

        Raises HarnessError for a claim without a document or in another language, and EngineError when nothing but
        failures of one kind comes back.
        """
        check_claims(claims)
        found = self._asker(self.engine).ask(_sheets(claims), progress)
        judged = [one for of_sheet in found for one in of_sheet]
        return [Judgement(Label.UNPARSED, (), j.why) if isinstance(j, Unread) else j for j in judged]

    def _read(self, sheet: Sheet, lines: Sequence[Line]) -> Judgement | Unread:
        stated = {read(text, LINE) for line in lines for text in line.stated if mentions(text, LINE)}
        if None in stated or len(stated) != 1:
            said = " / ".join(text for line in lines for text in line.stated)[:_ECHO]
            return Unread(f"no label, or more than one, for the sentence: {said!r}")
        label = stated.pop()
        document = sheet.fields["document"]
        evidence = tuple(dict.fromkeys(passage for line in lines for passage in quoted_from(document, line)))
        if label in _FOUNDED and not evidence and self.options.quotes:
            said = " / ".join(passage for line in lines for passage in line.passages)[:_ECHO]
            return Unread(
                f"{label.value} without a passage that stands in the document (the judge's option quotes, false, takes "
                f"the label alone): {said!r}"
            )
        return Judgement(label, () if label is Label.NOFACT else evidence)


def _sheets(claims: Sequence[Claim]) -> list[Sheet]:
    """The claims by response, in their order."""
    return [
        Sheet("sheet", language, {"document": document, "question": question}, tuple(c.sentence for c in part))
        for (_, question, document, language), part in groupby(
            claims, lambda c: (c.response, c.question, c.document, c.language)
        )
    ]
