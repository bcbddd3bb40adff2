"""Table 5 as a figure: training on the near half of the topics against the far one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from factuality_harness.analysis.figures.inputs import Inputs, has_run, in_percent, main_column, printed_rows
from factuality_harness.analysis.figures.style import SCORE, bars_of, below, level, limits_of, mark_missing, panels
from factuality_harness.analysis.intervals import Estimate

FAR_NEAR = {"far": ("#56B4E9", "////"), "near": ("#0072B2", ""), "a": ("#BBBBBB", "...."), "b": ("#777777", "")}


@dataclass(slots=True)
class Half:
    """A bar: embedding source, which half, its score in percent."""

    source: str
    half: str
    score: Estimate | None


def near_far(inputs: Inputs) -> Figure | str:
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


def near_far_paper(inputs: Inputs) -> Figure | str:
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
                top = max(top, half.score.mean, *limits_of(half.score))
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
