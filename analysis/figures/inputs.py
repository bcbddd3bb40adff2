"""What figures are drawn from: results, tables, and which of their cells a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from factuality_harness.analysis.intervals import Estimate
from factuality_harness.analysis.results import Results
from factuality_harness.analysis.tables.model import Column, Row, Table

Panel = TypeVar("Panel")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What figures are drawn from."""

    results: Results
    tables: Sequence[Table]

    def of(self, number: int) -> list[Table]:
        """Tables of that number of the paper."""
        return [t for t in self.tables if t.number == number]


def main_column(table: Table) -> Column | None:
    """The first score of a table: what figures show of it."""
    return next((c for c in table.columns if c.percent), None)


def has_run(table: Table, column: Column | None) -> bool:
    """Whether any cell behind the column has."""
    return column is not None and any(row.estimate(column) for row in table.rows if row.cells)


def in_percent(row: Row, column: Column) -> Estimate | None:
    """A row's mean and interval in percent, None when it has not run."""
    found = row.estimate(column)
    return found.scaled(100) if found else None


def printed_rows(inputs: Inputs, number: int) -> tuple[dict[str, str], ...]:
    """The paper's rows."""
    paper = inputs.of(number)[0].paper
    assert paper is not None
    return paper.rows


def stages_of(row: Row, role: str) -> list[str]:
    """Stages of that role behind a row's cells, each once."""
    return sorted({stage for cell in row.cells.values() if (stage := cell.stages.get(role)) is not None})


def widest(shown: Sequence[tuple[set[Any], Panel]]) -> list[Panel]:
    """Panels in order, without those that show a part of what another shows (the first, where they show the same)."""
    kept: list[int] = []
    for i, (marks, _) in enumerate(shown):
        if not any(marks < other or (marks == other and j < i) for j, (other, _) in enumerate(shown) if j != i):
            kept.append(i)
    return [shown[i][1] for i in kept]
