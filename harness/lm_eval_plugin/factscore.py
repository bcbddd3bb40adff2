"""The FActScore tasks: biographies against a knowledge source, and ANAH questions against their documents."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets

from factuality_harness.harness.annotation import dump_annotations, load_annotations
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data.biographies import load_entities
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore import score
from factuality_harness.harness.factscore.evaluator import open_scorer
from factuality_harness.harness.factscore.knowledge import Knowledge, missing_error, missing_titles, open_knowledge
from factuality_harness.harness.factscore.score import FactCounts
from factuality_harness.harness.factscore.scored import TopicResponse
from factuality_harness.harness.lm_eval_plugin.task import JudgedTask, f1_k
from factuality_harness.harness.metrics import Metric, interval_ends, ratio

log = logging.getLogger(__name__)

_ENTITIES = {"labeled": 183, "unlabeled": 500}


def _per_response(value: Callable[[FactCounts], float], better: bool, counted: str) -> Metric:
    """Mean over the responses that answer, as the paper's tables count correct and incorrect facts."""

    def mean(rows: Sequence[FactCounts]) -> float:
        answered = [value(r) for r in rows if r.responded and not r.skipped]
        return ratio(sum(answered), len(answered))

    return Metric(mean, better, f"Mean number of {counted} per answer that does not abstain.")


def metrics(gamma: float = score.GAMMA, k: int = score.K) -> dict[str, Metric]:
    """Metrics of the FActScore tasks, over the answers' counts; k: of F1@K."""
    theirs = score.METRICS
    return {
        "factscore": replace(theirs["score"], aggregation=lambda rows: score.score(rows, gamma)),
        "factscore_no_penalty": theirs["init_score"],
        **interval_ends("factscore", lambda rows: score.score_ci95(rows, gamma)),
        "respond_ratio": theirs["respond_ratio"],
        "facts_per_response": theirs["num_facts_per_response"],
        "supported": _per_response(lambda r: r.supported, True, "supported facts"),
        "unsupported": _per_response(lambda r: r.unsupported + r.irrelevant, False, "facts that are not supported"),
        "unparsed_facts": _per_response(lambda r: r.unparsed, False, "facts without a verdict"),
        "undecided": _per_response(lambda r: r.undecided, False, "facts judged neither true nor false"),
        "unread_sentences": _per_response(
            lambda r: r.unparsed_sentences, False, "sentences from which no fact could be read"
        ),
        "language_mismatch_rate": theirs["language_mismatch_rate"],
        "f1_at_k": Metric(
            score.f1_at(k), True, f"Mean over answers of F1@K, K = {k}: precision, and recall up to K supported facts."
        ),
        **interval_ends("f1_at_k", score.f1_ci95(k)),
    }


