"""Gain against clusters covered and questions a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from factuality_harness.analysis.figures.inputs import Inputs, has_run, main_column
from factuality_harness.analysis.figures.style import Series, below, draw_lines, panels
from factuality_harness.analysis.intervals import Estimate
from factuality_harness.analysis.tables.model import Row, Table, paired
from factuality_harness.harness.errors import HarnessError


def coverage(inputs: Inputs) -> Figure | str:
    """Gain over the untrained model against clusters covered and questions a cluster (experiments of that kind)."""
    kind = [t for t in inputs.tables if any(e.table.get("kind") == "coverage" for e in t.experiments)]
    tables = [t for t in kind if not t.columns or has_run(t, main_column(t))]
    if not tables:
        return "no finished cell of an experiment with table.kind coverage"
    fig, axes = panels(2 * len(tables))
    for table, (left, right) in zip(tables, zip(axes[::2], axes[1::2], strict=True), strict=True):
        column = main_column(table)
        base = untrained(table)
        names = ("clusters", "per_cluster")
        gains: dict[tuple[float, float], Estimate | None] = {}
        for row in table.rows:
            try:
                place = float(row.labels["clusters"]), float(row.labels["per_cluster"])
            except (KeyError, ValueError):
                continue
            values = paired(row, base, column) if column and base else Estimate(math.nan)
            gains[place] = values.scaled(100) if values.n else None
        if not gains:
            raise HarnessError(f"{table.name}: a coverage experiment needs the axes {' and '.join(names)}, in numbers")
        for axis, x, other in ((left, 0, 1), (right, 1, 0)):
            lines = [
                Series(f"{value:g}", [(p[x], e) for p, e in sorted(gains.items()) if p[other] == value])
                for value in sorted({p[other] for p in gains})
            ]
            ticks = sorted({p[x] for p in gains})
            axis.set_xscale("log", base=2)
            draw_lines(axis, lines)
            axis.axhline(0, color="black", lw=0.6)
            axis.xaxis.set_minor_locator(NullLocator())
            axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
            shown = ("clusters covered", "questions a cluster")
            axis.set(
                xlabel=shown[x],
                ylabel="gain over the base (points)",
                title=table.title if len(tables) > 1 else table.heading,
            )
            below(axis, *axis.get_legend_handles_labels(), title=shown[other], title_fontsize=7, ncols=4)
    return fig


def untrained(table: Table) -> Row | None:
    """The row of the model before training: `table.reference`, else labels all `base`, else cells without training."""
    for experiment in table.experiments:
        wanted = experiment.table.get("reference")
        for row in table.rows:
            labels = [*row.labels.values()]
            if wanted is not None and (row.name == wanted or wanted in labels):
                return row
    tests: list[Callable[[Row], bool]] = [
        lambda row: set(row.labels.values()) == {"base"},
        lambda row: bool(row.cells) and all("train" not in cell.stages for cell in row.cells.values()),
    ]
    return next((row for test in tests for row in table.rows if test(row)), None)
