"""One look for all figures (`paper.mplstyle`) and the parts they share: panels, lines with intervals, legends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from factuality_harness.analysis.intervals import Estimate
from factuality_harness.analysis.tables.model import Row

STYLE = Path(__file__).with_name("paper.mplstyle")
SCORE = "factuality (%)"
WIDTH = 3.4  # inches a panel
SMALL = 2.7  # inches a panel of those that stand three in a row
LENGTH = 50  # characters a line of a title


@dataclass(slots=True)
class Series:
    """A line. points: x and value in the figure's unit, None where the cell has not run."""

    name: str
    points: list[tuple[float, Estimate | None]]


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
            spread = [v for _, e in shown for v in (e.mean, *limits_of(e))]
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


def limits_of(found: Estimate) -> list[float]:
    """Ends of the interval, none without one."""
    return [v for v in (found.low, found.high) if not math.isnan(v)]


def level(axis: Axes, name: str, found: Estimate | None) -> None:
    """A dotted line at the score of a model that stands beside the series (the base), named right of the panel."""
    if found is not None and not math.isnan(found.mean):
        axis.axhline(found.mean, color="black", lw=0.8, ls=":")
        place: dict[str, Any] = {"xytext": (2, 0), "textcoords": "offset points", "ha": "left", "va": "center"}
        axis.annotate(name, (1, found.mean), xycoords=("axes fraction", "data"), size=7, **place)


def mark_missing(axis: Axes, x: float, look: Mapping[str, Any], shift: float = 0.0, *, word: bool = True) -> None:
    """A hollow mark just above the axis, shifted by points, and above it the word `missing`."""
    on_axis = axis.get_xaxis_transform()
    move = moved(axis, shift)
    axis.plot([x], [0.03], color=look["color"], marker=look["marker"], mfc="none", ls="none", transform=on_axis + move)
    if word:
        axis.text(x, 0.08, "missing", rotation=90, ha="center", va="bottom", fontsize=6, transform=on_axis)


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
