"""Workers of a sweep through submitit: processes on this machine or Slurm jobs, replaced when they die.

    factuality sweep run EXPERIMENT.yaml --executor slurm --workers 8 --slurm partition=gpu gpus_per_node=1

A worker that Slurm stops for its time limit, or preempts, is queued again under its number and goes on. Local workers
end with the process that started them, however that ends; Slurm jobs outlive it if it is killed, and the same command
joins them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from tqdm import tqdm

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.process import end_with, sigterm_raises

RESTARTS = 3  # deaths for each worker, none of the stages ending in between, until the sweep gives up
POLL = 2.0  # seconds between looks at the store and at local workers
QUEUE_POLL = 5.0  # seconds between questions to Slurm's controller
FAREWELL = 60.0  # seconds workers have to end once nothing is left to do
MINUTES = 24 * 60  # time limit of a Slurm job that names none
FOREVER = 10_000_000  # minutes and requeues that submitit is not to count
ONE_TASK = ("nodes", "ntasks", "ntasks_per_node", "array")  # a worker is one process; more of them is `workers`

OURS = ("chdir", "error", "no_requeue", "open_mode", "output", "signal", "wrap")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a job runs: `work(store_root, plan_file)`. It keeps no state, so submitit may start it again at any time.

    work: None for `training.sweep.worker.work`, whose many imports only the job then waits for.
    lock: of local workers, a file the starting process holds locked for as long as it lives.
    devices: of local workers, CUDA_VISIBLE_DEVICES (None: unset).
    """

    store_root: Path
    plan_file: Path
    work: Callable[[Path, Path], None] | None = None
    lock: Path | None = None
    devices: str | None = None

    def __call__(self) -> None:
        """Run until nothing is left to do."""
        if self.lock is not None:
            os.setpgid(0, 0)
            threading.Thread(target=end_with, args=[self.lock], daemon=True).start()
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            if self.devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        with sigterm_raises():  # submitit would ignore it; Slurm sends it before it kills
            if self.work is not None:
                return self.work(self.store_root, self.plan_file)
            from factuality_harness.training.sweep.worker import set_up_process, work

            set_up_process()
            return work(self.store_root, self.plan_file)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """For submitit, at a time limit or a preemption: start the same again."""
        return submitit.helpers.DelayedSubmission(self)


class _Local:
    """Processes on this machine, each with a share of its GPUs."""

    def __init__(self, worker: Worker, workers: int, options: Mapping[str, str], folder: Path) -> None:
        self.worker = worker
        self.devices = _deal_devices(workers)
        self.executor = submitit.AutoExecutor(folder=folder, cluster="local")
        self.executor.update_parameters(timeout_min=FOREVER)
        self.lock = tempfile.NamedTemporaryFile(prefix="sweep-", suffix=".lock")  # noqa: SIM115  closed in `cancel`
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def submit(self, place: int) -> submitit.Job[None]:
        w = self.worker
        devices = self.devices[place]
        return self.executor.submit(Worker(w.store_root, w.plan_file, w.work, Path(self.lock.name), devices))

    def ended(self, job: submitit.Job[None]) -> bool:
        return job.done()

    def cancel_waiting(self, jobs: list[submitit.Job[None]]) -> None:
        """None ever waits."""

    def cancel(self, jobs: list[submitit.Job[None]]) -> None:
        self.lock.close()  # ends the workers with all they started; their controllers remain
        until = time.monotonic() + 5
        while not all(job.done() for job in jobs) and time.monotonic() < until:
            time.sleep(0.1)
        for job in jobs:
            if not job.done():
                job.cancel(check=False)


