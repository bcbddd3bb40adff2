"""The exact judge of the fact world: it reads a sentence's one fact and looks it up in the reference document.

`ok`: the document says so. `contradictory`: it gives another value. `unverifiable`: it does not have that attribute.
`nofact`: one of the world's filler sentences. `unparsed`: anything else, say a piece of a
document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress
from factuality_harness.harness.world.vocabulary import FILLERS, SOURCES

_SENTENCE = re.compile(rf"(?:{'|'.join(SOURCES)}) the (?P<attribute>[a-z ]+?) was (?P<value>[A-Za-z0-9]+)\.")
_FACT = re.compile(r"The (?P<attribute>[a-z ]+?) was (?P<value>[A-Za-z0-9]+)\.")


class WorldAnnotator:
    """Labels are exact by construction; needs no model."""

    spec = "world"
    window = 10_000

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """One judgement a claim; the evidence is the document's sentence on the attribute."""
        judgements = [_judge(claim) for claim in claims]
        if progress:
            progress(len(claims))
        return judgements


def _judge(claim: Claim) -> Judgement:
    if claim.sentence in FILLERS:
        return Judgement(Label.NOFACT)
    said = _SENTENCE.fullmatch(claim.sentence)
    if said is None:
        return Judgement(Label.UNPARSED, detail="not a sentence of the world's answers")
    for fact in _FACT.finditer(claim.document):
        if fact["attribute"] == said["attribute"]:
            right = fact["value"] == said["value"]
            return Judgement(Label.OK if right else Label.CONTRADICTORY, (fact[0],))
    return Judgement(Label.UNVERIFIABLE)
