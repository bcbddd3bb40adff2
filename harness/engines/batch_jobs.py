"""What is known of batches on their way, in small files: a killed run goes on with what it has paid for."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json


@dataclass(slots=True)
class Job:
    """One file of requests. place: the server or folder it went to. keys: the cache's key of each request, hexadecimal.
    sent: the parameters in all of its lines. again: how often its requests were asked before. id: stands in the batch's
    metadata, so that it is found when this record was not finished. file, batch: the server's names, "" until known.
    """

    place: str
    keys: list[str]
    sent: dict[str, Any]
    again: int = 0
    file: str = ""
    batch: str = ""
    id: str = field(default_factory=lambda: uuid4().hex)
    created: float = field(default_factory=time.time)


class JobStore:
    """The records of one folder. They hold no prompt and no answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, job: Job) -> Path:
        """Where a job's record lies."""
        return self.folder / f"job-{job.id}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Of all processes only this one looks for jobs and makes new ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise HarnessError(
                f"{self.folder}: cannot be written ({error.strerror}); batches are noted there"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def save(self, job: Job) -> None:
        """Write a record whole; it is there before the next step is taken."""
        write_json(self.path(job), asdict(job), indent=None)

    def load(self, place: str) -> list[Job]:
        """The jobs that went to a place, newest first. Raises HarnessError for a file that is no record."""
        jobs = []
        for path in self.folder.glob("job-*.json"):
            try:
                job = Job(**json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:  # another process is through with it
                continue
            except (ValueError, TypeError) as error:
                raise HarnessError(f"{path}: is no record of a batch ({error}); move it away") from error
            if job.place == place:
                jobs.append(job)
        return sorted(jobs, key=lambda job: (job.created, job.again), reverse=True)

    def leave_out(self, job: Job, keys: Collection[str]) -> None:
        """Forget keys of a job, and the job when none is left."""
        job.keys = [key for key in job.keys if key not in keys]
        if job.keys:
            self.save(job)
        else:
            self.path(job).unlink(missing_ok=True)
