"""Precision against correct facts per response."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from factuality_harness.analysis.figures.inputs import Inputs, in_percent, main_column, stages_of, widest
from factuality_harness.analysis.figures.style import (
    SCORE,
    SMALL,
    bars_of,
    fit_heights,
    limits_of,
    looks_of,
    moved,
    panels,
    put_legend,
    small_title,
)
from factuality_harness.analysis.intervals import Estimate, over_seeds
from factuality_harness.analysis.results import TaskScore
from factuality_harness.analysis.tables.model import Column, Row
from factuality_harness.harness.metrics import ratio


def precision_facts(inputs: Inputs) -> Figure | str:
    """Score against checkable sentences a response, rows of the paper's experiments (of all, where there is none): a
    gain from saying less lies to the left of where it came from. Marks in one place are shifted a little. An experiment
    whose models all stand in another's panel is left out."""
    shown = []
    for table in [t for t in inputs.tables if t.number and t.experiments] or inputs.tables:
        column = main_column(table)
        if column is None:
            continue
        for experiment in table.experiments:
            rows = [r for r in table.rows if r.experiment is experiment]
            points = {r.name: p for r in rows if (p := fact_point(r, column)) is not None}
            rows = [r for r in rows if r.name in points]
            if rows:
                marks = {(column.task, r.n, *stages_of(r, "score")) for r in rows}
                shown.append((marks, (experiment.title, column, rows, points)))
    if not shown:
        return "no finished cell with judged sentences"
    shown_once = widest(shown)
    fig, axes = panels(len(shown_once), columns=3, width=SMALL)
    entries: list[int] = []
    for axis, (title, column, rows, points) in zip(axes, shown_once, strict=True):
        looks, legend = looks_of(rows)
        for row, shift in zip(rows, apart([points[row.name][0].mean for row in rows]), strict=True):
            (facts, score), look = points[row.name], looks[row.name]
            error: dict[str, Any] = {"xerr": bars_of(facts), "yerr": bars_of(score), "elinewidth": 0.6, "capsize": 1.2}
            error |= {"color": look["color"], "marker": look["marker"], "mfc": "white", "ms": 3.8, "clip_on": False}
            axis.errorbar([facts.mean], [score.mean], ls="none", transform=axis.transData + moved(axis, shift), **error)
            corners = [(x, y) for x in (facts.mean, *limits_of(facts)) for y in (score.mean, *limits_of(score))]
            axis.update_datalim(corners)
        axis.autoscale_view()
        if axis.get_xlim()[1] - axis.get_xlim()[0] < 1:  # a tenth of a sentence is no difference
            middle = sum(axis.get_xlim()) / 2
            axis.set_xlim(middle - 0.5, middle + 0.5)
        axis.set(xlabel="checkable sentences a response", ylabel=SCORE)
        small_title(axis, title, column.task)
        axis.margins(0.12)
        entries.append(put_legend(axis, legend, lines=False))
    fit_heights(axes, entries)
    fig.supxlabel("Marks that would hide each other stand side by side, around their place.", fontsize=7)
    return fig


def apart(values: Sequence[float]) -> list[float]:
    """Shifts in points that keep marks of (almost) one value from hiding each other."""
    near = 0.03 * max(max(values) - min(values), 1.0)
    groups: list[list[int]] = []
    for place in sorted(range(len(values)), key=values.__getitem__):
        if groups and values[place] - values[groups[-1][-1]] <= near:
            groups[-1].append(place)
        else:
            groups.append([place])
    shifts = [0.0] * len(values)
    for group in groups:
        for i, place in enumerate(sorted(group)):
            shifts[place] = (i - (len(group) - 1) / 2) * min(6.0, 60 / len(group))
    return shifts


def fact_point(row: Row, column: Column) -> tuple[Estimate, Estimate] | None:
    """Checkable sentences a response, and the score in percent."""
    score = in_percent(row, column)
    found = [facts_of(s, row) for seed in row.measured(column) if (s := row.score(column, seed)) is not None]
    known = [f for f in found if not math.isnan(f)]
    return (over_seeds(known), score) if score is not None and known and not math.isnan(score.mean) else None


def facts_of(score: TaskScore, row: Row) -> float:
    """Checkable sentences (for FActScore: facts) a response of one run; NaN where it is not known."""
    if row.n is not None:
        return score.metrics.get(f"best_of_{row.n}_facts", math.nan)
    if "facts_per_response" in score.metrics:
        return score.metrics["facts_per_response"]
    return ratio(sum(q.checkable for q in score.questions), sum(q.responses for q in score.questions))
