"""A table as text: cells for readers, numbers for programs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from factuality_harness.analysis.tables.differences import RowDifference, differences, half_differences
from factuality_harness.analysis.tables.model import Column, Row, Table, scores
from factuality_harness.analysis.tables.render import NONE, Grid, Group

MISSING = "missing"
LACKING = "not scored"  # the cell has run, without that task or metric


def number(value: float, column: Column) -> str:
    """Percent with one decimal; counts with one decimal unless whole."""
    if math.isnan(value):
        return "undefined"
    if column.percent:
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


INTERVAL_MARKS = {"topics": "†", "questions": "‡"}


def cell_text(row: Row, column: Column) -> str:
    """Ours as text: value, interval for scores, `missing`, `not scored` or –."""
    if not row.cells:
        return NONE
    found = row.estimate(column)
    if found is None:
        return absent(row, column)
    text = number(found.mean, column)
    if column.percent and not math.isnan(found.low):
        text += f" [{number(found.low, column)}, {number(found.high, column)}]{INTERVAL_MARKS.get(found.over, '')}"
    return text


def absent(row: Row, column: Column) -> str:
    """What stands for a value that is not there."""
    return LACKING if any(row.lacks(column, seed) for seed in row.cells) else MISSING


def seeds_text(row: Row, columns: Sequence[Column]) -> str:
    """Measurements behind a row, `2 of 3` when some have not run, the fewest of its columns that were scored."""
    if not row.cells:
        return NONE
    planned = len({cell.stages["score"] for cell in row.cells.values()})
    run = len({cell.stages["score"] for cell in row.cells.values() if cell.scores})
    done = [len(row.measured(c)) for c in columns if not any(row.lacks(c, seed) for seed in row.cells)]
    return str(fewest) if (fewest := min(done, default=run)) == planned else f"{fewest} of {planned}"


Texts = dict[str, Callable[[Row], str]]  # heading to what a row shows there


def to_grid(table: Table) -> Grid:
    """The table for readers; correct and incorrect counts share a column."""
    ours: Texts = {c.name: lambda row, c=c: cell_text(row, c) for c in table.columns}  # type: ignore[misc]
    own_difference = {name: d for (name, _), d in reversed(half_differences(table).items())}
    if own_difference:
        ours["diff"] = lambda row: difference_text(own_difference[row.name]) if row.name in own_difference else NONE
    if table.columns:
        ours["seeds"] = lambda row: seeds_text(row, table.columns)
    printed: Texts = {
        name: lambda row, value=value: value(row.printed) if row.printed else NONE  # type: ignore[misc]
        for name, value in _printed_columns(table).items()
    }
    keys: Texts = {key: lambda row, key=key: table.shown(row, key) for key in table.keys}  # type: ignore[misc]
    parts = [("", keys), (table.heading, _counts_together(ours) or {"not run": lambda row: NONE})]
    if table.paper:
        parts.append(("paper", _counts_together(printed)))
    rows = tuple(tuple(text(row) for _, texts in parts for text in texts.values()) for row in table.rows)
    groups = tuple(Group(heading, tuple(texts)) for heading, texts in parts)
    return Grid(table.title, groups, rows, tuple(table.notes))


def _counts_together(texts: Texts) -> Texts:
    """`correct` and `incorrect` of one score in one column."""
    together: Texts = {}
    for name, text in texts.items():
        other = texts.get(f"{name.removesuffix('correct')}incorrect")
        if name.endswith("correct") and other is not None:
            together[f"{name} / incorrect"] = lambda row, a=text, b=other: _both(a(row), b(row))  # type: ignore[misc]
        elif not (name.endswith("incorrect") and f"{name.removesuffix('incorrect')}correct" in texts):
            together[name] = text
    return together


def _both(one: str, other: str) -> str:
    return one if one == other in (NONE, MISSING, LACKING) else f"{one} / {other}"


def _printed_columns(table: Table) -> dict[str, Callable[[Mapping[str, str]], str]]:
    """Paper columns by name: key columns that do not name rows of ours, numbers, and scores from the counts."""
    paper = table.paper
    if paper is None:
        return {}
    columns: dict[str, Callable[[Mapping[str, str]], str]] = {}
    for name in (*(k for k in paper.keys if k not in table.keys), *paper.values):
        columns[name] = lambda row, name=name: row[name] or NONE  # type: ignore[misc]
        prefix = name.removesuffix("score")
        if prefix in paper.counted() and name.endswith("score"):
            columns[f"{name} from counts"] = lambda row, prefix=prefix: f"{paper.recomputed(row, prefix):.2f}"  # type: ignore[misc]
    return columns


def difference_text(difference: RowDifference) -> str:
    """Points with sign and interval."""
    e = difference.estimate.scaled(100)
    if not e.n:
        return MISSING
    text = f"{e.mean:+.1f}"
    return text if math.isnan(e.low) else f"{text} [{e.low:+.1f}, {e.high:+.1f}]"


def differences_to_grid(table: Table) -> Grid | None:
    """Differences from the reference for readers; None without a reference."""
    found = differences(table)
    if not found:
        return None
    names = tuple(dict.fromkeys(d.column.name for d in found))
    by_row: dict[str, list[RowDifference]] = defaultdict(list)
    for difference in found:
        by_row[difference.row.name].append(difference)
    rows = []
    for ds in by_row.values():
        row, reference = ds[0].row, ds[0].reference
        texts = {d.column.name: difference_text(d) for d in ds}
        seeds = str(min(d.estimate.n for d in ds))
        rows.append((*(row.labels.get(k, NONE) for k in table.keys), reference.name, *(texts[n] for n in names), seeds))
    groups = (Group("", (*table.keys, "minus")), Group(table.heading, (*names, "seeds")))
    notes = ["Points; paired by seed, 95 % t interval over seeds in brackets."]
    if once := dict.fromkeys(d.reference.name for d in found if d.reference.once(d.column)):
        notes.append(f"{'; '.join(once)}: one measurement under all seeds; the intervals leave its own error out.")
    return Grid(f"{table.title}: differences", groups, tuple(rows), tuple(notes))


def to_frame(table: Table) -> pd.DataFrame:
    """The table for programs: numbers and limits in columns of their own, ours and the paper's with their heading."""
    records = []
    own_difference = half_differences(table)
    for row in table.rows:
        record = {key: table.shown(row, key) for key in table.keys}
        for column in table.columns:
            found = row.estimate(column) if row.cells else None
            names = [f"{table.heading}: {column.name}{end}" for end in ("", " low", " high")]
            for name, value in zip(names, (found.mean, found.low, found.high) if found else (), strict=False):
                record[name] = _number(value, column)
            record |= {n: absent(row, column) if row.cells else NONE for n in names if found is None}
            if found and column.percent:
                record[f"{table.heading}: {column.name} interval over"] = found.over
        for (name, column_name), d in own_difference.items():
            if name == row.name:
                e = d.estimate
                for end, value in (("", e.mean), (" low", e.low), (" high", e.high)):
                    record[f"{table.heading}: diff of {column_name}{end}"] = (
                        _number(value, d.column) if e.n else MISSING
                    )
        if table.columns:
            record[f"{table.heading}: seeds"] = seeds_text(row, table.columns)
            judges = sorted({s.judge for c, r, s in scores(table) if r is row and s.judge})
            record[f"{table.heading}: judge"] = " and ".join(judges)
        printed = _printed_columns(table)
        record |= {f"paper: {n}": value(row.printed) if row.printed else NONE for n, value in printed.items()}
        records.append(record)
    columns = list(dict.fromkeys(name for record in records for name in record))
    order = [c for c in columns if not c.startswith("paper: ")] + [c for c in columns if c.startswith("paper: ")]
    return pd.DataFrame(records, columns=order).fillna("")


def _number(value: float, column: Column) -> str:
    return "" if math.isnan(value) else f"{100 * value:.2f}" if column.percent else f"{value:.4g}"


def differences_to_frame(table: Table) -> pd.DataFrame:
    """Differences from the reference for programs, in points."""
    return pd.DataFrame(
        [
            {key: d.row.labels.get(key, NONE) for key in table.keys}
            | {"minus": d.reference.name, "column": d.column.name, "task": d.column.task, "seeds": d.estimate.n}
            | {
                n: _number(getattr(d.estimate, a), d.column)
                for n, a in (("difference", "mean"), ("low", "low"), ("high", "high"))
            }
            for d in differences(table)
        ]
    )
