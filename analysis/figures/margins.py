"""Reward margins in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from factuality_harness.analysis.figures.inputs import Inputs, stages_of, widest
from factuality_harness.analysis.figures.style import (
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
from factuality_harness.analysis.intervals import over_seeds
from factuality_harness.analysis.results import Results
from factuality_harness.analysis.tables.model import Row

MANY = 6  # curves in a panel from which on intervals would hide them
NORMALISED = ("sepo",)  # losses whose margin is a mean over tokens, not a sum: another unit


def reward_margins(inputs: Inputs) -> Figure | str:
    """Reward margin of chosen over rejected against optimiser steps, mean over seeds, with its t interval at the last
    step where the curves are few. An experiment whose trainings all stand in another's panel is left out; losses whose
    margin is a mean over tokens have a panel of their own."""
    by_stage = {stage: part.set_index("step")["margin"] for stage, part in inputs.results.margins.groupby("stage")}
    shown: list[tuple[set[Any], tuple[str, list[Row]]]] = []
    for table in inputs.tables:
        for experiment in table.experiments:
            trained: dict[tuple[str, ...], Row] = {}
            for row in table.rows:
                stages = tuple(stage for stage in stages_of(row, "train") if stage in by_stage)
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
            curves = [by_stage[stage] for stage in stages_of(row, "train") if stage in by_stage]
            steps = sorted(set.intersection(*(set(curve.index) for curve in curves)))
            found = [over_seeds(curve[step] for curve in curves) for step in steps]
            axis.plot(steps, [e.mean for e in found], **looks[row.name] | {"marker": ""}, lw=1.0)
            if len(rows) <= MANY and (bars := bars_of(found[-1])) is not None:
                options = {"color": looks[row.name]["color"], "elinewidth": 0.9, "capsize": 1.5, "clip_on": False}
                options["transform"] = axis.transData + moved(axis, 2.5 + 3.5 * ends[steps[-1]])
                axis.errorbar([steps[-1]], [found[-1].mean], bars, fmt="none", **options)
                axis.update_datalim([(steps[-1], v) for v in limits_of(found[-1])])
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
    record = results.stages.get(next(iter(stages_of(row, "train")), ""), {})
    return str(((record.get("settings") or {}).get("arguments") or {}).get("preference_loss", ""))
