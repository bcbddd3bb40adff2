"""FActScore's verifier as an annotator: is a fact supported by its document?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress
from factuality_harness.harness.data.biographies import entity_of
from factuality_harness.harness.engines import CachedEngine
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.factscore.sheet import FactSheetOptions, SheetVerifier
from factuality_harness.harness.factscore.verify import ModelVerifier, Query, VerifierOptions
from factuality_harness.harness.settings import Settings


class FactVerifier:
    """FActScore's question "True or False?" as an annotator: `ok` or `unverifiable` (not supported), never `nofact`."""

    VERIFIER: type[ModelVerifier | SheetVerifier] = ModelVerifier
    OPTIONS: type[Settings] = VerifierOptions

    def __init__(self, engine: CachedEngine, **options: Any) -> None:
        """options: the verifier's. Raises HarnessError for one that is wrong."""
        self.verifier = self.VERIFIER(engine, **options)
        self.window = engine.wave(4096)

    @property
    def spec(self) -> str:
        return self.verifier.spec

    def check(self) -> None:
        self.verifier.check()

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """One judgement a claim, in order; the document is shown as one passage. Raises what the engine raises."""
        topics = [entity_of(c.question) or c.question for c in claims]
        queries = [
            Query(topic, c.question, c.sentence, c.language, (Passage(topic, c.document),), c.response)
            for topic, c in zip(topics, claims, strict=True)
        ]
        labels = {True: Label.OK, False: Label.UNVERIFIABLE, None: Label.UNPARSED}
        return [Judgement(labels[v.supported], (), v.detail) for v in self.verifier.verify(queries, progress)]


class FactSheet(FactVerifier):
    """The same with one request a response (`SheetVerifier`)."""

    VERIFIER = SheetVerifier
    OPTIONS = FactSheetOptions
    whole_responses = True
