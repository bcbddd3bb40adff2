"""A sweep's run: every stage is handed to Dask once those it needs are done, and again when what ran it was lost."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker
from tqdm import tqdm

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.cluster import check_executor, deal_devices, open_cluster
from factuality_harness.training.sweep.plan import Plan, Stage
from factuality_harness.training.sweep.process import sigterm_raises
from factuality_harness.training.sweep.schema import Executor
from factuality_harness.training.sweep.store import Store
from factuality_harness.training.sweep.worker import BUSY, DONE, FAILED, STOPPED, Work, run_apart, run_here

MOST_DEATHS = 3  # of a stage without a word (out of memory, say) until it counts as failed
MOST_JOBS = 3  # jobs lost for each worker, none of the stages ending in between, until the run gives up
TEND = 5.0  # seconds between looks after the jobs
AGAIN = 2.0  # seconds until a stage is tried again that another run works at


def run_stages(
    plan: Plan,
    store: Store,
    *,
    executor: Executor = "local",
    workers: int,
    options: Mapping[str, str] | None = None,
    work: Work = run_here,
) -> None:
    """Run the plan's stages with so many workers, and return when every stage is done or failed.

    options: of jobs, see `cluster.job_settings`. work: what a stage does. What is lost with a worker is run again. When
    this process ends, in whatever way, so do the workers. Another run on the same store shares the work: neither
    touches what the other computes, and both skip what is done.
    Raises HarnessError when the queueing system refuses the jobs, and when jobs keep ending with nothing done.
    """
    check_executor(executor, options or {})
    left = {name: stage for name, stage in plan.stages.items() if not store.done(name)}
    if not left:
        return
    workers = min(workers, len(left))
    bar = tqdm(total=len(plan.stages), initial=len(plan.stages) - len(left), unit="stage", desc="sweep")
    with bar, sigterm_raises(), open_cluster(executor, workers, options or {}, store.root) as cluster:
        address = cluster.dashboard_link if find_spec("bokeh") else ""
        with Client(cluster) as client, store.announced(dashboard=address):
            if address:
                tqdm.write(f"dashboard: {address}", file=sys.stderr)
            _Run(store, left, client, cluster, Jobs(cluster, workers, store.root), work, bar).go()


class _Run:
    def __init__(
        self,
        store: Store,
        left: dict[str, Stage],
        client: Client,
        cluster: Any,
        jobs: Jobs,
        work: Work,
        bar: tqdm[Any],
    ) -> None:
        self.store, self.left, self.client, self.cluster, self.jobs = store, left, client, cluster, jobs
        self.work, self.bar = work, bar
        self.futures: dict[str, Future] = {}
        self.free = [] if jobs.are_queued else deal_devices(jobs.workers)
        self.devices: dict[str, str | None] = {}
        self.ended: queue.Queue[str] = queue.Queue()
        self.tries: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.later: dict[str, float] = {}

    def go(self) -> None:
        while self.left:
            self.jobs.tend()
            self.hand_out()
            with contextlib.suppress(queue.Empty):
                self.take(self.ended.get(timeout=1.0))

    def hand_out(self) -> None:
        """Start what is ready, in the plan's order, as far as there are idle workers."""
        idle = len(self.cluster.scheduler.running) - len(self.futures)
        for stage in [*self.left.values()]:
            if stage.id in self.futures:
                continue
            if broken := self.store.broken_need(stage):
                self.store.fail(stage.id, broken)
                self.drop(stage.id)
            elif idle > 0 and self.ready(stage):
                idle -= 1
                self.start(stage)

    def ready(self, stage: Stage) -> bool:
        return not any(name in self.left for name in stage.needs.values()) and (
            time.monotonic() >= self.later.get(stage.id, 0)
        )

    def start(self, stage: Stage) -> None:
        self.tries[stage.id] += 1
        key = f"{stage.id}-{self.tries[stage.id]}"
        devices = self.devices[stage.id] = self.free.pop(0) if self.free else None
        future = self.client.submit(run_apart, self.work, stage, self.store.root, devices, key=key, pure=False)
        self.futures[stage.id] = future
        future.add_done_callback(lambda _: self.ended.put(stage.id))

    def take(self, name: str) -> None:
        """See how a stage ended, and have it run again where that was no fault of its own."""
        future = self.futures.pop(name)
        self.free.append(self.devices.pop(name))
        error = future.exception()
        if isinstance(error, KilledWorker):
            ending = "with its worker"
        elif error is not None:
            ending = FAILED
            self.store.fail(name, f"{type(error).__name__}: {error}")
        else:
            ending = future.result()
        if ending in (DONE, FAILED):
            self.drop(name)
        elif ending == BUSY:
            self.later[name] = time.monotonic() + AGAIN
        elif ending == STOPPED:
            tqdm.write(f"{name} was stopped with its worker and goes on with another", file=sys.stderr)
        else:
            self.deaths[name] += 1
            why = f"its process ended {ending} {self.deaths[name]} times without a message; short of memory?"
            if self.deaths[name] >= MOST_DEATHS:
                self.store.fail(name, f"{why} See {self.store.log(name)}")
                self.drop(name)
            else:
                tqdm.write(f"{name} ended {ending} and is run again; its log: {self.store.log(name)}", file=sys.stderr)

    def drop(self, name: str) -> None:
        del self.left[name]
        self.jobs.lost = 0
        self.bar.update()


class Jobs:
    """Keeps as many jobs as there are to be workers; nothing to do on this machine, where nannies do it."""

    def __init__(self, cluster: Any, workers: int, root: Path) -> None:
        self.cluster, self.workers, self.root = cluster, workers, root
        self.are_queued = hasattr(cluster, "job_script")
        self.looked = float("-inf")
        self.missed: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.lost = 0

    def tend(self) -> None:
        """Forget jobs that ended, and submit others in their place. Raises HarnessError when too many are lost."""
        if not self.are_queued or time.monotonic() - self.looked < TEND:
            return
        self.looked = time.monotonic()
        self._forget_ended()
        jobs = {job.job_id for job in self.cluster.workers.values() if getattr(job, "job_id", None)}
        self.lost += len(self.seen - jobs)
        self.seen = jobs
        if self.lost > MOST_JOBS * self.workers:
            last = _last_words(self.root / "logs" / "jobs")
            raise HarnessError(f"{self.lost} jobs ended one after another, none finished a stage; {last}")
        self.cluster.scale(self.workers)

    def _forget_ended(self) -> None:
        """Slurm's jobs that the queue does not list, twice: those that never connected are noticed by nobody else."""
        if self.cluster.job_cls.submit_command != "sbatch":
            return
        answer = subprocess.run(["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True)
        if answer.returncode:  # a busy controller: ask again later
            return
        listed = {*answer.stdout.split()}
        for name, job in [*self.cluster.workers.items()]:
            if job.job_id in listed:
                self.missed.pop(job.job_id, None)
            else:
                self.missed[job.job_id] += 1
                if self.missed[job.job_id] > 1:
                    self.cluster.workers.pop(name, None)


def _last_words(folder: Path) -> str:
    logs = sorted(folder.glob("*.err"), key=os.path.getmtime)
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").strip().splitlines() if logs else []
    return f"last in the log {logs[-1] if logs else folder}: {lines[-1] if lines else 'nothing'}"