def _deal_devices(workers: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES for each worker: the GPUs dealt out, shared where there are fewer than workers."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name for name in visible.split(",") if name]
    else:
        import torch

        names = [str(i) for i in range(torch.cuda.device_count())]
    if not names:
        return [visible] * workers
    return [",".join(names[i::workers]) or names[i % len(names)] for i in range(workers)]


class _Slurm:
    """Slurm jobs of one task each."""

    def __init__(self, worker: Worker, workers: int, options: Mapping[str, str], folder: Path) -> None:
        self.worker = worker
        self.executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=FOREVER)
        self.executor.update_parameters(name="sweep", **slurm_parameters(options))
        self.asked = float("-inf")
        self.missed: dict[str, int] = {}  # how often in a row the queue did not list a job

    def submit(self, place: int) -> submitit.Job[None]:
        try:
            with contextlib.redirect_stderr(None):  # submitit prints sbatch's message, too
                job = self.executor.submit(self.worker)
        except (submitit.core.utils.FailedSubmissionError, submitit.core.utils.UncompletedJobError) as error:
            raise HarnessError(f"sbatch refuses the job: {' '.join(str(error).split())}") from error
        self.missed[job.job_id] = 0
        return job

    def ended(self, job: submitit.Job[None]) -> bool:
        """By its result, or since the queue does not list it, twice: not by sacct, which many sites lack."""
        if job.paths.result_pickle.exists():
            return True
        self._ask()
        return self.missed[job.job_id] > 1

    def _ask(self) -> None:
        if time.monotonic() - self.asked < QUEUE_POLL:
            return
        self.asked = time.monotonic()
        answer = subprocess.run(["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True)
        if answer.returncode == 0:  # else a busy controller: ask again later
            listed = {*answer.stdout.split()}
            self.missed = {job: 0 if job in listed else times + 1 for job, times in self.missed.items()}

    def cancel_waiting(self, jobs: list[submitit.Job[None]]) -> None:
        _scancel(jobs, "--state=PENDING")

    def cancel(self, jobs: list[submitit.Job[None]]) -> None:
        _scancel(jobs)


def _scancel(jobs: list[submitit.Job[None]], *arguments: str) -> None:
    if jobs:  # without a number, scancel takes all jobs of the user
        subprocess.run(["scancel", "--quiet", *arguments, *(job.job_id for job in jobs)], capture_output=True)


def check_executor(executor: str, options: Mapping[str, str]) -> None:
    """Raise HarnessError when the executor cannot be used here, or not with these options."""
    if executor == "local":
        if options:
            raise HarnessError(f"options {', '.join(options)}: those are Slurm's; use the executor slurm")
        return
    slurm_parameters(options)
    for program in ("sbatch", "srun", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise HarnessError(f"executor slurm: no {program} here; run this where jobs are submitted, or use local")


def slurm_parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of submitit for options of sbatch: time (minutes; a day if not given), setup (a shell line to run
    before the worker), and any long option by its name, with _ or -, the value empty where it takes none.

    Raises HarnessError for a time that is no whole number of minutes, for what is no name of an option, and for options
    that start several tasks or that workers need as they are.
    """
    rest = {key.replace("-", "_"): value for key, value in options.items()}
    for key, value in rest.items():
        if not re.fullmatch("[a-z][a-z0-9_]*", key):
            raise HarnessError(f"option {key}={value}: give KEY=VALUE, KEY a long option of sbatch")
        if key in ONE_TASK:
            raise HarnessError(f"option {key}={value}: a worker is one task; ask for more workers")
        if key in OURS:
            raise HarnessError(
                f"option {key}={value}: workers are started, watched and queued again by it; leave it out"
            )
    minutes = rest.pop("time", str(MINUTES))
    if not minutes.isdecimal() or int(minutes) < 1:
        raise HarnessError(f"option time={minutes}: give whole minutes")
    parameters: dict[str, Any] = {"timeout_min": int(minutes), "slurm_signal_delay_s": min(120, 15 * int(minutes))}
    if "setup" in rest:
        parameters["slurm_setup"] = [rest.pop("setup")]
    if "cpus_per_task" in rest:  # srun does not take it over from sbatch
        parameters["slurm_srun_args"] = [f"--cpus-per-task={rest['cpus_per_task']}"]
    flags = {key: value or True for key, value in rest.items()}
    return parameters | {"slurm_additional_parameters": {"requeue": True} | flags}


def run_workers(
    store_root: Path,
    plan_file: Path,
    *,
    executor: str,
    workers: int,
    options: Mapping[str, str],
    log_folder: Path,
    work: Callable[[Path, Path], None] | None = None,
) -> None:
    """Run the plan's stages with `workers` jobs, and return when every stage is done or failed or no worker can go on.

    executor: local or slurm. options: of sbatch, see `slurm_parameters`. log_folder: gets a folder for each call, with
    the workers' logs. work: see `Worker`. A worker that dies is replaced. On an exception, Ctrl-C and SIGTERM the
    jobs are cancelled.
    Raises HarnessError when sbatch is missing or refuses, and when workers keep dying.
    """
    from factuality_harness.training.sweep.plan import Plan
    from factuality_harness.training.sweep.store import Store

    check_executor(executor, options)
    store, plan = Store(store_root), Plan.from_json(plan_file.read_text(encoding="utf-8"))
    left = [stage for stage in plan.stages if not store.done(stage)]
    workers = min(workers, len(left))
    if not workers:
        return
    folder = log_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    pools: dict[str, type[_Local] | type[_Slurm]] = {"local": _Local, "slurm": _Slurm}
    pool = pools[executor](Worker(store_root, plan_file, work), workers, options, folder)
    jobs: dict[int, submitit.Job[None]] = {}  # by place
    bar = tqdm(total=len(plan.stages), initial=len(plan.stages) - len(left), unit="stage", desc="sweep")
    deaths, farewell = 0, float("inf")
    with bar, sigterm_raises():
        try:
            for place in range(workers):
                jobs[place] = pool.submit(place)
            while jobs and time.monotonic() < farewell:
                time.sleep(POLL)
                open_now = [stage for stage in left if not store.done(stage) and store.failure(stage) is None]
                if len(open_now) < len(left):
                    bar.update(len(left) - len(open_now))
                    left, deaths = open_now, 0
                if not left and farewell == float("inf"):
                    farewell = time.monotonic() + FAREWELL
                    pool.cancel_waiting(list(jobs.values()))
                for place, job in list(jobs.items()):
                    if not pool.ended(job):
                        continue
                    del jobs[place]
                    if not left or (why := _death(job)) is None:
                        continue
                    deaths += 1
                    if deaths > RESTARTS * workers:
                        raise HarnessError(f"{deaths} workers died one after another, none finished a stage; {why}")
                    tqdm.write(f"worker replaced: {why}", file=sys.stderr)
                    jobs[place] = pool.submit(place)
        finally:
            pool.cancel(list(jobs.values()))


def _death(job: submitit.Job[None]) -> str | None:
    """How a job that ended came to grief, with its log; None when it did not."""
    if job.paths.result_pickle.exists() and job.exception() is None:
        return None
    log = job.paths.stderr
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return f"job {job.job_id} ended; last in its log {log}: {lines[-1] if lines else 'nothing'}"
