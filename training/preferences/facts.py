"""Samples labelled by a judge of facts: FActScore's pipeline over each sample's own document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from factuality_harness.harness.annotate import DocumentedResponse
from factuality_harness.harness.annotation import Annotation
from factuality_harness.harness.factscore.evaluator import FactScorer
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.factscore.scored import TopicResponse

WINDOW = 1024  # responses scored together


def annotate_facts(items: Iterable[DocumentedResponse], scorer: FactScorer) -> Iterator[Annotation]:
    """An annotation per item, in order, its facts in `extra`: what FactTune ranks answers by.

    A topic's page is its document; another document of the same topic is a page of its own. Raises as the scorer does.
    """
    left = iter(items)
    while window := list(islice(left, max(WINDOW, scorer.window // 8))):
        pages: dict[str, str] = {}
        asked = []
        for item in window:
            title = item.topic or item.question
            if pages.setdefault(title, item.document) != item.document:
                title = f"{title}: {item.question}"
                pages[title] = item.document
            asked.append(TopicResponse(title, item.question, item.response, item.language))
        scorer.knowledge = open_knowledge(pages)
        for item, scored in zip(window, scorer.score(asked), strict=True):
            yield replace(scored.to_annotation(), topic=item.topic)
