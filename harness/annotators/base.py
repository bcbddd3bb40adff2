"""What every annotator does: claims in, judgements out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from factuality_harness.harness.annotation import Judgement
from factuality_harness.harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence to judge: a part of an answer to `question`, against the reference `document`.

    response: tells responses apart whose sentences are handed over together.
    """

    question: str
    sentence: str
    document: str
    language: str
    response: int = 0


def check_claims(claims: Iterable[Claim]) -> None:
    """Raises HarnessError for a claim without a document or in another language than English and Chinese."""
    for claim in claims:
        if claim.language not in ("en", "zh"):
            raise HarnessError(f"language {claim.language!r} of question {claim.question!r}: not en or zh")
        if not claim.document.strip():
            raise HarnessError(f"question {claim.question!r} has no reference document to judge against")


Progress = Callable[[int], object]
"""Called with the number of sentences just finished."""


class Annotator(Protocol):
    """window: claims it wants at once (bounds memory)."""

    window: int

    @property
    def spec(self) -> str:
        """The string that names it in results."""

    def check(self) -> None:
        """Raise HarnessError now if it cannot work, before any generation is spent."""

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """One judgement a claim, in order. Raises EngineError when its engine fails as a whole."""
