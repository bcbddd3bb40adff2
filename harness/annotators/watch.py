"""A judge that does nothing but fail stops the run, with its own words, before everything is paid for."""

from __future__ import annotations

import logging
import re
from collections import Counter

from factuality_harness.harness.errors import EngineError

log = logging.getLogger(__name__)

SHARE = 0.5  # of failures of one kind from which a run stops, once enough has been judged
ENOUGH = 5  # times stop_after


class FailureWatch:
    """Counts verdicts and failures by kind. Raises EngineError when the first `stop_after` all failed for one reason,
    or, later, when more than half did; 0 never stops."""

    def __init__(self, judge: str, stop_after: int) -> None:
        self._judge, self._stop_after = judge, stop_after
        self._seen = 0
        self._failures: Counter[str] = Counter()

    def note(self, failure: str) -> None:
        """One verdict ("") or the words of one failure."""
        self._seen += 1
        if not failure:
            return
        kind = _kind(failure)
        self._failures[kind] += 1
        count = self._failures[kind]
        start = self._stop_after and count == self._seen >= self._stop_after
        later = self._stop_after and self._seen >= ENOUGH * self._stop_after and count > SHARE * self._seen
        if start or later:
            raise EngineError(
                f"{self._judge}: {count} of the first {self._seen} verdicts failed for one reason, so the run stops: "
                f"{failure}. Finished answers are in the cache. (stop_after 0 in the judge's options goes on anyway.)"
            )


def tried(judge: str, on: str, failure: str, stop_after: int) -> None:
    """What follows from a trial on one plain text (`on`): nothing without a failure. Raises EngineError with the
    judge's words; with `stop_after` 0, which asks to see failures counted, it is a warning."""
    if not failure:
        return
    said = f"{judge} was tried on {on} and failed: {failure}"
    if stop_after:
        raise EngineError(said)
    log.warning("%s. The run goes on, since stop_after is 0", said)


def _kind(failure: str) -> str:
    """A failure without what differs from one to the next: quoted words and numbers."""
    return re.sub(r"'.*|\".*|\d+", "", failure)[:80]
