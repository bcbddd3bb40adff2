"""Where batches go: a server with OpenAI's Batch API, or a folder of files for vLLM's `run-batch`."""

from __future__ import annotations

import logging
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveFloat

from factuality_harness.harness.engines.batch_jobs import Job, JobStore
from factuality_harness.harness.engines.batch_lines import MOST_REQUESTS, TRANSIENT
from factuality_harness.harness.engines.cache import cache_path
from factuality_harness.harness.engines.openai import OpenAIEngine, OpenAIOptions
from factuality_harness.harness.engines.parameters import Parameters
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.io.write import whole_file
from factuality_harness.harness.settings import read_settings

log = logging.getLogger(__name__)

TELL = 600.0  # seconds between two messages that nothing changed
FIRST_LOOK = 5.0  # seconds until the first look at a new batch; later ones are further apart
MARK = "factuality_harness"
"""Name of the metadata that holds a job's id."""
State = Literal["waiting", "ended", "failed", "cancelled", "gone"]
Result = TypeVar("Result")


class BatchOptions(OpenAIOptions):
    """As `openai`, for the trial and for every call; and: poll: seconds between two looks at a batch, at most.
    requests_per_file: at most so many in a file. completion_window: as the server takes it."""

    poll: PositiveFloat = 300.0
    requests_per_file: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = MOST_REQUESTS
    completion_window: str = "24h"


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it is now. ended: what is answered can be fetched (of an expired batch too). failed: nothing was asked.
    gone: its requests are to be submitted again. words: what is said of it. full: it failed for a limit on what waits.
    files: names of output and error file."""

    state: State
    words: str = ""
    full: bool = False
    files: tuple[str, ...] = ()


class BatchServer(OpenAIEngine):
    """A server's files and batches. Answers asked for one by one (the trial of a judge) go to its chat API."""

    name = "batch"
    OPTIONS = BatchOptions

    def __init__(self, target: str, role: str, **options: Any) -> None:
        super().__init__(target, role, **options)
        self._batch = read_settings(BatchOptions, options, "options of the batch engine")
        self.store = JobStore(cache_path().parent / "batches")
        self._told: dict[str, tuple[str, float]] = {}

    @property
    def place(self) -> str:
        return self.url

    def submit(self, job: Job, lines: Iterable[bytes]) -> None:
        """Upload and create, noting each step. Raises EngineError."""
        self.store.save(job)
        with tempfile.TemporaryFile() as file:
            file.writelines(lines)
            job.file = str(self._call("uploading a file", lambda: self._upload(job, file))["id"])
        self.store.save(job)
        tries = 0

        def create() -> dict[str, Any]:
            nonlocal tries
            tries += 1
            # A request whose answer was lost may have made the batch.
            if tries > 1 and (found := self._look_for(job)):
                return found
            answer = self._client.batches.with_raw_response.create(
                input_file_id=job.file,
                endpoint="/v1/chat/completions",
                completion_window=self._batch.completion_window,  # type: ignore[arg-type]
                metadata={MARK: job.id},
            )
            return _object(answer.http_response)

        job.batch = str(self._call("creating a batch", create)["id"])
        self.store.save(job)
        log.warning("batch %s: submitted, %d requests", job.batch, len(job.keys))

    def _upload(self, job: Job, file: IO[bytes]) -> dict[str, Any]:
        file.seek(0)
        name = (f"factuality-{job.id}.jsonl", file)
        return _object(self._client.files.with_raw_response.create(file=name, purpose="batch").http_response)

    def find(self, job: Job) -> bool:
        """Whether a job that was killed before it was noted got its batch; then it is noted."""
        if found := self._call("listing batches", lambda: self._look_for(job)):
            job.batch = str(found["id"])
            self.store.save(job)
        return found is not None

    def _look_for(self, job: Job) -> dict[str, Any] | None:
        after: dict[str, Any] = {}
        while True:
            page = _object(self._client.batches.with_raw_response.list(limit=100, **after).http_response, "data")
            rows = [row for row in page["data"] if isinstance(row, dict)]
            for row in rows:
                if (row.get("metadata") or {}).get(MARK) == job.id:
                    return row
            # They come newest first; a day for clocks that differ.
            old = rows and all(float(row.get("created_at") or 0) < job.created - 86_400 for row in rows)
            if not page.get("has_more") or not rows or old:
                return None
            after = {"after": rows[-1]["id"]}

    def look(self, job: Job) -> Look:
        try:
            row = self._call(
                f"batch {job.batch}",
                lambda: _object(self._client.batches.with_raw_response.retrieve(job.batch).http_response, "status"),
            )
        except EngineError as error:
            if getattr(error.__cause__, "status_code", None) == 404:  # it may be paid for, by another account
                raise EngineError(
                    f"{error} Was the batch submitted with another key? Set that one; or remove {self.store.path(job)} "
                    "to submit its requests again"
                ) from error
            raise
        status = str(row["status"])
        counts = row.get("request_counts") or {}
        self._tell(job, status, counts)
        names = tuple(str(row[name]) for name in ("output_file_id", "error_file_id") if row.get(name))
        errors = (row.get("errors") or {}).get("data") or []
        words = "; ".join(
            self._words(f"{e.get('code')}: {e.get('message')}") for e in errors[:3] if isinstance(e, dict)
        )
        if status in ("completed", "expired"):
            return Look("ended", status, files=names)
        if status == "cancelled":
            return Look("cancelled", words, files=names)
        if status == "failed":
            full = any(isinstance(e, dict) and e.get("code") == "token_limit_exceeded" for e in errors)
            return Look("failed", words or "the server gives no reason", full)
        return Look("waiting", status)

    def _tell(self, job: Job, status: str, counts: dict[str, Any]) -> None:
        said, when = self._told.get(job.id, ("", 0.0))
        if status != said or time.monotonic() - when > TELL:
            self._told[job.id] = status, time.monotonic()
            done = f"{counts.get('completed', 0)} of {counts.get('total') or len(job.keys)} answered"
            failed = f", {counts['failed']} failed" if counts.get("failed") else ""
            log.warning("batch %s: %s, %s%s", job.batch, status, done, failed)

    def fetch(self, job: Job, look: Look) -> list[str]:
        """The texts of its output and error file; a file that is not there any more is left out."""
        texts = []
        for name in look.files:
            try:
                texts.append(self._call(f"file {name}", partial(self._content, name)))
            except EngineError as error:
                if getattr(error.__cause__, "status_code", None) != 404:
                    raise
                log.warning("batch %s: its file %s is gone from the server", job.batch, name)
        return texts

    def _content(self, name: str) -> str:
        return self._client.files.content(name).content.decode("utf-8", "replace")

    def pause(self, jobs: Sequence[Job], looks: int) -> None:
        """Wait until it is worth looking again; looks: how often it was looked in vain."""
        poll = float(self._batch.poll)
        time.sleep(min(poll, min(poll, FIRST_LOOK) * 1.3**looks))

    def close(self, job: Job) -> None:
        """Nothing is to be done: files on the server expire by themselves."""

    def _call(self, what: str, call: Callable[[], Result]) -> Result:
        """The result of a call, tried until `patience` is used up; a night without a network loses no batch.

        Raises EngineError, at once for what a server refuses.
        """
        import openai

        begun = time.monotonic()
        for attempt in range(10**9):
            after = None
            try:
                return call()
            except (openai.APIConnectionError, ValueError) as caught:
                error: Exception = caught
            except openai.APIStatusError as caught:
                error = caught
                after = caught.response.headers.get("retry-after")
                if caught.status_code < 500 and caught.status_code not in TRANSIENT:
                    raise EngineError(f"{what}: {self._explain(caught)}") from caught
            if time.monotonic() - begun > self.patience:
                raise EngineError(f"{what}: {self._explain(error)}") from error
            if attempt == 2:
                log.warning("%s: %s; trying on", what, self._words(error))
            wait = float(after) if after and after.isdigit() else 2.0 ** min(attempt, 8)
            time.sleep(min(wait, float(self._batch.poll)))
        raise AssertionError


