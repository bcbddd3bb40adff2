"""What the outputs of analysis share: where they may go, and what they say of the judge behind a score."""

from __future__ import annotations

from pathlib import Path

from factuality_harness.harness.errors import HarnessError

EXACT = "world"
"""The fact world's judge: it looks every fact up in what the world was made from."""


def about_judge(judge: str) -> str:
    """One line on what a raw score of this judge is worth where no human labels are given; "" without a judge."""
    if not judge:
        return ""
    if judge == EXACT:
        return f"judge {judge} is exact by construction (facts are looked up in the made world): nothing to correct"
    return (
        f"raw scores of judge {judge}; no human labels were given, so its error is not corrected "
        "(factuality judge-card)"
    )


def check_out(path: Path | None) -> None:
    """Raises HarnessError, before the work, when no file can be written at `path`: a folder, or below a file."""
    if path is None:
        return
    if path.is_dir():
        raise HarnessError(f"--out {path}: a folder is there; name a file")
    above = next(p for p in path.absolute().parents if p.exists())
    if not above.is_dir():
        raise HarnessError(f"--out {path}: {above} is a file, not a folder")
