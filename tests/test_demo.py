"""The demo: its table from a store, and a tiny experiment through it, quietly, resumed and with an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from factuality_harness.analysis.results import load_results
from factuality_harness.demo import EXPERIMENTS, run_quietly, score_table, write_loop
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.command import load_experiments
from factuality_harness.training.sweep.plan import make_plan
from tests.helpers import experiments
from tests.helpers.stores import StoreBuilder, questions

TASKS = {"near, greedy": "world_factuality_near", "far, greedy": "world_factuality_far"}
GRID = {"model": {"base model": {"train": []}, "Mask-DPO": {"train": experiments.TRAINED}}}


def test_a_row_per_task_and_model(tmp_path: Path) -> None:
    right = {"base model": 4, "DPO": 5, "Mask-DPO": 6}
    StoreBuilder(tmp_path).experiment(
        "world",
        {"model": right},
        lambda labels, _: {task: questions(right[labels["model"]]) for task in TASKS.values()},
        table={"kind": "demo", "columns": TASKS},
        seeds=[0],
        base="base model",
    )
    scores = score_table(load_results(tmp_path).experiments["world"])
    assert [*zip(scores["topics"], scores["model"], strict=True)] == [
        (topics, model) for topics in sorted(TASKS) for model in right
    ]
    row = scores.iloc[0]
    assert (row["correct"], row["incorrect"], row["responses"]) == (39, 61, 10)
    assert row["factuality"] == pytest.approx(0.39) and row["low"] < 0.39 < row["high"]
    assert scores["correct"].dtype == int  # written without a decimal point


@pytest.mark.parametrize("setup", EXPERIMENTS)
def test_its_experiments_are_shipped(setup: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(load_experiments([Path(name) for name in EXPERIMENTS[setup]]))
    assert [*plan.missing] == ["missing checkpoint: ./models/smollm2-135m: no such checkpoint folder"]  # fetched before
    kinds = [stage.kind for stage in plan.stages.values()]
    assert kinds.count("train") == 2 and kinds.count("score") == {"world": 4, "smollm2": 3}[setup]


@pytest.mark.slow
def test_a_tiny_loop_says_little_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"kind": "demo", "columns": {"all topics, greedy": "world_factuality"}}
    path = experiments.experiment(tmp_path, table=table, grid=GRID)
    out = tmp_path / "out"
    run_quietly([path], out)
    said = capfd.readouterr()
    assert said.out.splitlines() == [f"8 of 8 stages to run; details in {out / 'log.txt'}"]
    lines = [line for line in said.err.replace("\r", "\n").splitlines() if line.strip()]
    assert lines and not [line for line in lines if "INFO" in line or "WARN" in line], lines
    expected = r".*\[\d\d:\d\d.*\].*|\w+-\w{12} in \S+|\S+pairs\.jsonl: .* pairs kept, .*"  # bars, stages, pairs
    assert [line for line in lines if not re.fullmatch(expected, line)] == []
    run_quietly([path], out)
    assert capfd.readouterr().out.startswith("0 of 8 stages to run")
    write_loop(load_results(out).experiments["tiny"], out, out / "tiny")
    assert {file.name for file in (out / "tiny").iterdir()} == {
        "scores.csv", "scores.png", "before_after.html", "manifest.json"
    }  # fmt: skip
    rows = (out / "tiny" / "scores.csv").read_text().splitlines()[1:]
    assert [",".join(row.split(",")[:3]) for row in rows] == [
        f'"all topics, greedy",{m}' for m in sorted(GRID["model"])
    ]
    assert "before_after.html" in capfd.readouterr().out


def test_an_error_names_its_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "questions.jsonl").write_text("{}\n")
    defaults = {**experiments.TINY, "questions": {"file": str(tmp_path / "questions.jsonl")}}
    defaults["base"] = {"steps": 1, "width": 16, "heads": 1, "feed_forward": 16}
    grid = {"model": {"Mask-DPO": {"train": experiments.TRAINED}}}
    path = experiments.experiment(tmp_path, defaults=defaults, grid=grid)
    with pytest.raises(HarnessError, match="stages are not done"):
        run_quietly([path], tmp_path / "out")
    assert "error in questions-" in capsys.readouterr().err
