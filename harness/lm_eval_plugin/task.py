"""lm_eval tasks whose score comes from a judge.

A `JudgedTask` is a ConfigurableTask with one filter: it hands ALL responses of the task to the judge at once (so the
judge batches) and returns annotation JSON, which lm_eval writes to its samples file. Metrics read only that JSON.
Everything a user can set comes from `--metadata` (see the task READMEs); the judge that was used is written into the
task's metadata in lm_eval's results file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.filter import Filter, FilterEnsemble
from lm_eval.api.task import ConfigurableTask

from factuality_harness.harness import unjudged
from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.engines import cache_path
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.tokenizers import check_tokenizer
from factuality_harness.harness.lm_eval_plugin import dry_run
from factuality_harness.harness.metrics import NAN, Metric
from factuality_harness.harness.words import whole_characters

log = logging.getLogger(__name__)
FAILED: list[str] = []
"""Why this process must not end as if all were well."""


class Scored(float):
    """A question's own value, as the samples file shows it, with the counts that aggregation needs behind it."""

    counts: Any

    def __new__(cls, value: float, counts: Any) -> Scored:
        self = super().__new__(cls, value)
        self.counts = counts
        return self

    def __getnewargs__(self) -> tuple[float, Any]:  # type: ignore[override]  # lm_eval sends these between processes
        return float(self), self.counts


def over_counts(
    aggregate: Callable[[Sequence[Any]], float], rows: Callable[[list[Any]], list[Any]]
) -> Callable[[Iterable[Scored]], float]:
    """An lm_eval aggregation from a function of counts; rows: what to make of the questions' counts first."""

    def aggregation(values: Iterable[Scored]) -> float:
        return aggregate(rows([value.counts for value in values]))

    return aggregation


def f1_k(settings: Mapping[str, Any], default: int) -> int:
    """K of F1@K from a task's metadata. Raises HarnessError for one that is no whole number from 1."""
    k = settings.get("f1_k", default)
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise HarnessError(f"f1_k, what a full answer holds, must be a whole number from 1, not {k!r}")
    return k


