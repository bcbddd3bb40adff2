"""Errors a user can act on. Everything else that is raised is a bug."""

from __future__ import annotations


class HarnessError(Exception):
    """Bad input or a missing part. The message names the file and row (where there is one) and the remedy."""


class EngineError(HarnessError):
    """A model engine cannot be used: missing package, unreachable server, refused key.

    Answers received before the failure are in the cache; the same command asks only for the rest.
    """
