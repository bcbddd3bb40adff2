"""The paper's published numbers (`results/paper/*.csv`), and checks of them against each other.

Nothing is corrected: scores that do not follow from their counts, differences that do not follow from their scores, and
counts that differ between tables for one system are found by computing, and become notes.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import ratio

PAPER = Path(__file__).resolve().parents[2] / "results" / "paper"
NAME = "Mask-DPO paper (arXiv 2503.02846v1)"
TITLES = {
    1: "Main comparison",
    2: "Mask ablation",
    3: "Where pairs are sampled from",
    4: "Scaling topics against scaling questions",
    5: "Near and far training topics by embedding source",
    6: "Best-of-N",
    7: "SFT first",
    8: "Preference optimisation methods",
    9: "Factuality alignment methods",
    10: "General benchmarks",
    11: "Inference temperature",
    12: "Near and far by question",
}
KEYS = {
    1: ("model",),
    2: ("setting",),
    3: ("sampling",),
    4: ("dimension", "topics", "questions_per_topic", "scale"),
    5: ("base_model", "embedding", "distance"),
    6: ("model", "n"),
    7: ("model",),
    8: ("method",),
    9: ("method",),
    10: ("model",),
    11: ("temperature",),
    12: ("distance",),
}
"""Table number to the columns that name a row; all others are numbers."""
FAR_OFF = 5.0  # points; printed counts are means over runs, and a ratio of means is not quite the mean of ratios
WORTH_SAYING = 0.5  # points; smaller deviations are not noted
ROUNDING = 0.0051  # points; of a difference of two scores printed with two decimals


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table as printed: every field is the text of the CSV file, "" where there is none."""

    number: int
    file: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    @property
    def title(self) -> str:
        return TITLES[self.number]

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.file.removesuffix(".csv")

    def counted(self) -> tuple[str, ...]:
        """Prefixes of the scores that are correct / (correct + incorrect); FActScore is another average."""
        return tuple(
            v.removesuffix("score")
            for v in self.values
            if v.endswith("score") and "factscore" not in v and v.removesuffix("score") + "correct" in self.values
        )

    def recomputed(self, row: Mapping[str, str], prefix: str) -> float:
        """100 correct / (correct + incorrect) of a row's printed counts."""
        correct, incorrect = (float(row[prefix + part] or math.nan) for part in ("correct", "incorrect"))
        return 100 * ratio(correct, correct + incorrect)

    def label(self, row: Mapping[str, str]) -> str:
        """A row's key values, joined."""
        return ", ".join(row[key] for key in self.keys)


def load_paper(folder: Path = PAPER) -> dict[int, PaperTable]:
    """The twelve tables by number. Raises HarnessError for a missing table, column or number."""
    tables = {}
    for number, keys in KEYS.items():
        files = sorted(folder.glob(f"table{number:02}_*.csv"))
        if len(files) != 1:
            raise HarnessError(f"{folder}: one file table{number:02}_*.csv of published numbers is needed, not {files}")
        with files[0].open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = tuple(reader)
            columns = reader.fieldnames or []
        if missing := [key for key in keys if key not in columns]:
            raise HarnessError(f"{files[0]}: lacks the column {', '.join(missing)}")
        values = tuple(c for c in columns if c not in keys)
        for place, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise HarnessError(f"{files[0]}, row {place}: not {len(columns)} fields")
            for name in values:
                if row[name] and not _is_number(row[name]):
                    raise HarnessError(f"{files[0]}, row {place}: {name} is {row[name]!r}, which is no number")
        tables[number] = PaperTable(number, files[0].name, keys, values, rows)
    return tables


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def oddities(tables: Mapping[int, PaperTable]) -> dict[int, list[str]]:
    """Table number to what does not fit together in it."""
    found: dict[int, list[str]] = {number: [] for number in tables}
    for number, table in tables.items():
        found[number] += [*_scores_off(table), *_differences_off(table)]
    for one, other in itertools.permutations(tables.values(), 2):
        found[one.number] += _systems_off(one, other)
    return {number: list(dict.fromkeys(notes)) for number, notes in found.items()}


def _scores_off(table: PaperTable) -> Iterator[str]:
    for prefix in table.counted():
        worst, place = 0.0, ""
        for row in table.rows:
            printed, computed = float(row[f"{prefix}score"]), table.recomputed(row, prefix)
            off = abs(computed - printed)
            if off > FAR_OFF:
                correct, incorrect = row[f"{prefix}correct"], row[f"{prefix}incorrect"]
                yield (
                    f"{table.label(row)}: the printed counts {correct} and {incorrect} give {computed:.2f}, not the "
                    f"printed score {printed:.2f} (swapped they give {100 - computed:.2f})"
                )
            elif off > worst:
                worst, place = off, table.label(row)
        if worst > WORTH_SAYING:
            yield (
                f"{prefix}score from the printed counts differs from the printed one by at most {worst:.2f} points "
                f"otherwise ({place}), as it may where counts are means over runs"
            )


def _differences_off(table: PaperTable) -> Iterator[str]:
    if "diff" not in table.values:
        return
    for first, second in _pairs(table):
        scores = float(second["score"]) - float(first["score"])
        if abs(abs(scores) - float(second["diff"])) > ROUNDING:
            where = ", ".join(second[key] for key in table.keys[:-1])
            yield (
                f"{where}: the printed difference is {second['diff']}, the printed scores {second['score']} and "
                f"{first['score']} differ by {scores:.2f}"
            )


def _pairs(table: PaperTable) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The two halves compared: rows that share all keys but the last."""
    for _, rows in itertools.groupby(table.rows, key=lambda row: [row[key] for key in table.keys[:-1]]):
        first, second = rows
        yield first, second


def _systems_off(one: PaperTable, other: PaperTable) -> Iterator[str]:
    """Rows of two tables with the same first score are one system; its other numbers should be the same too."""
    (a, b), shared = (_main(one), _main(other)), _like_columns(one, other)
    if a is None or b is None:
        return
    for row in one.rows:
        for same in (r for r in other.rows if r[b] == row[a]):
            for mine, theirs in shared:
                if row[mine] and same[theirs] and float(row[mine]) != float(same[theirs]):
                    yield (
                        f"{one.label(row)}: {mine} is {row[mine]} here and {same[theirs]} in table {other.number} "
                        f"({other.label(same)}), for the same {a} of {row[a]}"
                    )


def _main(table: PaperTable) -> str | None:
    return next((f"{prefix}score" for prefix in table.counted()), None)


def _like_columns(one: PaperTable, other: PaperTable) -> list[tuple[str, str]]:
    def kind(name: str) -> str:
        return name.removeprefix("anah_v2_").removeprefix("anah_")

    return [(a, b) for a in one.values for b in other.values if kind(a) == kind(b) and a != "diff"]
