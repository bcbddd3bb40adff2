"""Reward margins: means over seeds, each training once, each unit by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.margins import reward_margins
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from tests.helpers.stores import NEAR, StoreBuilder, questions


def test_reward_margins_are_means_over_seeds(inputs: Inputs) -> None:
    axis = next(a for a in reward_margins(inputs).axes if a.get_title() == "table02 mask")
    margins = inputs.results.margins
    stages = [f"train-table02_mask-w_o_mask-{seed}" for seed in (0, 1, 2)]
    end = margins[margins.stage.isin(stages) & (margins.step == 100)].margin
    assert len(end) == 3
    assert axis.lines[0].get_ydata()[-1] == pytest.approx(end.mean())
    (first,) = axis.containers[0].get_children()[-1:]  # the interval at the end of the first curve
    low, high = stats.t.interval(0.95, 2, end.mean(), stats.sem(end))
    assert sorted(y for _, y in first.get_segments()[0]) == [pytest.approx(low), pytest.approx(high)]
    assert len(axis.containers) == 2  # one of each of the two trained rows, none of the base
    assert not any(part.get_clip_on() for c in axis.containers for part in c.get_children())  # right of the axis


def one_training(root: Path, name: str, kept: str) -> None:
    """Make the trained cells of an experiment those of another, seed by seed."""
    file = root / "experiments" / f"{name}.json"
    data = json.loads(file.read_text())
    for cell in data["cells"]:
        cell["stages"]["train"] = f"train-{kept}-{cell['seed']}"
    file.write_text(json.dumps(data))


def test_margins_show_each_training_once_and_each_unit_by_itself(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    for name, number, axis, values in (
        ("methods", 8, "method", ["DPO", "SePO", "Mask-DPO"]),
        ("temperature", 11, "temperature", ["0.25", "0.5"]),
    ):
        builder.experiment(
            name, {axis: values}, lambda *_: {NEAR: questions(4)}, table={"number": number, "columns": {"score": NEAR}}
        )
    one_training(tmp_path, "temperature", "methods-Mask-DPO")
    for file in (tmp_path / "stages").glob("train-methods-SePO-*/stage.json"):
        record = json.loads(file.read_text())
        record["settings"]["arguments"] = {"preference_loss": "sepo"}
        file.write_text(json.dumps(record))
    results = load_results(tmp_path)
    inputs = Inputs(results, build_tables(results))
    shown = [a for a in reward_margins(inputs).axes if a.get_visible()]
    assert [(a.get_title(), a.get_ylabel()) for a in shown] == [
        ("methods", "reward margin"),
        ("methods", "margin, mean over tokens"),
    ]
    assert [[t.get_text() for t in a.get_legend().texts] for a in shown] == [["DPO", "Mask-DPO"], ["SePO"]]
    inputs.tables[:] = [t for t in inputs.tables if t.number == 11]
    (alone, *_) = reward_margins(inputs).axes
    assert (alone.get_title(), len(alone.containers)) == ("temperature", 1)  # alone, the one training there is
