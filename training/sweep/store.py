"""Where stages live: a folder each, complete once `stage.json` is in it; claims let none run twice at a time.

STORE/stages/ID/            outputs of a stage; stage.json last
STORE/stages/ID.failed      its error, one text file
STORE/claims/ID             who is at it; touched every few seconds
STORE/experiments/NAME.json cells, their labels and stages: what analysis reads
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import provenance
from factuality_harness.harness.io.write import write_json, write_text
from factuality_harness.training.sweep.plan import Plan, Stage

BEAT = 5.0  # seconds between signs of life
STALE = 60.0  # seconds without one until another worker may take over
MOST_DEATHS = 3  # claims of a stage that end without a word (out of memory, say) before it counts as failed


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
            self._deaths(stage).unlink(missing_ok=True)

    def _failed(self, stage: str) -> Path:
        return self.root / "stages" / f"{stage}.failed"

    def _deaths(self, stage: str) -> Path:
        return self.root / "claims" / f"{stage}.deaths"

    def _claim(self, stage: str) -> Path:
        return self.root / "claims" / stage

    def running(self, stage: str) -> bool:
        """Whether somebody alive is at it."""
        claim = self._claim(stage)
        try:
            owner = json.loads(claim.read_text(encoding="utf-8"))
            age = time.time() - claim.stat().st_mtime
        except FileNotFoundError:
            return False
        except ValueError:  # just being written
            return True
        if owner["host"] == socket.gethostname() and not _alive(owner["pid"], owner["born"]):
            return False
        return age < STALE

    @contextmanager
    def claim(self, stage: str) -> Iterator[bool]:
        """Whether the stage is ours now. While it is, a thread shows that we live."""
        claim = self._claim(stage)
        claim.parent.mkdir(parents=True, exist_ok=True)
        (self.root / "stages").mkdir(parents=True, exist_ok=True)
        if claim.exists() and not self.running(stage):
            self._take_over(stage, claim)
        try:
            handle = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            yield False
            return
        with os.fdopen(handle, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}, file)
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT):
                with suppress(OSError):
                    os.utime(claim)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield not self.done(stage) and self.failure(stage) is None
        finally:
            stop.set()
            thread.join()
            claim.unlink(missing_ok=True)

    def _take_over(self, stage: str, claim: Path) -> None:
        """Remove a dead worker's claim; only one of those who try succeeds in renaming it."""
        grave = claim.with_name(f"{stage}.{os.getpid()}.dead")
        try:
            claim.rename(grave)
        except FileNotFoundError:
            return
        grave.unlink()
        deaths = self._deaths(stage)
        with deaths.open("a", encoding="utf-8") as file:
            file.write(".")
        if deaths.stat().st_size >= MOST_DEATHS:
            self.fail(stage, f"its process died {MOST_DEATHS} times without a message; short of memory?")

    def begin(self, stage: Stage, *, resume: bool) -> Path:
        """The stage's folder, emptied unless what lies there can be gone on with."""
        folder = self.folder(stage.id)
        if folder.exists() and not resume:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, stage: Stage, seconds: float, commands: list[str]) -> None:
        """Mark a stage as complete."""
        data = {"kind": stage.kind, "settings": stage.settings, "needs": stage.needs, "seconds": round(seconds, 2)}
        data |= {"commands": commands, **provenance()}
        write_json(self.folder(stage.id) / "stage.json", data)
        self._deaths(stage.id).unlink(missing_ok=True)


def _born(pid: int) -> str | None:
    """Start time of a process, which tells it from a later one of the same number (Linux; elsewhere None)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _alive(pid: int, born: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return born is None or _born(pid) == born
