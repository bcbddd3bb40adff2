"""Gain and distance of each test topic, and the CSV file that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_text


@dataclass(frozen=True, slots=True)
class Point:
    """A test topic under one seed. distance: mean cosine distance to the k nearest training topics. baseline, aligned:
    correct / checkable over the topic's questions; gain is their difference. unit: what is resampled, the topic or a
    group of topics that share their fate (a world's cluster); the same name in two seeds is the same unit.
    """

    topic: str
    seed: int
    distance: float
    baseline: float
    aligned: float
    gain: float
    checkable_baseline: int
    checkable_aligned: int
    unit: str


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Points as CSV, one row each, columns as in `Point`."""
    table = pd.DataFrame([asdict(p) for p in points])
    write_text(path, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def read_points(path: str | Path) -> list[Point]:
    """Inverse of `write_points` (six digits). Raises HarnessError for a missing file or column."""
    columns = [f.name for f in fields(Point)]
    try:
        table = pd.read_csv(path, dtype={"topic": str, "unit": str}, keep_default_na=False)[columns]
    except (OSError, KeyError, ValueError) as error:
        raise HarnessError(f"{path}: no table of {', '.join(columns)} ({error})") from error
    return [Point(**{str(key): value for key, value in row.items()}) for row in table.to_dict("records")]
