"""Several processes: each rank judges its share, and the metrics are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factuality_harness.harness.data import anah

QUESTIONS = 5  # odd: lm_eval fills up one rank's share by asking a question twice


def scores(folder: Path, launcher: list[str], answers: Path) -> dict[str, float]:
    command = [sys.executable, "-m", *launcher, "lm_eval", "--model", "replay", "--model_args", f"responses={answers}"]
    command += ["--tasks", "anah_factuality_mini", "--limit", str(QUESTIONS), "--log_samples"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output_path", str(folder)], cwd=folder.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = folder.rglob("results_*.json")
    (samples,) = folder.rglob("samples_*.jsonl")
    assert len(samples.read_text().splitlines()) == QUESTIONS
    return {k: v for k, v in json.loads(results.read_text())["results"]["anah_factuality_mini"].items() if k != "alias"}


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    with answers.open("w") as out:
        for number, q in enumerate(anah.load_mini()):
            text = q.document if number % 2 else "It was founded in 1234 by Zorblax the Great. " + q.document
            out.write(json.dumps({"question": q.question, "response": text}) + "\n")
    two = scores(tmp_path / "two", ["torch.distributed.run", "--nproc_per_node", "2", "-m"], answers)
    assert two == scores(tmp_path / "one", [], answers)
    assert 0 < two["factuality,annotation"] < 1
