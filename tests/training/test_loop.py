"""The loop's table and figure from lm_eval's result files; the loop itself is `make demo`."""

import json

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.loop import MODELS, SETUPS, figure, step, table

TASKS = {"near, greedy": "world_factuality_near", "near, sampled": "world_factuality_near_sampled"}


def results(folder, factuality):
    metrics = {
        "factuality": factuality,
        "factuality_ci95_low": factuality - 0.1,
        "factuality_ci95_high": factuality + 0.1,
    }
    metrics |= {"correct": 30, "incorrect": 10, "nofact_rate": 0.1, "unparsed_rate": 0.0, "sentences_per_response": 4.0}
    data = {
        "results": {task: {f"{name},annotation": value for name, value in metrics.items()} for task in TASKS.values()},
        "n-samples": {task: {"effective": 10} for task in TASKS.values()},
        "configs": {task: {"repeats": 4 if "sampled" in task else 1} for task in TASKS.values()},
    }
    folder.mkdir(parents=True)
    (folder / "results_2026.json").write_text(json.dumps(data))


def test_the_table_has_a_row_a_model_and_task(tmp_path):
    for number, model in enumerate(MODELS):
        results(tmp_path / "lm_eval" / model / "x", 0.4 + number / 10)
    scores = table(tmp_path, TASKS)
    assert len(scores) == len(MODELS) * len(TASKS)
    row = scores[(scores.model == "Mask-DPO") & (scores.topics == "near, sampled")].iloc[0]
    assert (row.factuality, row.responses) == (pytest.approx(0.6), 40)
    figure(scores, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_step_says_which(capfd):
    with pytest.raises(HarnessError, match=r"training\.masks failed"):
        step("training.masks", "--absent")
    assert "$ python -m training.masks --absent" in capfd.readouterr().out


def test_the_setups_name_their_recipes():
    assert set(SETUPS) == {"world", "smollm2"}
