"""The ANAH tasks of lm_eval: sentence-level factuality on questions with reference documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets

from factuality_harness.harness import best_of
from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Annotation, dump_annotations, load_annotations
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.task import JudgedTask, f1_k, log
from factuality_harness.harness.metrics import NAN, K, Metric, anah_metrics, count, rate
from factuality_harness.harness.questions import load_questions


class AnahTask(JudgedTask):
    """Sentence-level factuality on questions with reference documents (ANAH, and the small corpus)."""

    metrics: dict[str, Metric]

    def __init__(self, config: dict[str, Any]) -> None:
        if not hasattr(self, "metrics"):
            self.metrics = anah_metrics(f1_k(config.get("metadata") or {}, K))
        super().__init__(config)

    def open_judge(self) -> str:
        spec = JudgeSpec.configured(self.settings.get("judge"), self.settings.get("default_judge"))
        self.annotator = spec.open(self.settings.get("judge_args"), dry=self.dry)
        self.annotator.check()
        return str(spec)

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        items = [
            DocumentedResponse(doc["question"], response, doc["document"], doc["language"], doc["topic"])
            for doc, responses in zip(docs, resps, strict=True)
            for response in responses
        ]
        empty = sum(not item.response.strip() for item in items)
        if empty:
            log.warning("%s: %d of %d responses are empty; they hold no sentence", self.task_name, empty, len(items))
        style = self.settings.get("sentence_style", "anah")
        annotations = annotate(items, self.annotator, style=style, total=len(items))
        kept = map(without_evidence, annotations) if self.settings.get("compact") else annotations
        texts = [dump_annotations([next(kept) for _ in responses]) for responses in resps]
        next(annotations, None)  # lets the progress bar close
        return texts

    def count(self, doc: dict[str, Any], annotations: str) -> Any:
        return count(load_annotations(annotations))

    def unjudged(self, rows: Sequence[Any]) -> float:
        return rate("unparsed")(rows)


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

    def unjudged(self, rows: Sequence[Any]) -> float:
        return NAN  # expectations over pools hold no counts of it

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

    data: a source of questions, or None for `anah`: $HARNESS_ANAH_DATA and then the hub. language: `en`, `zh` or None
    for both.
    """
    questions = load_questions(data or "anah", split)
    found = len({(q.language, q.topic) for q in questions})
    if split == "test" and found < anah.TEST_TOPICS:
        log.warning("%s is a small source: its test split holds %d topics, not %d", data, found, anah.TEST_TOPICS)
    return as_dataset(questions, language)


def mini_dataset(language: str | None = None, split: str = "test", **_: Any) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: the small corpus shipped with the harness."""
    return as_dataset(load_questions("mini", split), language)
