"""Gain of each test topic against its distance to the training topics."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.style import LENGTH, below, panels, style_of
from factuality_harness.analysis.hypothesis.points import read_points
from factuality_harness.analysis.results import read_json
from factuality_harness.harness.errors import HarnessError


def gain_distance(inputs: Inputs) -> Figure | str:
    """Gain of each test topic against its distance to the nearest training topics (factuality hypothesis)."""
    files = sorted((inputs.results.root / "hypothesis").glob("*.csv"))
    if not files:
        return "no points in hypothesis/*.csv (factuality hypothesis)"
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
        raise HarnessError(f"{file}: not a summary of `factuality hypothesis`; write it again")
    return found
