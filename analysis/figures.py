"""The figures, from lm_eval's result files and from the paper's numbers, in one style (`paper.mplstyle`).

    python -m analysis.figures --results DIR [--out DIR/figures]

DIR is a sweep's store or its collected files. Each figure as PDF and PNG, the same bytes from the same results. Ours
and the paper's are figures of their own. Bars, points and lines are means over seeds with 95 % t intervals over seeds
(for one seed over topics); cells that have not run are marked as missing; a figure without data is skipped with its
reason.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.hypothesis import read_points
from analysis.intervals import Estimate, over_seeds
from analysis.output import writing
from analysis.paper import PAPER
from analysis.results import Results, TaskScore, load_results, read_json
from analysis.table import Column, Row, Table, build, paired
from harness.errors import HarnessError, command
from harness.metrics import ratio

STYLE = Path(__file__).with_name("paper.mplstyle")
SCORE = "factuality (%)"
FAR_NEAR = {"far": ("#56B4E9", "////"), "near": ("#0072B2", ""), "a": ("#BBBBBB", "...."), "b": ("#777777", "")}
DIMENSIONS = {"topic": "fewer topics", "question": "fewer questions a topic"}
WIDTH = 3.4  # inches a panel
SMALL = 2.7  # inches a panel of those that stand three in a row
LENGTH = 50  # characters a line of a title
MANY = 6  # curves in a panel from which on intervals would hide them
NORMALISED = ("sepo",)  # losses whose margin is a mean over tokens, not a sum: another unit


@dataclass(frozen=True, slots=True)
class Inputs:
    """What figures are drawn from."""

    results: Results
    tables: Sequence[Table]

    def of(self, number: int) -> list[Table]:
        """Tables of that number of the paper."""
        return [t for t in self.tables if t.number == number]


@dataclass(slots=True)
class Series:
    """A line. points: x and value in the figure's unit, None where the cell has not run."""

    name: str
    points: list[tuple[float, Estimate | None]]


Panel = TypeVar("Panel")
Drawn = Figure | str  # a figure, or why there is none


def main_column(table: Table) -> Column | None:
    """The first score of a table: what figures show of it."""
    return next((c for c in table.columns if c.percent), None)


def has_run(table: Table, column: Column | None) -> bool:
    """Whether any cell behind the column has."""
    return column is not None and any(row.estimate(column) for row in table.rows if row.cells)


def style_of(place: int) -> dict[str, Any]:
    """Colour, marker and line style number `place` of the style file."""
    cycle = list(plt.rcParams["axes.prop_cycle"])
    return dict(cycle[place % len(cycle)])


