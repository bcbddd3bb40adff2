"""How many requests are on their way at once: halved when the server says "too many", raised again as it answers."""

from __future__ import annotations

import logging
import random
import threading
import time

log = logging.getLogger(__name__)

LONGEST_WAIT = 120.0  # seconds between two tries, where the server names no time
RAISE_AFTER = 10  # answers in a row until one more request may be on its way


class Throttle:
    """A limit on concurrent requests that adapts (additive increase, multiplicative decrease).

    patience: seconds of nothing but "too many requests" after which the run stops; hours are survived by waiting.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most, self._patience = most, patience
        self._limit = float(most)
        self._running = 0
        self._good = 0
        self._until = 0.0
        self._since: float | None = None
        self._told = 0.0
        self._changed = threading.Condition()
        self._stopped = False

    @property
    def limit(self) -> int:
        """Requests that may be on their way now."""
        return max(1, int(self._limit))

    def __enter__(self) -> None:
        with self._changed:
            while not self._stopped and (self._running >= self.limit or time.monotonic() < self._until):
                self._changed.wait(max(0.01, min(1.0, self._until - time.monotonic())) if self._until else 1.0)
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify()

    def answered(self) -> None:
        """A request was answered."""
        with self._changed:
            self._since = None
            self._good += 1
            if self._good >= RAISE_AFTER and self._limit < self._most:
                self._limit, self._good = min(self._most, self._limit + 1), 0
            self._changed.notify()

    def too_many(self, attempt: int, retry_after: float | None) -> bool:
        """The server said "too many"; everybody waits. attempt: tries of this request so far, from 0. Returns False
        when patience is used up."""
        now = time.monotonic()
        with self._changed:
            self._since = self._since or now
            if now - self._since > self._patience:
                return False
            self._good = 0
            if now >= self._until:  # one halving for all that were refused together
                self._limit = max(1.0, self._limit / 2)
            wait = retry_after if retry_after is not None else min(LONGEST_WAIT, 2.0**attempt)
            wait *= 1 + random.random() / 10
            self._until = max(self._until, now + wait)
            if now - self._told > 30:
                self._told = now
                log.warning(
                    "too many requests for the server: waiting %.0f s, then at most %d at once", wait, self.limit
                )
        return True

    def stop(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