def keep_answers(task: str, answers: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> Path:
    """Generated answers as rows that the replay model reads, in the cache folder; returns the file."""
    rows = [
        {"topic": doc.get("topic", ""), "question": doc["question"], "response": answer}
        for doc, of_question in zip(docs, answers, strict=True)
        for answer in of_question
    ]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
    path = cache_path().parent / "responses" / f"{task}-{digest}.jsonl"
    write_jsonl(path, rows)
    return path


def _made_whole(responses: list[str]) -> list[str]:
    """The responses in whole characters; in place, since lm_eval writes this list."""
    responses[:] = map(whole_characters, responses)
    return responses


class _JudgeFilter(Filter):
    def __init__(self, task: JudgedTask) -> None:
        super().__init__()
        self._task = task

    def apply(self, resps: Iterable[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        # With several processes lm_eval evens out their shares by asking a question again; the extra answers come last.
        repeats = self._task.config.repeats
        resps = [_made_whole(r) for r in resps]
        answers = [r[:repeats] for r in resps]
        try:
            annotations = self._task.judge_responses(answers, docs)
        except (HarnessError, KeyboardInterrupt) as error:
            kept = keep_answers(self._task.task_name, answers, docs)
            kind = type(error) if isinstance(error, HarnessError) else HarnessError
            raise kind(
                f"{error or 'interrupted'}\nThe answers are kept in {kept}; go on without generating them again: "
                f"lm_eval --model replay --model_args responses={kept} --tasks {self._task.task_name} and the same "
                "--metadata"
            ) from error
        self._task.settings["judge_usage"] = usage_of(self._task)
        self._task.check_unjudged(annotations, docs)
        return annotations


class JudgedTask(ConfigurableTask):
    """Base of the judged tasks. Subclasses say how to open the judge, how to judge, and what the metrics are."""

    metrics: dict[str, Metric]

    def __init__(self, config: dict[str, Any]) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        config["metric_list"] = [
            {
                "metric": name,
                "aggregation": over_counts(metric.aggregation, self.rows),
                "higher_is_better": metric.higher_is_better,
            }
            for name, metric in self.metrics.items()
        ]
        config["process_results"] = _in_the_class
        self._predict_only = False
        super().__init__(config=config)
        self._filters = [FilterEnsemble(name="annotation", filters=[lambda: _JudgeFilter(self)])]
        self.dry = dry_run.begin(self)

    @property
    def settings(self) -> dict[str, Any]:
        """The task's metadata: the YAML's, overridden by `--metadata`."""
        return self.config.metadata

    def override_metric(self, metric_name: str) -> None:
        """lm_eval's --predict_only: generate and store, call no judge."""
        super().override_metric(metric_name)
        self._predict_only = True
        self._filters = [FilterEnsemble(name="none", filters=[_FirstResponse])]

    def build_all_requests(self, *args: Any, **kwargs: Any) -> None:
        # The first thing lm_eval does with a chosen task: a missing judge must show before hours of generation.
        tokenizer = getattr(getattr(kwargs.get("chat_template"), "__self__", None), "tokenizer", None)
        if tokenizer is not None:
            check_tokenizer(tokenizer, getattr(tokenizer, "name_or_path", ""))
        if not self._predict_only:
            self.settings["judge"] = self.open_judge()
        super().build_all_requests(*args, **kwargs)
        if self.dry is not None and not self._predict_only:
            dry_run.count(self, self.dry)

    def open_judge(self) -> str:
        """Open and check the judge, which counts into `self.dry` where that is set; return the spec to record. Raises
        HarnessError when it cannot be used."""
        raise NotImplementedError

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        """Annotation JSON for each question's responses (several with `repeats`)."""
        raise NotImplementedError

    def count(self, doc: dict[str, Any], annotations: str) -> Any:
        """Counts of one question from its annotation JSON."""
        raise NotImplementedError

    def unjudged(self, rows: Sequence[Any]) -> float:
        """Share of what was to be judged that has no verdict, from the rows that metrics aggregate over."""
        return NAN

    def fallible(self) -> bool:
        """Whether what has no verdict counts against the judge (see `JudgeSpec.fallible`)."""
        return JudgeSpec.parse(self.settings["judge"]).fallible

    def check_unjudged(self, annotations: Sequence[str], docs: Sequence[dict[str, Any]]) -> None:
        """Note a judge that left too much unjudged: lm_eval's command then ends as failed, with its results written."""
        if not self.fallible():
            return
        counts = [self.count(doc, text) for doc, text in zip(docs, annotations, strict=True)]
        try:
            limit = self.settings.get("max_unparsed", unjudged.LIMIT)
            unjudged.check_unjudged(self.unjudged(self.rows(counts)), limit, f"sentences of {self.task_name}")
        except HarnessError as error:
            log.error("%s", error)
            FAILED.append(str(error))

    @staticmethod
    def rows(counts: Sequence[Any]) -> list[Any]:
        """What the metrics aggregate over, from the questions' counts."""
        return list(counts)

    def sample_values(self, counts: Any) -> dict[str, float]:
        """What the samples file shows for one question; where the score's interval stands, its own score."""
        rows = self.rows([counts])
        return {name: self.metrics[name.split("_ci95_")[0]].aggregation(rows) for name in self.metrics}

    def set_config(self, key: str, value: Any, update: bool = False) -> None:
        """Raises HarnessError for num_fewshot: an answer is judged as the model gives it, without examples."""
        if key == "num_fewshot" and value:
            raise HarnessError(f"{self.task_name}: num_fewshot {value} has no meaning here; leave it out")
        super().set_config(key, value, update)

    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        """Per-question metric values from the filter's annotation JSON."""
        if self._predict_only:
            return super().process_results(doc, results)
        counts = self.count(doc, results[0])
        return {name: Scored(value, counts) for name, value in self.sample_values(counts).items()}


def _in_the_class(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Tells ConfigurableTask that the metrics are the task's own. It cannot be the bound method: lm_eval copies the
    config, and would copy the judge with it."""
    raise NotImplementedError


class _FirstResponse(Filter):
    def apply(self, resps: Iterable[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        return [_made_whole(r)[0] for r in resps]
