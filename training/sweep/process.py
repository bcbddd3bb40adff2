"""Processes of a sweep: ended with what started them and with all they started, launched, with an environment."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing.connection
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import psutil

from factuality_harness.harness.errors import HarnessError

DEATH_SIGNAL, SUBREAPER = 1, 36  # of Linux's prctl


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


MODULES = {"python": [], "accelerate launch": ["accelerate.commands.launch"], "torchrun": ["torch.distributed.run"]}
"""Launchers that are modules of this environment, whatever lies on PATH."""


def with_this_interpreter(launcher: list[str]) -> list[str]:
    """The words of a launcher, run by this environment's own Python where it is one of its modules."""
    for name, module in MODULES.items():
        words = name.split()
        if launcher[: len(words)] == words:
            return [sys.executable, *(["-m", *module] if module else []), *launcher[len(words) :]]
    return launcher


def launch(launcher: list[str], line: list[str]) -> None:
    launcher = with_this_interpreter(launcher)
    try:
        code = subprocess.run([*launcher, *line], preexec_fn=tie_to_parent).returncode
    except OSError as error:
        raise HarnessError(f"launcher {launcher[0]!r} cannot be started: {error}") from error
    if code:
        time.sleep(1)  # the signal that ended it may be about to reach this process
        raise HarnessError(f"{shlex.join([*launcher, *line])} ended with exit code {code}; its message is in the log")


def tie_to_parent() -> None:
    """`preexec_fn` for what a stage starts: it is killed when the stage ends, in whatever way (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all that this process's descendants leave behind, detached or not (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1)


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes and all they started."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            below = process.children(recursive=True)
            process.kill()
            end_all(below)


def end_with(sentinel: int) -> None:
    """Wait until a process has ended, then kill this one and all it started."""
    multiprocessing.connection.wait([sentinel])
    end_all(psutil.Process().children())
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does (in the main thread, the only one that may say so)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
