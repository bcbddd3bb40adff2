"""Local workers that are killed, alone or with what started them; options of Slurm where there is no Slurm."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep import executor
from factuality_harness.training.sweep.executor import run_workers, slurm_parameters
from factuality_harness.training.sweep.store import Store
from tests.helpers import doze


def run(root: Path, workers: int = 2, work=doze.doze) -> None:
    run_workers(
        root, root / "plan.json", executor="local", workers=workers, options={}, log_folder=root / "logs", work=work
    )


def run_as_in_a_terminal(root: Path) -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, which their children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(root)


@contextlib.contextmanager
def started(root: Path) -> Iterator[multiprocessing.Process]:
    """The same in another process, so that it can be killed."""
    process = multiprocessing.get_context("fork").Process(target=run_as_in_a_terminal, args=[root])
    process.start()
    yield process
    process.kill()


def all_done(root: Path, stages: int) -> bool:
    return all(Store(root).done(f"base-{i:012d}") for i in range(stages))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_takes_its_child_along_and_the_sweep_finishes(tmp_path, capfd, workers):
    doze.doze_plan(tmp_path, stages=5, slow=1)

    def kill() -> None:
        doze.wait_for(lambda: doze.sleepers(tmp_path))
        os.kill(doze.sleepers(tmp_path)[0]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run(tmp_path, workers)
    killer.join()
    assert all_done(tmp_path, 5)
    assert not doze.lives(doze.sleepers(tmp_path)[0]["child"])
    if workers == 1:  # of two, the other may do the rest before the death is noticed
        assert "worker replaced: job " in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_what_started_them_and_the_same_command_goes_on(tmp_path, how):
    doze.doze_plan(tmp_path, stages=4, slow=2)
    with started(tmp_path) as process:
        doze.wait_for(lambda: len(doze.sleepers(tmp_path)) == 2)
        assert process.pid is not None
        os.kill(process.pid, how)
        process.join(timeout=30)
    assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 128 + 15, signal.SIGINT: 1}[how]
    pids = [sleeper[key] for sleeper in doze.sleepers(tmp_path) for key in ("pid", "child")]
    doze.wait_for(lambda: not any(doze.lives(pid) for pid in pids), seconds=5)
    assert not all_done(tmp_path, 4)
    run(tmp_path)
    assert all_done(tmp_path, 4)


def stillborn(store_root: Path, plan_file: Path) -> None:
    raise ValueError("nothing works here")


@pytest.mark.slow
def test_workers_that_keep_dying_are_reported_with_the_end_of_their_log(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "RESTARTS", 1)
    doze.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    doze.doze_plan(tmp_path)
    with pytest.raises(HarnessError, match=r"2 workers died .* ValueError: nothing works here"):
        run(tmp_path, workers=1, work=stillborn)


def test_no_worker_starts_when_all_is_done(tmp_path):
    doze.doze_plan(tmp_path, stages=2, slow=0)
    doze.doze(tmp_path, tmp_path / "plan.json")
    run(tmp_path)
    assert not (tmp_path / "logs").exists()


def test_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert executor._deal_devices(1) == ["4,5,6,7"]
    assert executor._deal_devices(3) == ["4,7", "5", "6"]
    assert executor._deal_devices(5) == ["4", "5", "6", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert executor._deal_devices(2) == ["", ""]


def test_slurm_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    doze.doze_plan(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match="no sbatch here"):
        run_workers(
            tmp_path,
            tmp_path / "plan.json",
            executor="slurm",
            workers=1,
            options={},
            log_folder=tmp_path,
            work=doze.doze,
        )


def test_slurm_options():
    parameters = slurm_parameters({"time": "4", "gpus-per-node": "2", "cpus_per_task": "8", "exclusive": ""})
    assert parameters == {
        "timeout_min": 4,
        "slurm_signal_delay_s": 60,
        "slurm_srun_args": ["--cpus-per-task=8"],
        "slurm_additional_parameters": {
            "requeue": True,
            "gpus_per_node": "2",
            "cpus_per_task": "8",
            "exclusive": True,
        },
    }
    assert slurm_parameters({"setup": "module load cuda"})["slurm_setup"] == ["module load cuda"]


@pytest.mark.parametrize(
    "options",
    [
        {"time": "1:00:00"},
        {"time": "0"},
        {"nodes": "2"},
        {"ntasks-per-node": "8"},
        {"": "x"},
        {"-p": "gpu"},
        {"no-requeue": ""},
        {"output": "log"},
        {"signal": "USR1"},
    ],
)
def test_slurm_options_that_cannot_work(options):
    with pytest.raises(HarnessError, match=f"option {next(iter(options)).replace('-', '_')}="):
        slurm_parameters(options)


def test_slurm_options_are_not_for_local_workers(tmp_path):
    doze.doze_plan(tmp_path)
    with pytest.raises(HarnessError, match="partition"):
        run_workers(
            tmp_path,
            tmp_path / "plan.json",
            executor="local",
            workers=1,
            options={"partition": "gpu"},
            log_folder=tmp_path,
            work=doze.doze,
        )
