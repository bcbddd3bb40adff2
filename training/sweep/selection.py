"""Which training questions a cell takes: shares of topics and questions, near and far halves."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from factuality_harness.harness.data.anah import NO_TOPIC, Question
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.world.generate import World, with_article


def _amount(wanted: Any, of: int) -> int:
    """A count as it is; a share ("1/3", 0.5) of `of`, rounded."""
    if isinstance(wanted, int):
        return wanted
    return round(Fraction(str(wanted)) * of)


def choose(questions: Sequence[Question], settings: Mapping[str, Any], world: World | None = None) -> list[Question]:
    """A part of the questions, in their order. With the same seed a smaller part lies within a larger one.

    settings: side (near or far), clusters (number or share), topics_per_cluster, topics (number, or share of those
    left), per_topic (questions of each topic, drawn), seed. Raises HarnessError where sides or clusters are asked for
    and `world` is None.
    """
    seed = settings.get("seed", 0)
    rng = random.Random(f"select {seed}")
    topics = sorted({q.topic for q in questions})
    rng.shuffle(topics)
    if settings.keys() & {"side", "clusters", "topics_per_cluster"}:
        if world is None:
            raise HarnessError("select: side, clusters and topics_per_cluster are the fact world's; use topics")
        known = {topic.name: topic for topic in world.topics}
        side = settings.get("side", "all")
        of_cluster: dict[str, list[str]] = defaultdict(list)
        for name in topics:
            if side in ("all", known[name].side):
                of_cluster[known[name].cluster].append(name)
        clusters = rng.sample(sorted(of_cluster), len(of_cluster))
        clusters = clusters[: _amount(settings.get("clusters", len(clusters)), len(clusters))]
        kept = {name for c in clusters for name in of_cluster[c][: settings.get("topics_per_cluster")]}
        topics = [name for name in topics if name in kept]
    if "topics" in settings:
        topics = topics[: _amount(settings["topics"], len(topics))]
    of_topic: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        of_topic[question.topic].append(question.question)
    asked = {
        (name, text)
        for name in topics
        for text in random.Random(f"questions {seed} {name}").sample(of_topic[name], len(of_topic[name]))[
            : settings.get("per_topic")
        ]
    }
    return [q for q in questions if (q.topic, q.question) in asked]


def choose_half(
    questions: Sequence[Question],
    targets: Sequence[Question],
    settings: Mapping[str, Any],
    model: str | None = None,
    world: World | None = None,
) -> list[Question]:
    """The half of the topics (of: `question`: of the questions) nearer to the targets, or farther, by an embedding.

    settings: embedding (`harness.embeddings` spec; `hidden:@LAYER` is of `model`), embedding_args (of that embedding),
    keep (near, far; a, b with random), of (topic or question), text (template of what is embedded: {topic},
    {question}, {document}, {kind} in a world), seed. Raises HarnessError for a text that cannot be filled in, as with
    the topic of ANAH-v2's rows, which have none.
    """
    from factuality_harness.harness.embeddings.models import embed_groups, open_embedding
    from factuality_harness.harness.embeddings.neighbours import centred, halves, random_halves

    of = settings.get("of", "topic")
    spec = settings["embedding"]
    if spec.startswith("hidden:"):
        spec = f"hidden:{model}{spec.removeprefix('hidden:')}"
    names = list(dict.fromkeys(getattr(q, of) for q in questions))
    if spec == "random":
        half = dict(zip("ab", random_halves(len(names), settings["seed"]), strict=True))[settings["keep"]]
    else:
        template = settings.get("text", "{" + of + "}")
        kinds = {topic.name: topic.kind for topic in world.topics} if world else {}

        def text(q: Question) -> str:
            known = {"question": q.question, "document": q.document}
            if not NO_TOPIC.fullmatch(q.topic):
                known["topic"] = q.topic
            if q.topic in kinds:
                known["kind"] = with_article(kinds[q.topic])
            try:
                return template.format_map(known)
            except KeyError as error:
                raise HarnessError(
                    f"select: text {template!r}: the question {q.question!r} has no {error.args[0]}; "
                    f"it has {', '.join(known)} (say {{document:.200}}, the first 200 characters)"
                ) from error
            except (IndexError, AttributeError, ValueError) as error:
                raise HarnessError(f"select: text {template!r} cannot be filled in ({error})") from error

        texts = ([*{getattr(q, of): text(q) for q in part}.values()] for part in (questions, targets))
        train, test = embed_groups(open_embedding(spec, **settings.get("embedding_args", {})), *texts)
        half = halves(*centred(train, test), keep=settings["keep"], seed=settings["seed"])
    kept = {names[i] for i in half}
    return [q for q in questions if getattr(q, of) in kept]
