"""Where stages live: written aside, and renamed when whole.

STORE/stages/ID/            outputs of a finished stage, with its stage.json
STORE/stages/ID.failed      its error, one text file
STORE/parts/ID/             outputs of a stage that runs or was broken off
STORE/parts/ID.lock         locked by the process that runs it, for as long as that lives
STORE/logs/ID.log           what it said
STORE/run.json              of the run that works here: host, process, dashboard; locked while it lives
STORE/experiments/NAME.json cells, their labels and stages: what analysis reads
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import provenance
from factuality_harness.harness.io.write import write_json, write_text
from factuality_harness.training.sweep.plan import Plan, Stage


class Store:
    """A folder of stages, shared by any number of processes and machines that see the same file system.

    A relative root stays relative, so that nothing written there knows where it lies: workers start in the same folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        for place in (self.root, *self.root.parents):
            if place.exists() and not place.is_dir():
                raise HarnessError(f"{place}: is a file; a store is a folder, name another with --store")

    def folder(self, stage: str) -> Path:
        """Outputs of a stage."""
        return self.root / "stages" / stage

    def place(self, name: str) -> str:
        """What a need refers to: a stage's folder, or the model that `model:` names."""
        return name.removeprefix("model:") if name.startswith("model:") else str(self.folder(name))

    def done(self, stage: str) -> bool:
        """Whether its outputs are complete (a stage `model:…` always is)."""
        return stage.startswith("model:") or (self.folder(stage) / "stage.json").exists()

    def record(self, stage: str) -> dict[str, Any]:
        """What a finished stage was: kind, settings, needs, seconds."""
        path = self.folder(stage) / "stage.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(record, dict) or not {"kind", "settings", "needs", "seconds"} <= record.keys():
                raise ValueError("kind, settings, needs and seconds are not all there")
            return record
        except (OSError, ValueError) as error:
            raise HarnessError(f"{path}: unreadable ({error}); remove its folder and run the sweep again") from error

    def failure(self, stage: str) -> str | None:
        """The error a stage ended with."""
        try:
            return self._failed(stage).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def fail(self, stage: str, message: str) -> None:
        """Note that a stage cannot be done."""
        write_text(self._failed(stage), message + "\n")

    def forget_failures(self, plan: Plan) -> None:
        """Let failed stages of the plan be tried again."""
        for stage in plan.stages:
            self._failed(stage).unlink(missing_ok=True)

    def broken_need(self, stage: Stage) -> str | None:
        """What stands in the way of a stage for good: a stage it needs that failed."""
        failed = next((name for name in stage.needs.values() if self.failure(name) is not None), None)
        return None if failed is None else f"needs {failed}, which failed"

    def _failed(self, stage: str) -> Path:
        return self.root / "stages" / f"{stage}.failed"

    def part(self, stage: str) -> Path:
        """Outputs of a stage that is not finished."""
        return self.root / "parts" / stage

    def log(self, stage: str) -> Path:
        """The log of a stage, to which every attempt adds."""
        path = self.root / "logs" / f"{stage}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _lock(self, stage: str) -> Path:
        return self.root / "parts" / f"{stage}.lock"

    def running(self, stage: str) -> bool:
        """Whether a process is at it, here or on another machine."""
        return _locked(self._lock(stage))

    @contextmanager
    def hold(self, stage: str) -> Iterator[bool]:
        """Whether no other process is at the stage; then it is kept so. The lock ends with the processes that have it.

        Raises HarnessError on a file system that cannot lock.
        """
        lock = self._lock(stage)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                raise HarnessError(
                    f"{lock}: cannot be locked ({error}); put the store on a file system that can lock "
                    "(Lustre: mount option flock)"
                ) from error
            yield True

    @contextmanager
    def announced(self, **about: Any) -> Iterator[None]:
        """Say in the store who works here, for `at_work`."""
        path = self.root / "run.json"
        write_json(path, {"host": os.uname().nodename, "pid": os.getpid(), **about})
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def at_work(self) -> dict[str, Any]:
        """What the run says that works here now; empty when none does."""
        path = self.root / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if _locked(path) else {}

    def begin(self, stage: Stage, *, resume: bool) -> Path:
        """A folder for its outputs, emptied unless what lies there can be gone on with."""
        folder = self.part(stage.id)
        if folder.exists() and not resume:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, stage: Stage, seconds: float, commands: list[str]) -> None:
        """The stage is whole: its folder gets its record and its name."""
        data = {"kind": stage.kind, "settings": stage.settings, "needs": stage.needs, "seconds": round(seconds, 2)}
        part, folder = self.part(stage.id), self.folder(stage.id)
        data |= {"commands": [line.replace(str(part), str(folder)) for line in commands], **provenance()}
        for path in (part / "recipe.yaml", part / "manifest.json"):  # which say where they lie
            if path.is_file():
                write_text(path, path.read_text(encoding="utf-8").replace(str(part), str(folder)))
        write_json(part / "stage.json", data)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not self.done(stage.id):  # begun by an earlier version
            shutil.rmtree(folder)
        part.rename(folder)
        self._lock(stage.id).unlink(missing_ok=True)


def _locked(path: Path) -> bool:
    """Whether a living process holds a lock on the file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
