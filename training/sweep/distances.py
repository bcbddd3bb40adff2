"""The stage `distances`: how far each test topic lies from the topics of a cell's preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.embeddings.distances import TopicDistances
from factuality_harness.harness.embeddings.nearest import nearest_topics
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.world.generate import World, with_article
from factuality_harness.training.sweep.schema import hidden_model
from factuality_harness.training.sweep.selection import NO_TOPIC


def topic_distances(
    pairs: Path,
    targets: Sequence[Question],
    settings: Mapping[str, Any],
    model: str | None = None,
    world: World | None = None,
) -> TopicDistances:
    """What the stage writes as `distances.json` (see `TopicDistances`), one distance per test topic.

    pairs: the cell's preference pairs. targets: the test questions. settings: embedding (`hidden:policy@LAYER` and the
    like are of `model`), embedding_args, text (with {topic}; {kind} too in a world), k, centre. All test topics are
    embedded together with all training topics, so with `centre` a distance depends on both lists.
    Raises HarnessError for pairs and questions whose topics have no name, a text that cannot be filled in, and whatever
    the embedding refuses.
    """
    from factuality_harness.harness.embeddings.models import open_embedding

    spec, args = settings["embedding"], settings.get("embedding_args", {})
    if spec.startswith("hidden:"):
        _, layer = hidden_model(spec)
        spec = f"hidden:{model}@{layer}" if layer else f"hidden:{model}"
    train = _named(((f"{pairs}, row {n}", row.get("topic") or "") for n, row in read_jsonl(pairs)))
    test = _named((f"the question {q.question!r}", q.topic) for q in targets)
    texts = [_texts(topics, settings["text"], world) for topics in (train, test)]
    return TopicDistances(
        embedding=settings["embedding"],
        text=settings["text"],
        template=args.get("template"),
        k=settings["k"],
        centre=settings["centre"],
        training_topics=len(train),
        distance=nearest_topics(open_embedding(spec, **args), *texts, k=settings["k"], centre=settings["centre"]),
        unit={t.name: f"world {world.config.seed}, {t.cluster}" for t in world.topics if t.name in {*test}}
        if world
        else {},
    )


def _named(topics: Iterable[tuple[str, str]]) -> list[str]:
    """Different topics, in order. topics: where each stands, and its name."""
    found: dict[str, None] = {}
    for where, topic in topics:
        if not topic or NO_TOPIC.fullmatch(topic):
            raise HarnessError(f"{where}: its topic has no name, so there is nothing to embed")
        found[topic] = None
    return list(found)


def _texts(topics: Sequence[str], text: str, world: World | None) -> dict[str, str]:
    """What is embedded for each topic."""
    if "{topic}" not in text:
        raise HarnessError(f"distances: text {text!r} must hold {{topic}}, or all topics are one")
    kinds = {topic.name: with_article(topic.kind) for topic in world.topics} if world else {}
    if "{kind}" in text and (unknown := next((topic for topic in topics if topic not in kinds), None)):
        raise HarnessError(
            f"distances: text {text!r}: the kind of {unknown!r} is not known; only a fact world's topics have one"
        )
    return {topic: text.replace("{kind}", kinds.get(topic, "")).replace("{topic}", topic) for topic in topics}
