"""Table 6 as a figure: best of N, base against aligned."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from factuality_harness.analysis.figures.inputs import Inputs, has_run, in_percent, main_column, printed_rows
from factuality_harness.analysis.figures.style import SCORE, Series, draw_lines, panels
from factuality_harness.analysis.intervals import Estimate


def best_of_n(inputs: Inputs) -> Figure | str:
    """Best-of-n curves, from what was run."""
    tables = [t for t in inputs.of(6) if has_run(t, main_column(t))]
    if not tables:
        return "no finished cell of an experiment for table 6 (best-of-n)"
    fig, axes = panels(len(tables))
    for axis, table in zip(axes, tables, strict=True):
        column = main_column(table)
        assert column is not None
        lines: dict[str, Series] = {}
        for row in (r for r in table.rows if r.cells and r.n):
            name = ", ".join(v for k, v in row.labels.items() if k != "n")
            lines.setdefault(name, Series(name, [])).points.append((row.n or 0, in_percent(row, column)))
        draw_best(axis, list(lines.values()), table.heading)
    return fig


def best_of_n_paper(inputs: Inputs) -> Figure | str:
    """The paper's table 6 drawn the same way."""
    lines: dict[str, Series] = {}
    for row in printed_rows(inputs, 6):
        line = lines.setdefault(row["model"], Series(row["model"], []))
        line.points.append((int(row["n"]), Estimate(float(row["score"]))))
    fig, (axis,) = panels(1)
    draw_best(axis, list(lines.values()), "paper: Llama-3.1-8B-Instruct")
    return fig


def draw_best(axis: Axes, lines: Sequence[Series], title: str) -> None:
    axis.set_xscale("log", base=2)
    draw_lines(axis, lines)
    sizes = sorted({x for line in lines for x, _ in line.points})
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, [f"{n:g}" for n in sizes])
    axis.set(xlabel="n, the best of which is taken", ylabel=SCORE, title=title)
    axis.legend(loc="best")
