"""A command of `factuality`, called as a process would call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from factuality_harness import cli


def command(name: str) -> Callable[[Sequence[object]], int]:
    """A function of the words after `factuality NAME`, returning the exit code."""
    return lambda words: cli.main([*name.split(), *map(str, words)])
