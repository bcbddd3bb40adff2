"""Requests by the file: OpenAI's Batch API at half the price, or vLLM's `run-batch` on files.

A wave of requests (a whole turn of a judge) is one batch. Everything on its way is noted (see `batch_jobs`), so a run
that was killed, at whatever point, goes on waiting for what it has paid for, and no request is submitted twice. What is
answered goes into the answer cache, which is shared with `openai:`: a batch asks the same model the same thing.
"""

from __future__ import annotations

import logging
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from factuality_harness.harness.engines.base import Batch, Conversation, Engine, Reply, Sampling
from factuality_harness.harness.engines.batch_jobs import Job, JobStore
from factuality_harness.harness.engines.batch_lines import MISSING, Answer, files, read_answers, request_line
from factuality_harness.harness.engines.batch_places import BatchFolder, BatchOptions, BatchServer, Look
from factuality_harness.harness.engines.cache import request_key
from factuality_harness.harness.engines.parameters import held
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.settings import read_settings

log = logging.getLogger(__name__)

WAVE = 10**9
AGAIN = 8  # further batches of requests whose parameters were refused, at most: one a parameter
Request = tuple[Conversation, Sampling]
Given = dict[str, set[str]]
"""Id of a job to the keys whose answers were handed out; at "" those that the cache answers."""