def panels(count: int, *, columns: int = 2, width: float = WIDTH, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels; left-over ones are hidden."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    fig, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return fig, list(axes.flat[:count])


def fit_heights(axes: Sequence[Axes], entries: Sequence[int], *, columns: int = 3, inner: float = 1.3) -> None:
    """Give every row of panels the height that its titles and legends (of so many lines) need, so that all panels are
    `inner` inches high."""
    heights = []
    for start in range(0, len(axes), columns):
        row = axes[start : start + columns]
        heights.append(
            inner
            + 0.6
            + 0.15 * max(entries[start : start + columns])
            + 0.15 * max(axis.get_title().count("\n") + 1 for axis in row)
        )
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    figure.set_size_inches(figure.get_size_inches()[0], sum(heights))


def small_title(axis: Axes, *lines: str) -> None:
    text = "\n".join(textwrap.fill(line, LENGTH - 8) for line in lines if line)
    axis.set_title(text, fontsize=8, linespacing=1.0)


def bars_of(found: Estimate) -> list[list[float]] | None:
    """Error bars of an estimate, None without an interval."""
    return None if math.isnan(found.low) else [[found.mean - found.low], [found.high - found.mean]]


def draw_lines(axis: Axes, lines: Sequence[Series]) -> None:
    """Lines with intervals; a gap and a hollow mark on the axis where a cell is missing. Neighbouring lines are shifted
    a little, or their intervals would hide each other."""
    named: set[float] = set()
    for place, line in enumerate(lines):
        look = style_of(place)
        shift = (place - (len(lines) - 1) / 2) * 3.5  # points
        move = moved(axis, shift)
        shown = [(x, e) for x, e in sorted(line.points, key=lambda p: p[0]) if e is not None and not math.isnan(e.mean)]
        if shown:
            x, y = [x for x, _ in shown], [e.mean for _, e in shown]
            axis.plot(x, y, **look, label=line.name, transform=axis.transData + move)
            spread = [v for _, e in shown for v in (e.mean, *_limits(e))]
            axis.update_datalim([(x, v) for x, _ in line.points for v in (min(spread), max(spread))])
            for where, found in shown:
                if (bars := bars_of(found)) is not None:
                    options = {"color": look["color"], "elinewidth": 0.9, "transform": axis.transData + move}
                    axis.errorbar([where], [found.mean], bars, fmt="none", **options)
        else:
            axis.plot([], [], **look, label=line.name)
        gone = [x for x, e in line.points if e is None or math.isnan(e.mean)]
        for where in gone:
            mark_missing(axis, where, look, shift, word=where not in named)
        named |= set(gone)
    axis.autoscale_view()


def moved(axis: Axes, points: float) -> matplotlib.transforms.ScaledTranslation:
    """A shift to the right, to be added to a transform."""
    return matplotlib.transforms.ScaledTranslation(points / 72, 0, axis.figure.dpi_scale_trans)


def _limits(found: Estimate) -> list[float]:
    return [v for v in (found.low, found.high) if not math.isnan(v)]


def mark_missing(axis: Axes, x: float, look: Mapping[str, Any], shift: float = 0.0, *, word: bool = True) -> None:
    """A hollow mark just above the axis, shifted by points, and above it the word `missing`."""
    on_axis = axis.get_xaxis_transform()
    move = moved(axis, shift)
    axis.plot([x], [0.03], color=look["color"], marker=look["marker"], mfc="none", ls="none", transform=on_axis + move)
    if word:
        axis.text(x, 0.08, "missing", rotation=90, ha="center", va="bottom", fontsize=6, transform=on_axis)


# 1: topics against questions


def scaling(inputs: Inputs) -> Drawn:
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


def scaling_paper(inputs: Inputs) -> Drawn:
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


def level(axis: Axes, name: str, found: Estimate | None) -> None:
    """A dotted line at the score of a model that stands beside the series (the base), named right of the panel."""
    if found is not None and not math.isnan(found.mean):
        axis.axhline(found.mean, color="black", lw=0.8, ls=":")
        place: dict[str, Any] = {"xytext": (2, 0), "textcoords": "offset points", "ha": "left", "va": "center"}
        axis.annotate(name, (1, found.mean), xycoords=("axes fraction", "data"), size=7, **place)


def scale(row: Row) -> float | None:
    """A row's share of the full training set; None for one that is none (the base model)."""
    text = row.labels.get("scale") or (row.printed or {}).get("scale", "")
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return None


def in_percent(row: Row, column: Column) -> Estimate | None:
    """A row's mean and interval in percent, None when it has not run."""
    found = row.estimate(column)
    return found.scaled(100) if found else None


def printed_rows(inputs: Inputs, number: int) -> tuple[dict[str, str], ...]:
    """The paper's rows."""
    paper = inputs.of(number)[0].paper
    assert paper is not None
    return paper.rows


# 2: near and far


@dataclass(slots=True)
class Half:
    """A bar: embedding source, which half, its score in percent."""

    source: str
    half: str
    score: Estimate | None


def near_far(inputs: Inputs) -> Drawn:
    """Near and far halves by embedding source (tables 5 and 12), from what was run."""
    shown: list[tuple[str, list[Half]]] = []
    for table in (t for number in (5, 12) for t in inputs.of(number) if t.experiments):
        column = main_column(table)
        rows = [r for r in table.rows if r.cells and "distance" in r.labels]
        if column is None or not rows or not has_run(table, column):
            continue
        models = list(dict.fromkeys(r.labels.get("base_model", "") for r in rows))
        for model in models:
            part = [r for r in rows if r.labels.get("base_model", "") == model]
            halves = [
                Half(r.labels.get("embedding", "by question"), r.labels["distance"], in_percent(r, column))
                for r in part
            ]
            shown.append((f"{table.heading} (table {table.number})", halves))
    return draw_halves(shown) if shown else "no finished cell of an experiment for tables 5 and 12 (near and far)"


def near_far_paper(inputs: Inputs) -> Drawn:
    """The paper's table 5 drawn the same way."""
    rows = printed_rows(inputs, 5)
    models = list(dict.fromkeys(row["base_model"] for row in rows))
    return draw_halves(
        [
            (
                f"paper: {model}",
                [
                    Half(r["embedding"], r["distance"], Estimate(float(r["score"])))
                    for r in rows
                    if r["base_model"] == model
                ],
            )
            for model in models
        ]
    )


def draw_halves(shown: Sequence[tuple[str, list[Half]]]) -> Figure:
    """Bars from zero, the difference above each pair; a panel each."""
    fig, axes = panels(len(shown))
    for axis, (title, halves) in zip(axes, shown, strict=True):
        sources = list(dict.fromkeys(h.source for h in halves))
        drawn: dict[str, Any] = {}
        for base in (h for h in halves if h.half == "base"):
            level(axis, "base", base.score)
            sources.remove(base.source)
        for place, source in enumerate(sources):
            pair = sorted((h for h in halves if h.source == source), key=lambda h: h.half)
            top = 0.0
            for side, half in enumerate(pair):
                kind = half.half.removeprefix("random-")
                colour, hatch = FAR_NEAR.get(kind, ("#E69F00", "xx"))
                x = place + 0.36 * (side - (len(pair) - 1) / 2)
                name = f"random {kind}" if kind in ("a", "b") else kind
                if half.score is None:
                    mark_missing(axis, x, {"color": "black", "marker": "o"})
                    continue
                look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "black" if not hatch else "white"}
                bar = axis.bar(x, half.score.mean, 0.34, yerr=bars_of(half.score), ecolor="black", **look)
                drawn.setdefault(name, bar)
                top = max(top, half.score.mean, *_limits(half.score))
            scores = [h.score.mean for h in pair if h.score is not None]
            if len(scores) == 2 == len(pair):
                axis.text(place, top + 1.5, f"{scores[1] - scores[0]:+.1f}", ha="center", va="bottom", fontsize=8)
        axis.set_xticks(range(len(sources)), [textwrap.fill(source, 13) for source in sources], fontsize=7)
        axis.tick_params(axis="x", length=0)
        axis.set(ylabel=SCORE, title=title, xlim=(-0.6, len(sources) - 0.4))
        axis.set_ylim(0, axis.get_ylim()[1] * 1.06)
        axis.grid(axis="x", visible=False)
        below(axis, list(drawn.values()), list(drawn), ncols=4, handlelength=1.4)
    return fig


