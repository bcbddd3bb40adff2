"""Errors a user can act on. Everything else that is raised is a bug."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class HarnessError(Exception):
    """Bad input or a missing part. The message names the file and row (where there is one) and the remedy."""


class EngineError(HarnessError):
    """A model engine cannot be used: missing package, unreachable server, refused key.

    Answers received before the failure are in the cache; the same command asks only for the rest.
    """


def command(main: Callable[[list[str] | None], None]) -> Callable[..., int]:
    """Decorator of a command line: a HarnessError becomes one line on standard error and exit code 2."""

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            main(argv)
        except HarnessError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0

    return run