class FactScoreTask(JudgedTask):
    """FActScore of biographies (Min et al., EMNLP 2023), judge and knowledge source from `--metadata`."""

    def __init__(self, config: dict[str, Any]) -> None:
        given = config.get("metadata") or {}
        self.metrics = metrics(float(given.get("gamma", score.GAMMA)), f1_k(given, score.K))
        super().__init__(config)

    def open_knowledge(self) -> Knowledge:
        """The pages the facts are checked against."""
        source = self.settings.get("knowledge") or os.environ.get("HARNESS_FACTSCORE_KNOWLEDGE")
        if not source:
            raise HarnessError(
                'no knowledge source: give --metadata \'{"knowledge": "PATH"}\' or HARNESS_FACTSCORE_KNOWLEDGE: '
                "FActScore's SQLite database, JSONL with title and text, or hf:REPO"
            )
        return open_knowledge(source)

    def page_title(self, doc: dict[str, Any]) -> str:
        """Title of the page that the answer to a question is checked against."""
        return doc["topic"]

    def open_judge(self) -> str:
        spec = str(JudgeSpec.configured(self.settings.get("judge"), self.settings.get("default_judge")))
        names = ("retrieval", "k", "demos", "extractor", "extractor_args", "abstain_detector", "missing")
        chosen = {name: self.settings[name] for name in names if name in self.settings}
        if "sentence_style" in self.settings:
            chosen["style"] = self.settings["sentence_style"]
        self.scorer = open_scorer(
            spec, self.open_knowledge(), options=self.settings.get("judge_args"), dry=self.dry, **chosen
        )
        self.scorer.check()
        self.settings["factscore"] = self.scorer.settings()
        return spec

    def build_all_requests(self, *args: Any, **kwargs: Any) -> None:
        """Raises HarnessError for a topic without a page, before anything is generated."""
        super().build_all_requests(*args, **kwargs)
        if not self._predict_only and self.scorer.missing == "error":
            titles = [self.page_title(instance.doc) for instance in self.instances]
            if missing := missing_titles(self.scorer.knowledge, titles):
                raise missing_error(self.scorer.knowledge, missing)

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        items = [
            TopicResponse(self.page_title(doc), doc["question"], response, doc["language"])
            for doc, responses in zip(docs, resps, strict=True)
            for response in responses
        ]
        scored = iter(self.scorer.score(items))
        return [dump_annotations([next(scored).to_annotation() for _ in responses]) for responses in resps]

    def count(self, doc: dict[str, Any], annotations: str) -> list[FactCounts]:
        return [score.counts_of_annotation(a) for a in load_annotations(annotations)]

    def unjudged(self, rows: Sequence[Any]) -> float:
        return score.unjudged_share(rows)

    @staticmethod
    def rows(counts: Sequence[list[FactCounts]]) -> list[FactCounts]:
        return [row for of_question in counts for row in of_question]


class AnahFactScoreTask(FactScoreTask):
    """The FActScore evaluator on ANAH questions; the page of a topic is its reference document."""

    def page_title(self, doc: dict[str, Any]) -> str:
        name = _page_name(doc)
        return name if self._pages.get(name) == doc["document"] else f"{name}: {doc['question']}"

    def open_knowledge(self) -> Knowledge:
        self._pages: dict[str, str] = {}
        for doc in self.eval_docs:
            self._pages.setdefault(_page_name(doc), doc["document"])
        # A topic's first document has its name; another one that a question brings is its own page.
        return open_knowledge(self._pages | {self.page_title(doc): doc["document"] for doc in self.eval_docs})


def _page_name(doc: dict[str, Any]) -> str:
    """One name may stand for a page in either language."""
    return doc["topic"] if doc["language"] == "en" else f"{doc['topic']} ({doc['language']})"


def entities_dataset(
    entities: str | None = None, part: str = "labeled", language: str = "en", **_: Any
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: biography prompts.

    entities: a file of names, FActScore JSONL, `hf:REPO`, or FActScore's data folder (default
    $HARNESS_FACTSCORE_ENTITIES), of which `part` (labeled or unlabeled) is taken.
    """
    source = entities or os.environ.get("HARNESS_FACTSCORE_ENTITIES")
    if not source:
        raise HarnessError(
            'no entities: give --metadata \'{"entities": "PATH"}\' or HARNESS_FACTSCORE_ENTITIES: FActScore\'s data '
            "folder or prompt_entities.txt, its labelled JSONL, or hf:REPO"
        )
    if not source.startswith("hf:") and Path(source).is_dir():
        folder = Path(source)
        found = [f for f in (folder / part / "prompt_entities.txt", folder / "prompt_entities.txt") if f.is_file()]
        if not found:
            raise HarnessError(f"{folder}: neither {part}/prompt_entities.txt nor prompt_entities.txt in it")
        source = str(found[0])
    rows = load_entities(source)
    if len(rows) != _ENTITIES[part]:
        log.warning("%s holds %d entities, not the %d of FActScore's %s set", source, len(rows), _ENTITIES[part], part)
    return {
        "test": datasets.Dataset.from_list(
            [{"topic": r.topic, "question": r.question, "language": language} for r in rows]
        )
    }
