"""lm_eval tasks whose score comes from a judge.

A `JudgedTask` is a ConfigurableTask with one filter: it hands ALL responses of the task to the judge at once (so the
judge batches) and returns annotation JSON, which lm_eval writes to its samples file. Metrics read only that JSON.
Everything a user can set comes from `--metadata` (see the task READMEs); the judge that was used is written into the
task's metadata in lm_eval's results file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import datasets
from lm_eval.api.filter import Filter, FilterEnsemble
from lm_eval.api.task import ConfigurableTask

from harness import best_of
from harness.annotate import Item, annotate
from harness.annotation import Annotation, dump_annotations, load_annotations
from harness.annotators import judge_spec, open_annotator
from harness.data import anah
from harness.errors import HarnessError
from harness.metrics import METRICS, count

log = logging.getLogger(__name__)


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


class _JudgeFilter(Filter):
    def __init__(self, task: JudgedTask) -> None:
        super().__init__()
        self._task = task

    def apply(self, resps: Iterable[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        # With several processes lm_eval evens out their shares by asking a question again; the extra answers come last.
        repeats = self._task.config.repeats
        return self._task.judge_responses([list(r)[:repeats] for r in resps], docs)


class JudgedTask(ConfigurableTask):
    """Base of the judged tasks. Subclasses say how to open the judge, how to judge, and what the metrics are."""

    metrics: dict[str, tuple[Callable[[Sequence[Any]], float], bool]]

    def __init__(self, config: dict[str, Any]) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        config["metric_list"] = [
            {"metric": name, "aggregation": over_counts(aggregate, self.rows), "higher_is_better": better}
            for name, (aggregate, better) in self.metrics.items()
        ]
        config["process_results"] = _in_the_class
        self._predict_only = False
        super().__init__(config=config)
        self._filters = [FilterEnsemble(name="annotation", filters=[lambda: _JudgeFilter(self)])]

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
        if not self._predict_only:
            self.settings["judge"] = self.open_judge()
        super().build_all_requests(*args, **kwargs)

    def open_judge(self) -> str:
        """Open and check the judge; return the spec to record. Raises HarnessError when it cannot be used."""
        raise NotImplementedError

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        """Annotation JSON for each question's responses (several with `repeats`)."""
        raise NotImplementedError

    def count(self, doc: dict[str, Any], annotations: str) -> Any:
        """Counts of one question from its annotation JSON."""
        raise NotImplementedError

    @staticmethod
    def rows(counts: Sequence[Any]) -> list[Any]:
        """What the metrics aggregate over, from the questions' counts."""
        return list(counts)

    def sample_values(self, counts: Any) -> dict[str, float]:
        """What the samples file shows for one question; where the score's interval stands, its own score."""
        rows = self.rows([counts])
        return {name: self.metrics[name.split("_ci95_")[0]][0](rows) for name in self.metrics}

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
        return [r[0] for r in resps]


class AnahTask(JudgedTask):
    """Sentence-level factuality on questions with reference documents (ANAH, and the small corpus)."""

    metrics: dict[str, tuple[Callable[[Sequence[Any]], float], bool]] = METRICS

    def open_judge(self) -> str:
        spec = judge_spec(self.settings.get("judge"), self.settings.get("default_judge"))
        self._annotator = open_annotator(spec, self.settings.get("judge_args"))
        self._annotator.check()
        return spec

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        items = [
            Item(doc["question"], response, doc["document"], doc["language"], doc["topic"])
            for doc, responses in zip(docs, resps, strict=True)
            for response in responses
        ]
        empty = sum(not item.response.strip() for item in items)
        if empty:
            log.warning("%s: %d of %d responses are empty; they hold no sentence", self.task_name, empty, len(items))
        style = self.settings.get("sentence_style", "anah")
        annotations = annotate(items, self._annotator, style=style, total=len(items))
        kept = map(without_evidence, annotations) if self.settings.get("compact") else annotations
        texts = [dump_annotations([next(kept) for _ in responses]) for responses in resps]
        next(annotations, None)  # lets the progress bar close
        return texts

    def count(self, doc: dict[str, Any], annotations: str) -> Any:
        return count(load_annotations(annotations))


class BestOfNTask(AnahTask):
    """Best-of-N from one pool of `repeats` responses a question: see harness.best_of."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = config.get("metadata") or {}
        pool = settings.get("pool", config.get("repeats", 1))
        if not isinstance(pool, int) or pool < 1:
            raise HarnessError(f"pool, the number of responses sampled a question, must be 1 or more, not {pool!r}")
        self.sizes = settings.get("best_of") or [n for n in best_of.SIZES if n <= pool]
        if not isinstance(self.sizes, list) or not all(isinstance(n, int) and 1 <= n <= pool for n in self.sizes):
            raise HarnessError(
                f"best_of must be a list of numbers from 1 to {pool}, not {self.sizes!r}: {pool} responses are sampled "
                'a question ({"pool": M} samples M)'
            )
        config = {**config, "repeats": pool}
        self.metrics = best_of.metrics(self.sizes)
        super().__init__(config)

    def count(self, doc: dict[str, Any], annotations: str) -> dict[int, best_of.Best]:
        return best_of.best_of([count([a]) for a in load_annotations(annotations)], self.sizes)


def without_evidence(annotation: Annotation) -> Annotation:
    """The annotation with its labels only, for samples files that hold hundreds of responses a question."""
    return replace(annotation, judgements=tuple(replace(j, evidence=()) for j in annotation.judgements))


def as_dataset(questions: list[anah.Question], language: str | None) -> dict[str, datasets.Dataset]:
    """Questions in one language, or all of them, as lm_eval wants them. Raises HarnessError when there is none."""
    chosen = anah.only_language(questions, language)
    if not chosen:
        raise HarnessError(f"no question in language {language!r} among {len(questions)}")
    return {"test": datasets.Dataset.from_list([q.to_dict() for q in chosen])}


def anah_dataset(
    data: str | None = None, language: str | None = None, split: str = "test", **_: Any
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: the ANAH questions of a split.

    data: a path, or None for $HARNESS_ANAH_DATA and then the hub. language: `en`, `zh` or None for both.
    """
    questions = anah.split_questions(anah.load(data), split)
    found = len({(q.language, q.topic) for q in questions})
    if split == "test" and found < anah.TEST_TOPICS:
        log.warning("%s is a small source: its test split holds %d topics, not %d", data, found, anah.TEST_TOPICS)
    return as_dataset(questions, language)


def mini_dataset(language: str | None = None, split: str = "test", **_: Any) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: the small corpus shipped with the harness."""
    return as_dataset(anah.load_mini(split), language)