class BatchEngine:
    """An engine that submits files of requests and waits, for a day if need be."""

    OPTIONS = BatchOptions
    wave = WAVE
    """Requests it wants together: a whole run in one file costs the wait of one."""

    def __init__(self, target: str, role: str = "judge", **options: Any) -> None:
        """target: `URL#MODEL` or `FOLDER#MODEL`. role: whose key is used. options: `BatchOptions`.

        Raises HarnessError for a malformed target and a wrong option.
        """
        self.options = read_settings(BatchOptions, options, "options of the batch engine")
        online = target.startswith(("http://", "https://"))
        self.place = BatchServer(target, role, **options) if online else BatchFolder(target, self.options)
        self.remote = self.place.remote
        self.settings = self.options.fields()
        self.parameters = self.place.parameters
        self._mine: set[str] = set()
        self._given: Given = defaultdict(set)
        # What was handed out is forgotten when this run ends, and not before: after a kill it is handed out again.
        weakref.finalize(self, _forget, self.place, self._given)

    @property
    def identity(self) -> str:
        return f"openai#{self.place.model}"

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens of all answers, as the server counts them, the trial's too, and the number of batches submitted."""
        return {**self.place.usage, "batches": len(self._mine)}

    @property
    def schemas(self) -> bool:
        return self.parameters.constrained

    def check(self) -> None:
        """Raises EngineError where the server is not there or does not serve the model."""
        self.place.check()

    def for_trial(self) -> Engine:
        """The server's chat API, which answers in a minute and not in a day."""
        assert isinstance(self.place, BatchServer)
        return self.place.for_trial()

    def settle(self, keys: Iterable[bytes]) -> None:
        """These are in the cache: a job of a killed run need not keep them."""
        self._given[""].update(key.hex() for key in keys)

    # ------------------------------------------------------------ submitting

    def submit(self, parts: Iterable[tuple[Sequence[Conversation], Sampling]]) -> None:
        """Put requests on their way together, without waiting; `stream` then waits for them. Raises EngineError."""
        asked: dict[str, Request] = {}
        for conversations, sampling in parts:
            asked |= self._by_key(conversations, sampling)
        self._jobs(asked)

    def _by_key(self, conversations: Sequence[Conversation], sampling: Sampling) -> dict[str, Request]:
        return {request_key(self.identity, c, sampling, self.settings).hex(): (c, sampling) for c in conversations}

    def _jobs(
        self, asked: Mapping[str, Request], again: int = 0, most: int | None = None
    ) -> dict[str, tuple[Job, list[str]]]:
        """Jobs for the requests, those on their way and new ones, each with what is wanted of it."""
        left = dict(asked)
        found: dict[str, tuple[Job, list[str]]] = {}
        with self.place.store.locked():
            for job in self.place.store.load(self.place.place):
                keys = [key for key in job.keys if key in left and key not in self._given[job.id]]
                if not keys or job.again < again:
                    continue
                if not job.batch and not self.place.find(job):
                    self.place.store.leave_out(job, set(job.keys))  # killed before it was submitted
                    continue
                found[job.id] = job, keys
                for key in keys:
                    del left[key]
            if earlier := found.keys() - self._mine:
                log.warning("%d batches of an earlier run hold these requests; none is submitted twice", len(earlier))
            forms = {
                sampling: self.parameters.body(sampling) for sampling in {sampling for _, sampling in left.values()}
            }
            sent = {name: value for form in forms.values() for name, value in form.items()}

            def line(key: str) -> bytes:
                conversation, sampling = left[key]
                return request_line(key, self.place.model, conversation, forms[sampling])

            sizes = {key: len(line(key)) for key in left}
            for keys in files(sizes, most or self.options.requests_per_file):
                job = Job(self.place.place, keys, sent, again)
                self.place.submit(job, map(line, keys))
                self._mine.add(job.id)
                found[job.id] = job, keys
        return found

    # ------------------------------------------------------------ waiting

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        asked = self._by_key(conversations, sampling)
        places: dict[str, list[int]] = defaultdict(list)
        for index, conversation in enumerate(conversations):
            places[request_key(self.identity, conversation, sampling, self.settings).hex()].append(index)
        live = self._jobs(asked)
        line: list[tuple[list[str], int]] = []  # keys that wait for room on the server, and how often they were asked
        looks = 0
        while live or line:
            ended = [
                (job, keys, look) for job, keys in live.values() if (look := self.place.look(job)).state != "waiting"
            ]
            looks = 0 if ended else looks + 1
            for job, keys, look in ended:
                del live[job.id]
                if look.full:
                    self.place.store.leave_out(job, set(job.keys))
                    self._wait_in_line(line, keys, job, look, alone=not live)
                    continue
                replies, again = self._read(job, keys, look, sampling)
                if replies:
                    try:
                        yield [(index, reply) for key, reply in replies.items() for index in places[key]]
                    finally:  # who reads has stored them, or has no use for them
                        self._given[job.id].update(replies)
                if look.state == "cancelled" and again:
                    self.place.store.leave_out(job, set(again))
                    raise EngineError(
                        f"batch {job.batch} was cancelled, {len(again)} of {len(keys)} requests are not answered; what "
                        "was answered is kept, and the same command asks for the rest"
                    )
                if again:
                    live |= self._jobs({key: asked[key] for key in again}, job.again + 1)
                    self.place.store.leave_out(job, set(again))
            if line and not live:
                keys, again_count = line.pop(0)
                live |= self._jobs({key: asked[key] for key in keys}, again_count, len(keys))
            elif live and not ended:
                self.place.pause([job for job, _ in live.values()], looks)

    def _wait_in_line(
        self, line: list[tuple[list[str], int]], keys: list[str], job: Job, look: Look, *, alone: bool
    ) -> None:
        """The server takes no more for now: what it refused comes later, in halves when nothing else was in the way."""
        if alone and len(keys) == 1:
            raise EngineError(f"batch {job.batch} failed: {look.words}")
        parts = [keys[: len(keys) // 2], keys[len(keys) // 2 :]] if alone else [keys]
        line += [(part, job.again) for part in parts]
        log.warning(
            "batch %s: the server takes no more for now (%s); going on one after the other", job.batch, look.words
        )

    def _read(
        self, job: Job, keys: Sequence[str], look: Look, sampling: Sampling
    ) -> tuple[dict[str, Reply], list[str]]:
        """What came back: replies by key, and the keys to ask again. Raises EngineError for a refused batch."""
        if look.state == "failed":
            self.place.store.leave_out(job, set(job.keys))
            raise EngineError(f"batch {job.batch} failed, nothing was asked: {look.words}")
        if look.state == "gone":
            log.warning("%s. Its requests are submitted again.", look.words)
            return {}, [*keys]
        wanted = {*keys}
        found_all = read_answers(self.place.fetch(job, look), job.keys)
        answers = {key: answer for key, answer in found_all.items() if key in wanted}
        replies: dict[str, Reply] = {}
        again = self._unheld(job, answers, sampling) if job.again < AGAIN else []
        for key in keys:
            if key in again:
                continue
            answer = answers.get(key, MISSING)
            found = answer.completion
            if (reply := found.reply) is not None:
                self.place.usage.update(found.usage or {})
                error = reply.error
                replies[key] = replace(reply, error=self.place._words(error)) if error else reply
            elif look.state == "cancelled" or self._worth_asking(job, answer):
                again.append(key)
            else:
                replies[key] = Reply(None, f"refused by the server: {self.place._words(answer.words)}")
        return replies, again

    def _unheld(self, job: Job, answers: Mapping[str, Answer], sampling: Sampling) -> list[str]:
        """What to ask in another form, when the server let most of a constraint's answers go free: one that strays is
        the model's, and not worth a day."""
        texts = {key: r.text for key, a in answers.items() if (r := a.completion.reply) and r.text and not r.cut}
        free = {key: text for key, text in texts.items() if not held(text, sampling)}
        if not (sampling.choices or sampling.schema) or 2 * len(free) <= max(2, len(texts)):
            return []
        return [key for key, text in free.items() if self.parameters.ignored(job.sent, sampling, text, row=1)]

    def _worth_asking(self, job: Job, answer: Answer) -> bool:
        """Once more after a failure that may pass, and after every parameter that a refusal taught."""
        if answer.transient:
            return job.again == 0
        refused = answer.completion.status in (400, 413, 422)
        return refused and job.again < AGAIN and self.parameters.learn(job.sent, answer.words)


def _forget(place: BatchServer | BatchFolder, given: Given) -> None:
    store: JobStore = place.store
    if not given:
        return
    with store.locked():
        for job in store.load(place.place):
            if gone := (given.get(job.id, set()) | given.get("", set())) & {*job.keys}:
                store.leave_out(job, gone)
                if not job.keys:
                    place.close(job)
