"""`--metadata '{"dry_run": true}'`: count what the judge of each task would ask, and end before anything is generated.

With `--model replay` the stored answers are counted. With any other model there are none yet, so each is taken to be as
long as the task allows. `dry_run` may be an object: tokenizer, prices, and answer_tokens, the length to take instead.
"""

from __future__ import annotations

import logging
import sys
import weakref
from typing import Any, Protocol

from pydantic import PositiveInt

from factuality_harness.harness.dry_run import DryRun
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.settings import Settings, read_settings
from factuality_harness.harness.words import tokens_about

log = logging.getLogger(__name__)

# A plain sentence of the mean length of those in the shipped corpus: 20 words, 40 characters.
_SENTENCE = {
    "en": "In the year {n} this was described at some length in a report that names {topic} and the place.",
    "zh": "一份报告在{n}年较为详细地描述了这件事情，其中提到{topic}以及相关的地点和时间。",
}


class Judged(Protocol):
    """What counting needs of a task."""

    settings: dict[str, Any]
    task_name: Any
    config: Any
    instances: Any

    def judge_responses(self, responses: list[list[str]], docs: list[dict[str, Any]]) -> Any:
        """Judge the responses to every doc."""


_WAITING: weakref.WeakSet[Judged] = weakref.WeakSet()


class DryRunOptions(Settings):
    """tokenizer, prices: see `DryRun`. answer_tokens: length of an answer that is not there yet."""

    tokenizer: str | None = None
    prices: str | None = None
    answer_tokens: PositiveInt | None = None


def begin(task: Judged) -> DryRun | None:
    """Where a task's judge counts; None where its metadata asks for no dry run. Raises HarnessError for bad options."""
    given = task.settings.get("dry_run", False)
    if given is False or given is None:
        return None
    options = _options(given)
    _WAITING.add(task)
    return DryRun(options.tokenizer, options.prices)


def _options(given: Any) -> DryRunOptions:
    if not isinstance(given, dict) and given is not True:
        raise HarnessError(f"dry_run is {given!r}: true, or an object of tokenizer, prices and answer_tokens")
    return read_settings(DryRunOptions, {} if given is True else given, "dry_run")


def count(task: Judged, dry: DryRun) -> None:
    """Print what judging the task would ask. Raises SystemExit with code 0 once this is done for all tasks."""
    instances = [instance for instance in task.instances if instance.idx == 0]
    answers = _stored(instances)
    if answers is None:
        limit = _options(task.settings["dry_run"]).answer_tokens
        limit = limit or (task.config.generation_kwargs or {}).get("max_gen_toks", 256)
        dry.notes.append(
            f'nothing is generated: each answer is taken to have {limit} tokens ({{"dry_run": {{"answer_tokens": N}}}} '
            "takes another length, --model replay counts stored answers)"
        )
        answers = [[typical_answer(i.doc, limit, number) for number in range(i.repeats)] for i in instances]
    task.judge_responses(answers, [instance.doc for instance in instances])
    dry.show(str(task.settings["judge"]), task=task.task_name, responses=sum(map(len, answers)))
    _WAITING.discard(task)
    if not _WAITING:
        sys.stdout.flush()
        raise SystemExit(0)


def _stored(instances: list[Any]) -> list[list[str]] | None:
    from factuality_harness.harness.lm_eval_plugin.replay import ReplayLM

    replay = None if ReplayLM.current is None else ReplayLM.current()
    if replay is None:
        return None
    answers = iter(replay.generate_until([i for i in instances for _ in range(i.repeats)]))
    return [[next(answers) for _ in range(i.repeats)] for i in instances]


def typical_answer(doc: dict[str, Any], tokens: int, number: int) -> str:
    """An answer of about `tokens` tokens, in sentences that all differ."""
    language = "zh" if doc.get("language") == "zh" else "en"
    said: list[str] = []
    held = 0.0
    while held < tokens:
        year = number * 1000 + len(said)
        said.append(_SENTENCE[language].format(n=year, topic=str(doc.get("topic") or doc["question"])[:20]))
        held += tokens_about(said[-1])
    return ("" if language == "zh" else " ").join(said)
