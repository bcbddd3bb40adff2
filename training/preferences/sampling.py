"""Several answers to every question, from any engine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.engines import CachedEngine, Reply, Sampling, open_engine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.questions import digest
from factuality_harness.harness.thinking import set_thinking_aside
from factuality_harness.training.preferences.append_log import append, resume

log = logging.getLogger(__name__)

QUESTIONS_IN_FLIGHT = 256  # their rows are written together, a question's samples in a row

SamplePlace = tuple[str, str, str, int]
"""Language, topic, question, number of the sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Answer `number` (from 0) to a question."""

    question: Question
    response: str
    number: int

    def to_dict(self) -> dict[str, Any]:
        """A row: topic, question, document, language, response, sample."""
        return {**self.question.to_dict(), "response": self.response, "sample": self.number}


def ask(question: Question, with_document: bool = False) -> str:
    """What the model is asked: the question, or the question with its reference document (`harness/prompts`)."""
    if not with_document:
        return question.question
    template = prompt(f"answer_with_document_{question.language}")
    return template.format(document=question.document, question=question.question).strip()


def _check(questions: Sequence[Question], n: int, sampling: Sampling) -> None:
    if n < 1 or not questions:
        raise HarnessError(f"nothing to sample: {len(questions)} questions, {n} samples each")
    if sampling.temperature < 0 or sampling.top_k < 0 or not 0 < sampling.top_p <= 1 or sampling.max_tokens < 1:
        raise HarnessError("sampling needs temperature >= 0, top-k >= 0, 0 < top-p <= 1 and max-tokens >= 1")
    if sampling.temperature == 0 and n > 1:
        raise HarnessError(f"temperature 0 gives {n} times the same answer; raise it, or take 1 sample")


def _says(_: int, reply: Reply) -> bool:
    """Whether an answer is worth keeping; one that fills its limit is an answer, too."""
    return reply.text is not None and bool(reply.text.strip())


def draw(
    questions: Sequence[Question],
    engine: CachedEngine,
    *,
    n: int,
    sampling: Sampling,
    with_document: bool = False,
    done: Collection[SamplePlace] = (),
    counts: Counter[str] | None = None,
    on_reply: Callable[[], object] | None = None,
) -> Iterator[Sample]:
    """`n` samples per question, question by question; memory is bounded by `QUESTIONS_IN_FLIGHT` questions.

    Sample k has seed `sampling.seed + k`, so runs are independent when their seeds are `n` apart. All questions of a
    window are sent at once for every k. Thinking is no part of a sample. done: places to leave out. counts: gets asked,
    failed (the engine could not answer: no sample), empty, and thinking_cut (empty, since it ended inside its
    thinking). Raises HarnessError for settings that cannot work, EngineError when the engine fails
    as a whole.
    """
    _check(questions, n, sampling)
    counts = Counter() if counts is None else counts

    def replied(_: int, reply: Reply) -> None:
        if on_reply is not None:
            on_reply()

    step = engine.wave(QUESTIONS_IN_FLIGHT)
    for start in range(0, len(questions), step):
        window = questions[start : start + step]
        found: dict[tuple[int, int], Sample] = {}
        lefts = [
            [(i, q) for i, q in enumerate(window) if (q.language, q.topic, q.question, k) not in done] for k in range(n)
        ]
        parts = [
            (
                [[{"role": "user", "content": ask(q, with_document)}] for _, q in left],
                replace(sampling, seed=sampling.seed + k),
            )
            for k, left in enumerate(lefts)
        ]
        engine.announce(parts)
        for k, (left, (conversations, seeded)) in enumerate(zip(lefts, parts, strict=True)):
            replies = engine.complete(conversations, seeded, replied, keep=_says)
            for (i, q), reply in zip(left, replies, strict=True):
                counts["asked"] += 1
                if reply.text is None:
                    if not counts["failed"]:
                        log.warning("no answer to %r: %s", q.question, reply.error)
                    counts["failed"] += 1
                    continue
                said = set_thinking_aside(reply.text)
                counts["empty"] += not said.text.strip()
                counts["thinking_cut"] += said.cut
                found[i, k] = Sample(q, said.text, k)
        yield from (found[place] for place in sorted(found))


def sample(
    questions: Sequence[Question],
    engine_spec: str,
    out: Path,
    *,
    n: int,
    sampling: Sampling,
    with_document: bool = False,
    engine_args: dict[str, Any] | None = None,
    progress: bool = True,
) -> Counter[str]:
    """Write `n` samples per question to `out` (`Sample.to_dict`); what the file already holds is not asked again.

    The row's question is the plain one even with_document. Returns the counts of `draw` and `already`, the rows found;
    failed requests have no row and are asked again next time. Raises HarnessError for a file made with other settings,
    and when nothing was answered at all; EngineError when the engine fails.
    """
    _check(questions, n, sampling)
    engine = open_engine(engine_spec, role="model", **(engine_args or {}))
    engine.engine.check()
    settings = {
        "engine": engine.engine.identity,
        "n": n,
        "sampling": asdict(sampling),
        "with_document": with_document,
        "questions": digest(questions),
    }
    counts: Counter[str] = Counter(asked=0, failed=0, empty=0)
    found = resume(out, settings)
    done = _places(out) if found else set()
    counts["already"] = len(done)
    with (
        tqdm(total=n * len(questions), initial=len(done), desc="sample", unit="response", disable=not progress) as bar,
        out.open("a", encoding="utf-8") as file,
    ):
        drawn = draw(
            questions,
            engine,
            n=n,
            sampling=sampling,
            with_document=with_document,
            done=done,
            counts=counts,
            on_reply=bar.update,
        )
        for one in drawn:
            append(file, one.to_dict())
    if not done and counts["failed"] == counts["asked"]:
        raise HarnessError(f"{engine_spec} answered none of {counts['asked']} requests")
    return counts


def _places(out: Path) -> set[SamplePlace]:
    rows = read_jsonl(out, required=["language", "topic", "question", "sample"])
    return {(row["language"], row["topic"], row["question"], row["sample"]) for _, row in rows}
