"""Sweeps on a real Slurm (tests/slurm/setup.sh starts one): jobs that the scheduler kills, stops or queues again."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep import engine
from factuality_harness.training.sweep.engine import run_stages
from factuality_harness.training.sweep.plan import Plan
from factuality_harness.training.sweep.store import Store
from tests.helpers import doze
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def slurm():
    if shutil.which("sinfo") is None:
        pytest.skip("no sinfo here; as root, tests/slurm/setup.sh starts a Slurm")
    answer = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, timeout=60)
    if answer.returncode and os.getuid():
        pytest.skip(f"sinfo: {answer.stderr.strip()}, and only root can start a Slurm")
    assert answer.stdout.strip() in ("idle", "mixed", "allocated"), f"run tests/slurm/setup.sh: {answer}"


def run(root: Path, plan: Plan, workers: int = 2, **options: str) -> None:
    run_stages(plan, Store(root), executor="slurm", workers=workers, options=options, work=doze.doze)


def started(root: Path, plan: Plan, workers: int, **options: str) -> multiprocessing.process.BaseProcess:
    """The same in another process."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run, args=[root, plan, workers], kwargs=options)
    process.start()
    return process


def scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], check=True, capture_output=True, text=True).stdout


def queue() -> str:
    return subprocess.run(["squeue", "--noheader"], check=True, capture_output=True, text=True).stdout


def killed(job: str) -> None:
    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)


def cancelled(job: str) -> None:
    subprocess.run(["scancel", job], check=True)


def whole(root: Path, plan: Plan) -> bool:
    return all(Store(root).done(name) for name in plan.stages)


@pytest.mark.parametrize(("disturb", "workers"), [(killed, 1), (cancelled, 1), (cancelled, 2)])
def test_a_job_that_the_scheduler_ends_is_replaced(tmp_path, disturb, workers):
    plan = doze.doze_plan(stages=4)
    met = []

    def meddle() -> None:
        doze.wait_for(lambda: doze.sleepers(tmp_path))
        met.append(doze.sleepers(tmp_path)[0])
        disturb(met[0]["job"])

    thread = threading.Thread(target=meddle)
    thread.start()
    run(tmp_path, plan, workers)
    thread.join()
    assert whole(tmp_path, plan)
    assert not doze.lives(met[0]["child"])
    doze.wait_for(lambda: queue() == "")
    jobs = re.findall(r"job (\d+)", "".join(path.read_text() for path in tmp_path.glob("logs/*.log")))
    assert len({*jobs}) > 1, "the job was replaced"


def test_a_real_time_limit(tmp_path):
    plan = doze.doze_plan(stages=2, slow=1, seconds=600)
    run(tmp_path, plan, 1, time="1")
    assert whole(tmp_path, plan)
    assert len(re.findall(r" begins on ", Store(tmp_path).log("base-000000000000").read_text())) > 1
    assert "DUE TO TIME LIMIT" not in "".join(path.read_text() for path in tmp_path.glob("logs/jobs/*.err"))
    assert not doze.lives(doze.sleepers(tmp_path)[0]["child"])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_end_with_the_run_and_the_same_command_goes_on(tmp_path, how):
    plan = doze.doze_plan(stages=4, slow=2)
    process = started(tmp_path, plan, 2)
    doze.wait_for(lambda: len(doze.sleepers(tmp_path)) == 2)
    assert process.pid is not None
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(timeout=30)
    children = [sleeper["child"] for sleeper in doze.sleepers(tmp_path)]
    doze.wait_for(lambda: not any(map(doze.lives, children)), seconds=10)
    doze.wait_for(lambda: queue() == "", seconds=40)
    assert not whole(tmp_path, plan)
    run(tmp_path, plan)
    assert whole(tmp_path, plan)
    doze.wait_for(lambda: queue() == "")


def test_what_sbatch_says_is_the_error(tmp_path):
    with pytest.raises(HarnessError, match=r"sbatch refuses the job: .*invalid partition specified: nowhere"):
        run(tmp_path, doze.doze_plan(), partition="nowhere")
    assert queue() == ""


def test_jobs_that_never_work_are_given_up_with_the_end_of_their_log(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "MOST_JOBS", 1)
    monkeypatch.setattr(engine, "TEND", 1.0)
    with pytest.raises(HarnessError, match=r"2 jobs ended one after another, .*no such module: cuda"):
        run(tmp_path, doze.doze_plan(), 1, setup="echo no such module: cuda >&2; exit 1")


EXPERIMENT = """
title: Two temperatures and no training, as small as it gets
seeds: [0]
threads: 1
defaults:
  model: world
  world: {clusters: 8}
  base: {steps: 30}
  questions: {part: train, side: near}
  sample: {engine: hf, n: 4, max_tokens: 48, engine_args: {batch_size: 128}}
  judge: world
  pair: {labels: random}
  score: {tasks: [world_factuality_near], arguments: {device: cpu}}
grid:
  temperature:
    none: {train: []}
    "0.7": {sample: {temperature: 0.7}, train: [{recipe: training/recipes/world/dpo.yaml, arguments: {max_steps: 2}}]}
    "1.0": {sample: {temperature: 1.0}, train: [{recipe: training/recipes/world/dpo.yaml, arguments: {max_steps: 2}}]}
"""


@pytest.mark.timeout(1500)
def test_a_sweep_one_of_whose_jobs_is_cancelled(tmp_path):
    experiment, store = tmp_path / "temperatures.yaml", Store(tmp_path / "store")
    experiment.write_text(EXPERIMENT)
    command = [sys.executable, "-m", "factuality_harness", "sweep"]
    places = [str(experiment), "--store", str(store.root)]
    slurm = ["--executor", "slurm", "--workers", "2", "--job", "time=10", "partition=test", "cpus_per_task=1"]
    sweep = subprocess.Popen(
        [*command, "run", *places, *slurm],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # The first stage, the base model, is one that every cell needs.
        doze.wait_for(lambda: list(store.root.glob("logs/base-*.log")), seconds=600)
        doze.wait_for(lambda: re.search(r"job (\d+)", next(store.root.glob("logs/base-*.log")).read_text()))
        cancelled(re.search(r"job (\d+)", next(store.root.glob("logs/base-*.log")).read_text())[1])
        output, _ = sweep.communicate(timeout=800)
    finally:
        sweep.terminate()
    assert sweep.returncode == 0, output
    assert "3 done of 3 cells" in output
    status = subprocess.run([*command, "status", *places], cwd=ROOT, capture_output=True, text=True)
    assert status.stdout.splitlines() == ["temperatures: 3 done of 3 cells", "stages: 13 done"]
    cells = json.loads((store.root / "experiments" / "temperatures.json").read_text())["cells"]
    for cell in cells:
        assert list(store.folder(cell["stages"]["score"]).glob("lm_eval/**/results_*.json"))
