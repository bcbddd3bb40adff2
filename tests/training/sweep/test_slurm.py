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
from factuality_harness.training.sweep.executor import run_workers
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


def run(root: Path, workers: int = 2, **options: str) -> None:
    run_workers(
        root,
        root / "plan.json",
        executor="slurm",
        workers=workers,
        options=options,
        log_folder=root / "logs",
        work=doze.doze,
    )


def scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], check=True, capture_output=True, text=True).stdout


def restarts(job: str) -> int:
    return int(re.search(r"Restarts=(\d+)", scontrol("show", "job", job))[1])


def queue() -> str:
    return subprocess.run(["squeue", "--noheader"], check=True, capture_output=True, text=True).stdout


def hurry(job: str) -> None:
    """Spare the test the two minutes that Slurm lets a job wait before it starts again."""
    doze.wait_for(lambda: "JobState=PENDING" in scontrol("show", "job", job))
    scontrol("update", f"JobId={job}", "StartTime=now+5")  # the old one must be gone by then


def killed_step(job: str) -> None:
    subprocess.run(["scancel", "--signal=KILL", f"{job}.0"], check=True)


def time_nearly_up(job: str) -> None:
    subprocess.run(["scancel", "--signal=USR2", f"{job}.0"], check=True)  # what Slurm itself sends


def requeued(job: str) -> None:
    scontrol("requeue", job)


@pytest.mark.parametrize("disturb", [killed_step, time_nearly_up, requeued])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_the_scheduler_stops_goes_on(tmp_path, disturb, workers):
    doze.doze_plan(tmp_path, stages=4, slow=1)
    met = []

    def meddle() -> None:
        doze.wait_for(lambda: doze.sleepers(tmp_path))
        met.append(doze.sleepers(tmp_path)[0])
        disturb(met[0]["job"])
        if workers == 1 and disturb is not killed_step:  # of two, the other may do all the rest
            hurry(met[0]["job"])

    thread = threading.Thread(target=meddle)
    thread.start()
    run(tmp_path, workers)
    thread.join()
    store = Store(tmp_path)
    assert all(store.done(f"base-{i:012d}") for i in range(4))
    assert not doze.lives(met[0]["child"])
    doze.wait_for(lambda: queue() == "")
    if workers == 1:
        jobs = {re.match(r"\d+", path.name)[0] for path in tmp_path.glob("logs/*/*_submitted.pkl")}
        if disturb is killed_step:
            assert len(jobs) == 2, "the dead worker was replaced"
        else:
            assert jobs == {met[0]["job"]} and restarts(met[0]["job"]) == 1


def test_a_real_time_limit(tmp_path):
    doze.doze_plan(tmp_path, stages=2, slow=1, seconds=600)
    process = multiprocessing.get_context("fork").Process(target=run, args=[tmp_path, 1], kwargs={"time": "1"})
    process.start()
    doze.wait_for(lambda: doze.sleepers(tmp_path))
    job = doze.sleepers(tmp_path)[0]["job"]
    doze.wait_for(lambda: restarts(job) == 1, seconds=150)
    hurry(job)
    process.join(timeout=60)
    assert process.exitcode == 0
    log = next(tmp_path.glob(f"logs/*/{job}_0_log.err")).read_text()
    assert "Caught signal SIGUSR2" in log and "DUE TO TIME LIMIT" not in log


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_outlive_a_kill_but_not_an_orderly_end_and_the_same_command_goes_on(tmp_path, how):
    doze.doze_plan(tmp_path, stages=4, slow=2, seconds=10)
    process = multiprocessing.get_context("fork").Process(target=run, args=[tmp_path])
    process.start()
    doze.wait_for(lambda: len(doze.sleepers(tmp_path)) == 2)
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(timeout=30)
    if how == signal.SIGTERM:
        doze.wait_for(lambda: queue() == "", seconds=10)
        assert not Store(tmp_path).done("base-000000000000")
    else:
        assert len(queue().splitlines()) == 2
    run(tmp_path)
    assert all(Store(tmp_path).done(f"base-{i:012d}") for i in range(4))
    doze.wait_for(lambda: queue() == "")


def test_what_sbatch_says_is_the_error(tmp_path, capfd):
    doze.doze_plan(tmp_path)
    with pytest.raises(HarnessError, match=r"sbatch refuses the job: .*invalid partition specified: nowhere"):
        run(tmp_path, partition="nowhere")
    assert "invalid partition" not in capfd.readouterr().err
    assert queue() == ""


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
def test_a_sweep_one_of_whose_cells_is_killed_and_queued_again(tmp_path):
    experiment, store = tmp_path / "temperatures.yaml", Store(tmp_path / "store")
    experiment.write_text(EXPERIMENT)
    command = [sys.executable, "-m", "factuality_harness", "sweep"]
    places = [str(experiment), "--store", str(store.root)]
    slurm = ["--executor", "slurm", "--workers", "2", "--slurm", "time=10", "partition=test", "cpus_per_task=1"]
    sweep = subprocess.Popen(
        [*command, "run", *places, *slurm],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # The first stage, the base model, is one that every cell needs.
        doze.wait_for(lambda: list(store.root.glob("claims/base-*")), seconds=600)
        claim = json.loads(next(store.root.glob("claims/base-*")).read_text())
        job = re.search(r"JobId=(\d+)", scontrol("pidinfo", str(claim["pid"])).replace("Slurm JobId", "JobId"))[1]
        requeued(job)
        hurry(job)
        output, _ = sweep.communicate(timeout=800)
    finally:
        sweep.terminate()
    assert sweep.returncode == 0, output
    assert "3 done of 3 cells" in output
    assert restarts(job) == 1
    status = subprocess.run([*command, "status", *places], cwd=ROOT, capture_output=True, text=True)
    assert status.stdout.splitlines() == ["temperatures: 3 done of 3 cells", "stages: 13 done"]
    cells = json.loads((store.root / "experiments" / "temperatures.json").read_text())["cells"]
    for cell in cells:
        assert list(store.folder(cell["stages"]["score"]).glob("lm_eval/**/results_*.json"))
