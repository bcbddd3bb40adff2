"""What every annotator does: claims in, judgements out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from factuality_harness.harness.annotation import Judgement


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence to judge: a part of an answer to `question`, against the reference `document`."""

    question: str
    sentence: str
    document: str
    language: str


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
