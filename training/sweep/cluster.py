"""Where stages run: Dask workers on this machine, or jobs of a queueing system through dask-jobqueue."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import dask
import distributed
from distributed.deploy.spec import SpecCluster

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.schema import Executor

QUEUES: dict[str, tuple[str, str, str]] = {  # class of dask-jobqueue, program that submits, how it is told to try again
    "slurm": ("SLURMCluster", "sbatch", "--no-requeue"),
    "pbs": ("PBSCluster", "qsub", "-r n"),
    "lsf": ("LSFCluster", "bsub", "-rn"),
    "sge": ("SGECluster", "qsub", "-r n"),
}
MINUTES = 24 * 60  # time limit of a job that names none
ONE_TASK = ("nodes", "ntasks", "ntasks_per_node", "array")  # a worker is one process; more of them is `workers`
OURS = ("chdir", "error", "no_requeue", "open_mode", "output", "requeue", "signal", "wrap")
CONFIG = {
    "distributed.scheduler.allowed-failures": 0,  # a worker's death is told at once; the sweep counts them itself
    "distributed.worker.daemon": False,  # its stages are processes
    "distributed.deploy.lost-worker-timeout": "5s",
}


def check_executor(executor: Executor, options: Mapping[str, str]) -> None:
    """Raise HarnessError when the executor cannot be used here, or not with these options."""
    if executor == "local":
        if options:
            raise HarnessError(f"options {', '.join(options)}: those are of jobs; use another executor than local")
        return
    job_settings(executor, options)
    program = QUEUES[executor][1]
    if shutil.which(program) is None:
        raise HarnessError(f"executor {executor}: no {program} here; run this where jobs are submitted, or use local")


def job_settings(executor: Executor, options: Mapping[str, str]) -> dict[str, Any]:
    """Settings of dask-jobqueue's cluster for options of a job.

    Those are time (whole minutes; a day if not given), cpus_per_task, mem, setup (a shell line to run first), and any
    long option of sbatch by its name, with _ or -, the value empty where it takes none; with the other systems any
    option by its letter (q=gpu is `-q gpu`).

    Raises HarnessError for a time that is no whole number of minutes, for what is no name of an option, and for options
    that start several tasks or that workers need as they are.
    """
    rest = {key.replace("-", "_"): value for key, value in options.items()}
    for key, value in rest.items():
        if not re.fullmatch("[a-zA-Z][a-z0-9_]*", key):
            raise HarnessError(f"option {key}={value}: give KEY=VALUE, KEY a long option of sbatch")
        if key in ONE_TASK:
            raise HarnessError(f"option {key}={value}: a worker is one task; ask for more workers")
        if key in OURS:
            raise HarnessError(f"option {key}={value}: jobs are started, watched and replaced by it; leave it out")
    minutes, cpus = rest.pop("time", str(MINUTES)), rest.pop("cpus_per_task", "1")
    for key, value in (("time", minutes), ("cpus_per_task", cpus)):
        if not value.isdecimal() or int(value) < 1:
            raise HarnessError(f"option {key}={value}: give {'whole minutes' if key == 'time' else 'a whole number'}")
    prologue = [f"cd {shlex.quote(str(Path.cwd()))}", "export DASK_DISTRIBUTED__WORKER__DAEMON=False"]
    prologue += [line] if (line := rest.pop("setup", "")) else []
    lifetime = int(minutes) * 60 - min(120, 15 * int(minutes))  # stages end before the job is ended
    settings: dict[str, Any] = {
        "cores": int(cpus),
        "processes": 1,
        "memory": rest.pop("mem", "1GB"),
        "walltime": f"{int(minutes) // 60:02}:{int(minutes) % 60:02}:00",
        "job_script_prologue": prologue,
        "worker_extra_args": ["--nthreads", "1", "--memory-limit", "0", "--lifetime", f"{lifetime}s"],
        "job_directives_skip": [] if "mem" in options else ["--mem=", "mem=", "-M "],
    }
    if executor == "slurm":
        flags = [f"--{key.replace('_', '-')}" + (f"={value}" if value else "") for key, value in rest.items()]
    else:
        flags = [f"-{key} {value}".strip() for key, value in rest.items()]
    return settings | {"job_extra_directives": [QUEUES[executor][2], *flags]}


def deal_devices(workers: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES for each worker here: the GPUs dealt out, shared where there are fewer than workers."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name for name in visible.split(",") if name]
    else:
        import torch

        names = [str(i) for i in range(torch.cuda.device_count())]
    if not names:
        return [visible] * workers
    return [",".join(names[i::workers]) or names[i % len(names)] for i in range(workers)]


def open_cluster(executor: Executor, workers: int, options: Mapping[str, str], root: Path) -> SpecCluster:
    """A scheduler in this process and its workers, who end when it does: here at once, jobs when told by `scale`.

    root: the store; logs of jobs go to ROOT/logs/jobs. What jobs say is encrypted, and only they are let in.
    Raises HarnessError for what the queueing system refuses.
    """
    dask.config.set(CONFIG)
    if executor == "local":
        return distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,  # stages are processes of their own, forked from one that has imported what they need
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
        )
    import dask_jobqueue

    logs, keys = root / "logs" / "jobs", root / "parts"
    keys.mkdir(parents=True, exist_ok=True)
    settings = job_settings(executor, options)
    cluster = getattr(dask_jobqueue, QUEUES[executor][0])(
        **settings,
        job_name="sweep",
        python=sys.executable,
        log_directory=str(logs.resolve()),
        security=True,
        shared_temp_directory=str(keys.resolve()),
        scheduler_options={"dashboard_address": ":0"},
        death_timeout=60,
        silence_logs="error",
    )
    if executor == "slurm":
        _try_script(cluster)
    return cluster


def _try_script(cluster: Any) -> None:
    """Raise HarnessError when sbatch would refuse the job."""
    answer = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    if answer.returncode:
        cluster.close()
        raise HarnessError(f"sbatch refuses the job: {' '.join(answer.stderr.split())}")


assert {*get_args(Executor)} == {"local", *QUEUES}
