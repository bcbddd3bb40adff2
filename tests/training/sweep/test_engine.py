"""Runs on this machine that are killed, alone or with what started them; options of jobs where there is no queue."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep import cluster
from factuality_harness.training.sweep.cluster import check_executor, job_settings
from factuality_harness.training.sweep.engine import MOST_DEATHS, run_stages
from factuality_harness.training.sweep.plan import Plan, Stage
from factuality_harness.training.sweep.store import Store
from tests.helpers import doze


def run(root: Path, plan: Plan, workers: int = 2) -> None:
    run_stages(plan, Store(root), workers=workers, work=doze.doze)


def run_as_in_a_terminal(root: Path, plan: Plan) -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, which their children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(root, plan)


def started(root: Path, plan: Plan) -> multiprocessing.process.BaseProcess:
    """The same in another process, so that it can be killed."""
    process = multiprocessing.get_context("spawn").Process(target=run_as_in_a_terminal, args=[root, plan])
    process.start()
    return process


def whole(root: Path, plan: Plan) -> bool:
    store = Store(root)
    return all((store.folder(name) / "slept").exists() and store.done(name) for name in plan.stages)


def at_rest(root: Path) -> bool:
    """Nobody that slept is left."""
    return not any(doze.lives(sleeper[key]) for sleeper in doze.sleepers(root) for key in ("pid", "child"))


@pytest.mark.slow
def test_a_killed_stage_is_run_again_and_what_it_started_ends(tmp_path, capfd):
    plan = doze.doze_plan(stages=3)

    def kill() -> None:
        doze.wait_for(lambda: doze.sleepers(tmp_path))
        os.kill(doze.sleepers(tmp_path)[0]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run(tmp_path, plan)
    killer.join()
    assert whole(tmp_path, plan) and at_rest(tmp_path)
    assert "base-000000000000 ended by SIGKILL and is run again" in capfd.readouterr().err
    assert not any(Store(tmp_path).running(name) for name in plan.stages)


def tells(stage: Stage, store: Store) -> None:
    print(f"SAID={os.environ.get('SAID')} GPUS={os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)
    doze.doze(stage, store)


@pytest.mark.slow
def test_stages_see_the_environment_of_their_run_and_their_own_gpus(tmp_path, monkeypatch):
    """A fork server outlives the run that started it, and so what its environment was then."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6")
    for said in ("one", "two"):
        monkeypatch.setenv("SAID", said)
        plan = doze.doze_plan(stages=1, slow=0)
        run_stages(plan, Store(tmp_path / said), workers=1, work=tells)
        assert f"SAID={said} GPUS=6" in Store(tmp_path / said).log(*plan.stages).read_text()


def dies(stage: Stage, store: Store) -> None:
    if stage.kind == "base":
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    doze.doze(stage, store)


@pytest.mark.slow
def test_a_stage_that_keeps_dying_or_fails_stops_only_what_depends_on_it(tmp_path):
    dead, refused, after, apart = (f"{kind}-0" for kind in ("base", "questions", "pair", "select"))
    plan = Plan(
        stages={
            dead: Stage("base", dead, {"seconds": 0}, {}),
            refused: Stage("questions", refused, {"seconds": 0, "fails": "no such file"}, {}),
            after: Stage("pair", after, {"seconds": 0}, {"a": dead, "b": apart}),
            apart: Stage("select", apart, {"seconds": 0}, {}),
        }
    )
    run_stages(plan, (store := Store(tmp_path)), workers=2, work=dies)
    assert f"ended by SIGKILL {MOST_DEATHS} times without a message" in str(store.failure(dead))
    assert store.log(dead).read_text().count("about to die") == MOST_DEATHS
    assert store.failure(refused) == "no such file"
    assert store.failure(after) == f"needs {dead}, which failed"
    assert store.done(apart)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphan_computes_on_and_the_same_command_goes_on(tmp_path, how):
    plan = doze.doze_plan(stages=3, slow=2)
    process = started(tmp_path, plan)
    doze.wait_for(lambda: len(doze.sleepers(tmp_path)) == 2)
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(timeout=30)
    assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 128 + 15, signal.SIGINT: 1}[how]
    doze.wait_for(lambda: at_rest(tmp_path), seconds=5)
    assert not whole(tmp_path, plan)
    run(tmp_path, plan)
    assert whole(tmp_path, plan)


@pytest.mark.slow
def test_two_runs_on_one_store_share_the_work(tmp_path):
    """The second skips what the first computes, does the rest, and waits."""
    plan = doze.doze_plan(stages=5, seconds=4)
    first = started(tmp_path, plan)
    doze.wait_for(lambda: doze.sleepers(tmp_path))
    assert Store(tmp_path).running("base-000000000000")
    run(tmp_path, plan)
    first.join(timeout=60)
    assert first.exitcode == 0 and whole(tmp_path, plan)
    logs = [Store(tmp_path).log(name).read_text().count(" begins on ") for name in plan.stages]
    assert logs == [1] * 5


def test_no_worker_starts_when_all_is_done(tmp_path, monkeypatch):
    plan = doze.doze_plan(stages=2, slow=0)
    for stage in plan.stages.values():
        doze.doze(stage, Store(tmp_path))
    monkeypatch.setattr("factuality_harness.training.sweep.engine.open_cluster", None)
    run(tmp_path, plan)


def test_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert cluster.deal_devices(1) == ["4,5,6,7"]
    assert cluster.deal_devices(3) == ["4,7", "5", "6"]
    assert cluster.deal_devices(5) == ["4", "5", "6", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cluster.deal_devices(2) == ["", ""]


@pytest.mark.parametrize(("executor", "program"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")])
def test_a_queue_is_asked_for_where_it_is_missing(tmp_path, monkeypatch, executor, program):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match=f"no {program} here"):
        check_executor(executor, {})


def test_options_of_jobs():
    given = {"time": "4", "gpus-per-node": "2", "cpus_per_task": "8", "exclusive": "", "setup": "module load cuda"}
    found = job_settings("slurm", given)
    assert found["job_extra_directives"] == ["--no-requeue", "--gpus-per-node=2", "--exclusive"]
    assert (found["cores"], found["walltime"]) == (8, "00:04:00")
    assert found["worker_extra_args"][-2:] == ["--lifetime", "180s"]  # a minute is left to end in
    assert found["job_script_prologue"][-1] == "module load cuda"
    assert job_settings("pbs", {"q": "gpu", "time": "1500"})["job_extra_directives"] == ["-r n", "-q gpu"]


@pytest.mark.parametrize(
    "options",
    [
        {"time": "1:00:00"},
        {"time": "0"},
        {"cpus_per_task": "all"},
        {"nodes": "2"},
        {"ntasks-per-node": "8"},
        {"": "x"},
        {"-p": "gpu"},
        {"no-requeue": ""},
        {"output": "log"},
        {"signal": "USR1"},
    ],
)
def test_options_of_jobs_that_cannot_work(options):
    with pytest.raises(HarnessError, match=f"option {next(iter(options)).replace('-', '_')}="):
        job_settings("slurm", options)


def test_options_of_jobs_are_not_for_this_machine():
    with pytest.raises(HarnessError, match="partition"):
        check_executor("local", {"partition": "gpu"})