# 3: best of n


def best_of_n(inputs: Inputs) -> Drawn:
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


def best_of_n_paper(inputs: Inputs) -> Drawn:
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


# 4: precision against number of facts


def precision_facts(inputs: Inputs) -> Drawn:
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
                marks = {(column.task, r.n, *_stages(r, "score")) for r in rows}
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
            corners = [(x, y) for x in (facts.mean, *_limits(facts)) for y in (score.mean, *_limits(score))]
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


def _stages(row: Row, role: str) -> list[str]:
    return sorted({stage for cell in row.cells.values() if (stage := cell.stages.get(role)) is not None})


def widest(shown: Sequence[tuple[set[Any], Panel]]) -> list[Panel]:
    """Panels in order, without those that show a part of what another shows (the first, where they show the same)."""
    kept: list[int] = []
    for i, (marks, _) in enumerate(shown):
        if not any(marks < other or (marks == other and j < i) for j, (other, _) in enumerate(shown) if j != i):
            kept.append(i)
    return [shown[i][1] for i in kept]


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


def looks_of(rows: Sequence[Row]) -> tuple[dict[str, dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
    """Row name to its look, and the legend. One look a row; with several axes and many rows the first axis decides the
    colour and the others marker and line, so that the legend stays short."""
    axes = [key for key in rows[0].labels if len({r.labels.get(key) for r in rows}) > 1]
    if len(axes) < 2 or len(rows) <= 6:
        axes = axes or [key for key in rows[0].labels if key != "n"]
        names = [", ".join(dict.fromkeys(r.labels.get(k, "") for k in axes)) for r in rows]
        looks = [style_of(i) for i in range(len(rows))]
        return {r.name: look for r, look in zip(rows, looks, strict=True)}, list(zip(names, looks, strict=True))

    def named(row: Row, keys: Sequence[str]) -> str:
        shown = [row.labels.get(key, "") for key in keys]
        return ", ".join(dict.fromkeys(f"{k} {v}" if v[:1].isdigit() else v for k, v in zip(keys, shown, strict=True)))

    first = list(dict.fromkeys(named(r, axes[:1]) for r in rows))
    rest = list(dict.fromkeys(named(r, axes[1:]) for r in rows))
    found = {}
    for row in rows:
        colour = style_of(first.index(named(row, axes[:1])))["color"]
        found[row.name] = style_of(rest.index(named(row, axes[1:]))) | {"color": colour}
    plain = {"marker": "", "linestyle": "-", "color": "black"}
    legend = [(name, plain | {"color": style_of(i)["color"], "linewidth": 3}) for i, name in enumerate(first)]
    legend += [(name, style_of(i) | {"color": "black"}) for i, name in enumerate(rest)]
    return found, legend


def put_legend(axis: Axes, legend: Sequence[tuple[str, Mapping[str, Any]]], *, lines: bool) -> int:
    """Legend below the panel; returns how many lines it has. lines: whether line styles mean something, else markers
    do."""
    handles = []
    for _, look in legend:
        plain = {"marker": ""} if lines else {"linestyle": "none"} if look["marker"] else {}
        handles.append(Line2D([], [], **{**look, **plain}))
    names = [name for name, _ in legend]
    width = axis.figure.get_size_inches()[0] / axis.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    fit = max(1, int(15 * width) // (max(map(len, names)) + 8))  # columns of that width in a panel
    columns = min(fit, 2 if len(names) > 3 else 3)
    below(axis, handles, names, ncols=columns)
    return math.ceil(len(names) / columns)


def below(axis: Axes, handles: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A legend under the panel's labels, at a fixed distance whatever the panel's height."""
    points = 30 if axis.get_xlabel() else 16
    lower = matplotlib.transforms.ScaledTranslation(0, -points / 72, axis.figure.dpi_scale_trans)
    place: dict[str, Any] = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, 0),
        "bbox_transform": axis.transAxes + lower,
    }
    axis.legend(handles, names, fontsize=7, columnspacing=1.0, **place, **options)


# 5: reward margins in training


def reward_margins(inputs: Inputs) -> Drawn:
    """Reward margin of chosen over rejected against optimiser steps, mean over seeds, with its t interval at the last
    step where the curves are few. An experiment whose trainings all stand in another's panel is left out; losses whose
    margin is a mean over tokens have a panel of their own."""
    by_stage = {stage: part.set_index("step")["margin"] for stage, part in inputs.results.margins.groupby("stage")}
    shown: list[tuple[set[Any], tuple[str, list[Row]]]] = []
    for table in inputs.tables:
        for experiment in table.experiments:
            trained: dict[tuple[str, ...], Row] = {}
            for row in table.rows:
                stages = tuple(stage for stage in _stages(row, "train") if stage in by_stage)
                if row.experiment is experiment and stages:
                    trained.setdefault(stages, row)
            if trained:
                shown.append((set(trained), (experiment.title, list(trained.values()))))
    if not shown:
        return "no reward margins (loss_curve.jsonl of the train stages, margins.csv of a collected folder)"
    parts = [part for title, rows in widest(shown) for part in _by_unit(inputs.results, title, rows)]
    fig, axes = panels(len(parts), columns=3, width=SMALL)
    entries: list[int] = []
    for axis, (title, unit, rows) in zip(axes, parts, strict=True):
        looks, legend = looks_of(rows)
        ends: Counter[int] = Counter()
        for row in rows:
            curves = [by_stage[stage] for stage in _stages(row, "train") if stage in by_stage]
            steps = sorted(set.intersection(*(set(curve.index) for curve in curves)))
            found = [over_seeds(curve[step] for curve in curves) for step in steps]
            axis.plot(steps, [e.mean for e in found], **looks[row.name] | {"marker": ""}, lw=1.0)
            if len(rows) <= MANY and (bars := bars_of(found[-1])) is not None:
                options = {"color": looks[row.name]["color"], "elinewidth": 0.9, "capsize": 1.5, "clip_on": False}
                options["transform"] = axis.transData + moved(axis, 2.5 + 3.5 * ends[steps[-1]])
                axis.errorbar([steps[-1]], [found[-1].mean], bars, fmt="none", **options)
                axis.update_datalim([(steps[-1], v) for v in _limits(found[-1])])
                ends[steps[-1]] += 1
        axis.autoscale_view()
        axis.axhline(0, color="black", lw=0.6)
        axis.set(xlabel="optimiser step", ylabel=unit)
        small_title(axis, title)
        entries.append(put_legend(axis, legend, lines=True))
    fit_heights(axes, entries)
    return fig


def _by_unit(results: Results, title: str, rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Title, unit and rows of the panels of an experiment."""
    for per_token, unit in ((False, "reward margin"), (True, "margin, mean over tokens")):
        if group := [row for row in rows if (_loss(results, row) in NORMALISED) is per_token]:
            yield title, unit, group


def _loss(results: Results, row: Row) -> str:
    record = results.stages.get(next(iter(_stages(row, "train")), ""), {})
    return str(((record.get("settings") or {}).get("arguments") or {}).get("preference_loss", ""))


# 6: gain against distance


def gain_distance(inputs: Inputs) -> Drawn:
    """Gain of each test topic against its distance to the nearest training topics (analysis.hypothesis)."""
    files = sorted((inputs.results.root / "hypothesis").glob("*.csv"))
    if not files:
        return "no points in hypothesis/*.csv (python -m analysis.hypothesis)"
    fig, axes = panels(len(files))
    for axis, file in zip(axes, files, strict=True):
        points = read_points(file)
        summary = _summary(file.with_suffix(".json"))
        fit = summary.get("fit", {})
        for place, seed in enumerate(sorted({p.seed for p in points})):
            part = [p for p in points if p.seed == seed]
            look = {"color": style_of(place)["color"], "marker": style_of(place)["marker"]}
            x, y = [p.distance for p in part], [100 * p.gain for p in part]
            axis.plot(x, y, ls="none", ms=3, mfc="none", mew=0.7, alpha=0.8, label=f"seed {seed}", **look)
        axis.axhline(0, color="black", lw=0.6)
        cell = ", ".join(map(str, (summary.get("cell") or {}).values()))
        title = f"{summary['experiment']}: {cell}" if cell and "experiment" in summary else file.stem
        title = f"{textwrap.fill(title, LENGTH)}\n{summary.get('embedding', '')}".strip()
        if fit:
            ends = [min(p.distance for p in points), max(p.distance for p in points)]
            line = [100 * (fit["mean_gain"] + fit["slope"] * (d - fit["mean_distance"])) for d in ends]
            axis.plot(ends, line, color="black", lw=1.6, ls="-", marker="")
            each = [100 * v for v in (fit["slope_per_sd"], *fit["slope_per_sd_ci95"])]
            title += f": {each[0]:+.1f} [{each[1]:+.1f}, {each[2]:+.1f}] points per s.d."
        axis.set(xlabel="distance to the nearest training topics", ylabel="gain (points)", title=title)
        below(axis, *axis.get_legend_handles_labels(), ncols=4, handletextpad=0.1)
    return fig


def _summary(file: Path) -> dict[str, Any]:
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        raise HarnessError(f"{file}: not a summary of analysis.hypothesis; write it again")
    return found


# 7: coverage


def coverage(inputs: Inputs) -> Drawn:
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


FIGURES: dict[str, Callable[[Inputs], Drawn]] = {
    "scaling": scaling,
    "scaling_paper": scaling_paper,
    "near_far": near_far,
    "near_far_paper": near_far_paper,
    "best_of_n": best_of_n,
    "best_of_n_paper": best_of_n_paper,
    "precision_facts": precision_facts,
    "reward_margins": reward_margins,
    "gain_distance": gain_distance,
    "coverage": coverage,
}


def draw(inputs: Inputs, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Write NAME.pdf and NAME.png for every figure; returns the files, and name to reason of those without data."""
    written, skipped = [], {}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with plt.rc_context():
        plt.style.use(STYLE)
        for name, make in FIGURES.items():
            found = make(inputs)
            if isinstance(found, str):
                skipped[name] = found
                continue
            for ending, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
                with writing(out / f"{name}{ending}"):
                    found.savefig(out / f"{name}{ending}", metadata=metadata)
                written.append(out / f"{name}{ending}")
            plt.close(found)
    return written, skipped


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=str(__doc__).split("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="a sweep's store, or its collected files")
    parser.add_argument("--out", type=Path, help="default: RESULTS/figures")
    parser.add_argument("--paper", type=Path, default=PAPER, help="published numbers (default: results/paper)")
    parser.add_argument("--mixed-judges", action="store_true", help="allow several judges in one figure")
    args = parser.parse_args(argv)
    results = load_results(args.results)
    tables = build(results, args.paper, mixed_judges=args.mixed_judges)
    written, skipped = draw(Inputs(results, tables), args.out or args.results / "figures")
    for path in written:
        print(path)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
