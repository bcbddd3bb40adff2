"""Table 4 as a figure: fewer topics against fewer questions a topic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from factuality_harness.analysis.figures.inputs import Inputs, has_run, in_percent, printed_rows
from factuality_harness.analysis.figures.style import SCORE, Series, below, draw_lines, level, panels
from factuality_harness.analysis.intervals import Estimate
from factuality_harness.analysis.tables.model import Row

DIMENSIONS = {"topic": "fewer topics", "question": "fewer questions a topic"}


def scaling(inputs: Inputs) -> Figure | str:
    """Topics against questions, from what was run."""
    shown = [(t, c) for t in inputs.of(4) for c in t.columns if c.percent and has_run(t, c)]
    if not shown:
        return "no finished cell of an experiment for table 4 (topics against questions)"
    fig, axes = panels(len(shown))
    for axis, (table, column) in zip(axes, shown, strict=True):
        lines: dict[str, Series] = {}
        for row in (r for r in table.rows if r.cells):
            share, found = scale(row), in_percent(row, column)
            name = row.labels.get("dimension", "")
            if share is not None and name in DIMENSIONS:
                lines.setdefault(name, Series(DIMENSIONS[name], [])).points.append((share, found))
            else:
                level(axis, name or row.name, found)
        title = f"{table.heading}\n{column.task}" if len(shown) > 1 else table.heading
        draw_scaling(axis, list(lines.values()), title)
    return fig


def scaling_paper(inputs: Inputs) -> Figure | str:
    """The paper's table 4 drawn the same way."""
    lines: dict[str, Series] = {}
    for row in printed_rows(inputs, 4):
        line = lines.setdefault(row["dimension"], Series(DIMENSIONS[row["dimension"]], []))
        line.points.append((float(Fraction(row["scale"])), Estimate(float(row["score"]))))
    fig, (axis,) = panels(1)
    draw_scaling(axis, list(lines.values()), "paper: Llama-3.1-8B-Instruct")
    return fig


def draw_scaling(axis: Axes, lines: Sequence[Series], title: str) -> None:
    draw_lines(axis, lines)
    shares = sorted({x for line in lines for x, _ in line.points})
    axis.set_xticks(shares, [str(Fraction(x).limit_denominator(64)) for x in shares])
    axis.set(xlabel="share of the full training set", ylabel=SCORE, title=title)
    axis.margins(x=0.08)
    below(axis, *axis.get_legend_handles_labels(), ncols=2)


def scale(row: Row) -> float | None:
    """A row's share of the full training set; None for one that is none (the base model)."""
    text = row.labels.get("scale") or (row.printed or {}).get("scale", "")
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return None