def _object(response: Any, needed: str = "id") -> dict[str, Any]:
    """A JSON object with the field needed. Raises ValueError for whatever else was answered."""
    data = response.json()
    if not isinstance(data, dict) or needed not in data:
        raise ValueError(f"the server answers, but not as the Batch API does: {response.text[:120]!r}")
    return data


class BatchFolder:
    """A folder: requests are written there, and answered by `vllm run-batch`, here or on another machine."""

    remote = False

    def __init__(self, target: str, options: BatchOptions) -> None:
        """target: FOLDER#MODEL. Raises HarnessError without a model."""
        folder, _, self.model = target.partition("#")
        if not self.model:
            raise HarnessError(
                f"batch:{target} names no model: write batch:{folder}#MODEL, as the server would call it"
            )
        self.folder = Path(folder)
        self.store = JobStore(self.folder)
        self.place = "folder"
        self.parameters = Parameters(options.fields())
        self.usage: Counter[str] = Counter()

    def check(self) -> None:
        """Nothing can be asked now."""
        log.warning("the judge behind %s cannot be tried before the run: nobody answers there yet", self.folder)

    def requests(self, job: Job) -> Path:
        """The file of a job's requests."""
        return self.folder / f"requests-{job.id[:12]}.jsonl"

    def answers(self, job: Job) -> Path:
        """The file where a job's answers are looked for."""
        return self.folder / f"answers-{job.id[:12]}.jsonl"

    def submit(self, job: Job, lines: Iterable[bytes]) -> None:
        """Write the requests."""
        with whole_file(self.requests(job), "wb") as file:
            file.writelines(lines)
        job.batch = job.id[:12]
        self.store.save(job)

    def find(self, job: Job) -> bool:
        """Requests are written before their job is noted."""
        return False

    def look(self, job: Job) -> Look:
        if not self.requests(job).is_file():
            return Look("gone", f"{self.requests(job)} is gone")
        return Look("ended" if self.answers(job).is_file() else "waiting")

    def fetch(self, job: Job, look: Look) -> list[str]:
        """The text of its answers. Raises EngineError for a file whose last line is not whole."""
        path = self.answers(job)
        text = path.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n") and not text.rstrip().endswith("}"):
            raise EngineError(
                f"{path}: the last line is not whole. Wait until `vllm run-batch` is through, or remove the file and "
                "run it again; then run the same command again"
            )
        return [text]

    def pause(self, jobs: Sequence[Job], looks: int) -> None:
        """Raises EngineError with the commands that answer what is open."""
        commands = "\n".join(
            shlex.join(
                ["vllm", "run-batch", "-i", str(self.requests(j)), "-o", str(self.answers(j)), "--model", self.model]
            )
            for j in jobs
        )
        count = sum(len(job.keys) for job in jobs)
        raise EngineError(
            f"{count} requests are written and wait for answers. Run this, then the same command again:\n{commands}"
        )

    def close(self, job: Job) -> None:
        """Remove the requests that were answered."""
        self.requests(job).unlink(missing_ok=True)

    def _words(self, error: Exception | str) -> str:
        return str(error)[:300]
