"""The task `factuality_custom`: anybody's questions, against their documents or a knowledge source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import datasets

from factuality_harness.harness.annotators.spec import JUDGES, JudgeSpec
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.knowledge import Knowledge
from factuality_harness.harness.lm_eval_plugin.anah import AnahTask, as_dataset
from factuality_harness.harness.lm_eval_plugin.factscore import AnahFactScoreTask, FactScoreTask
from factuality_harness.harness.questions import GRAMMAR, load_questions


def by_facts(settings: Mapping[str, Any]) -> bool:
    """Whether answers are scored fact by fact: a knowledge source is named, or the judge decides facts."""
    judge = settings.get("judge") or os.environ.get("HARNESS_JUDGE") or ""
    known = JUDGES.get(JudgeSpec.from_results(str(judge)).name)
    return bool(settings.get("knowledge")) or (known is not None and not known.sentences)


class CustomFactsTask(AnahFactScoreTask):
    """FActScore of anybody's questions; the page of a topic is the knowledge source's, else the question's document."""

    def page_title(self, doc: dict[str, Any]) -> str:
        return doc["topic"] if self.settings.get("knowledge") else super().page_title(doc)

    def open_knowledge(self) -> Knowledge:
        return FactScoreTask.open_knowledge(self) if self.settings.get("knowledge") else super().open_knowledge()


class CustomTask:
    """Makes the task that the settings ask for: `AnahTask` or `CustomFactsTask`."""

    def __new__(cls, config: dict[str, Any]) -> Any:
        kind = CustomFactsTask if by_facts(config.get("metadata") or {}) else AnahTask
        return kind(config)

    def __init__(self, config: dict[str, Any]) -> None:
        """By its signature lm_eval knows that the class takes a config."""


def custom_dataset(
    questions: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    language: str | None = None,
    knowledge: str | None = None,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: the questions of any source.

    questions: see `harness.questions`. columns: where they have not the usual names. split: as ANAH's; None takes all
    rows. knowledge: where pages are, so that rows need no document. Raises HarnessError naming file and row.
    """
    if not questions or not isinstance(questions, str):
        raise HarnessError(
            f'which questions? Give --metadata \'{{"questions": "SOURCE"}}\'; SOURCE is {GRAMMAR}'
            + (f", not {questions!r}" if questions else "")
        )
    return as_dataset(load_questions(questions, split, columns, documents=not knowledge), language)
