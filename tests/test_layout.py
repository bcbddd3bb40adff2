"""What the repository's files look like."""

from __future__ import annotations

import subprocess

from tests.helpers.paths import ROOT

MOST_LINES = 400


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_no_module_is_long() -> None:
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in tracked("*.py", "*.js")}
    long = {name: n for name, n in lines.items() if n > MOST_LINES and not name.startswith("tests/")}
    assert not long
