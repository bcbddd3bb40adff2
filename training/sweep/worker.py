"""One stage: run here, or by a Dask worker in a process of its own.

A worker's process keeps a fork server that has imported what stages need. Each stage is forked from it, so imports are
paid once, all memory (of GPUs, too) is given back when it ends, and it sees the GPUs that are its own.
"""

from __future__ import annotations

import logging
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.plan import Plan, Stage
from factuality_harness.training.sweep.process import end_all, end_with
from factuality_harness.training.sweep.store import Store

DONE, FAILED, BUSY, STOPPED = "done", "failed", "busy", "stopped"  # how `run_apart` ends, else a word about its death
BUSY_CODE = 75
GLANCE = 0.5  # seconds between looks whether the worker is told to end

ONE_AT_A_TIME = threading.Lock()  # multiprocessing looks after all its children whenever one starts or is waited for
LIVE: set[int | None] = set()  # stages that this process runs
Work = Callable[[Stage, Store], None]

log = logging.getLogger(__name__)


def run_here(stage: Stage, store: Store) -> None:
    """Run a stage in this process, unless it is done. An error is noted in the store."""
    import torch

    from factuality_harness.training.sweep.stages import resumes, run_stage  # the heavy imports

    torch.set_num_threads(stage.threads or _usual_threads())
    folder = store.begin(stage, resume=resumes(stage))
    log.info("%s in %s", stage.id, folder)
    started = time.monotonic()
    try:
        commands = run_stage(stage, store, folder)
    except HarnessError as error:
        store.fail(stage.id, str(error))
    except Exception as error:  # whatever it was, the other stages go on
        store.fail(stage.id, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    else:
        store.finish(stage, time.monotonic() - started, commands)


@cache
def _usual_threads() -> int:
    """CPU threads of this process before any stage said how many."""
    import torch

    return torch.get_num_threads()


def run_all_here(plan: Plan, store: Store) -> None:
    """Run the plan's stages in this process, one after another. What needs a failed one is noted as failed too."""
    for stage in plan.stages.values():
        with store.hold(stage.id) as ours:
            if store.done(stage.id):
                continue
            if not ours:
                raise HarnessError(f"{stage.id}: another run works at it in {store.root}; wait for that one")
            if broken := store.broken_need(stage):
                store.fail(stage.id, broken)
            else:
                run_here(stage, store)


@cache
def _server(work: Work) -> ForkServerContext:
    set_up_process()
    context = multiprocessing.get_context("forkserver")
    heavy = "factuality_harness.training.sweep.stages" if work is run_here else work.__module__
    context.set_forkserver_preload([__name__, heavy, "factuality_harness.training.sweep.fork_server"])
    return context


def run_apart(work: Work, stage: Stage, root: Path, devices: str | None) -> str:
    """Run a stage from a Dask worker; returns how it ended. devices: CUDA_VISIBLE_DEVICES (None: as it comes).

    Whatever it started has ended then.
    """
    from distributed import Status, get_worker

    worker, store, server = get_worker(), Store(root), _server(work)
    environ = {**os.environ, **({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})}
    process = server.Process(target=_stage_process, args=[work, stage, root, environ])
    with ONE_AT_A_TIME:
        process.start()
        LIVE.add(process.pid)
    stopped = False
    while not multiprocessing.connection.wait([process.sentinel], GLANCE):
        if worker.status != Status.running and not stopped:
            stopped = True
            process.terminate()
    with ONE_AT_A_TIME:
        process.join()
        LIVE.remove(process.pid)
        parent = psutil.Process(multiprocessing.forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
        end_all(orphan for orphan in parent.children() if orphan.pid not in LIVE)
    if store.done(stage.id):
        return DONE
    if store.failure(stage.id) is not None:
        return FAILED
    if process.exitcode == BUSY_CODE:
        return BUSY
    if stopped:
        return STOPPED
    code = process.exitcode or 0
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _stage_process(work: Work, stage: Stage, root: Path, environ: dict[str, str]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=end_with, args=[parent.sentinel], daemon=True).start()
    os.setpgid(0, 0)  # Ctrl-C is for the command that was typed
    os.environ.clear()  # the fork server's is of when it started
    os.environ.update(environ)
    store, code = Store(root), 1
    try:
        with store.hold(stage.id) as ours:
            code = 0 if ours else BUSY_CODE
            if ours and not store.done(stage.id):
                _log_to(store.log(stage.id))
                work(stage, store)
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # without waiting for threads that libraries leave


def _log_to(path: Path) -> None:
    """Add all that this process and its children say to a file."""
    with path.open("ab", buffering=0) as file:
        where = f"{os.uname().nodename}, process {os.getpid()}, job {os.environ.get('SLURM_JOB_ID', 'none')}"
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} begins on {where}\n".encode())
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def set_up_process() -> None:
    """Call first in a worker's process: quiet libraries, and no threads behind tokenizers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault(
        "PYTORCH_NVML_BASED_CUDA_CHECK", "1"
    )  # imports that ask for GPUs must not start CUDA: stages fork
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
