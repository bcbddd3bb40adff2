"""Differences between rows of a table, paired by seed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from factuality_harness.analysis.intervals import Estimate
from factuality_harness.analysis.tables.model import Column, Row, Table, paired
from factuality_harness.harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row's value minus another's, paired by seed, in lm_eval's units."""

    row: Row
    reference: Row
    column: Column
    estimate: Estimate


def half_differences(table: Table) -> dict[tuple[str, str], RowDifference]:
    """(row, column) to second minus first half, for tables of the paper that print a difference. The halves are the
    rows that share all labels but `distance`; where the paper has some of them, those."""
    if table.paper is None or "diff" not in table.paper.values:
        return {}
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in table.rows:
        if row.cells:
            groups[tuple(v for k, v in row.labels.items() if k != "distance")].append(row)
    found = {}
    for rows in groups.values():
        pair = [row for row in rows if row.printed is not None] or rows
        if len(pair) == 2:
            first, second = sorted(pair, key=lambda r: r.labels.get("distance", ""))
            for column in table.columns:
                if column.percent:
                    difference = paired(second, first, column)
                    found[second.name, column.name] = RowDifference(second, first, column, difference)
    return found


def is_named(row: Row, wanted: str) -> bool:
    """Whether a row is the one of that name, or all labels of its cells are that (`base`)."""
    return row.name == wanted or any(set(cell.labels.values()) == {wanted} for cell in row.cells.values())


def differences(table: Table) -> list[RowDifference]:
    """Every row against its experiment's `table.reference`: a row's full name, the one label of a row (`base`), or a
    value of one axis (compared with the row whose other labels are the same). Empty without a reference.

    Raises HarnessError for a reference that is no label.
    """
    out: list[RowDifference] = []
    for experiment in table.experiments:
        wanted = experiment.table.get("reference")
        if wanted is None:
            continue
        rows = [row for row in table.rows if row.experiment is experiment]
        by_labels = {tuple(row.labels.items()): row for row in rows}
        found = False
        for row in rows:
            other = next((r for r in rows if is_named(r, str(wanted)) and r.n == row.n), None)
            for key in row.labels:
                other = other or by_labels.get(tuple((row.labels | {key: str(wanted)}).items()))
            found |= other is not None
            if other is not None and other is not row:
                for column in (c for c in table.columns if c.percent):
                    out.append(RowDifference(row, other, column, paired(row, other, column)))
        if rows and not found:
            raise HarnessError(
                f"experiment {experiment.name}: reference {wanted!r} is no label; the rows are "
                + "; ".join(row.name for row in rows)
            )
    return out
