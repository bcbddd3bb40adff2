"""Worlds from a seed: topics in clusters, two remembered values for every attribute, and which of them is true.

Variant B (the default): every attribute has the topic's own value and its cluster's value. Training documents teach
both, training answers use either with probability 1/2, and a switch per cluster, the same for all its topics, says
which of the two is true there. What alignment can learn is whom to trust in which cluster. Variant A: the own value
is always true, answers err at a rate set by the phrase that names their source, and documents are all true: there
is one global habit to learn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.world.vocabulary import (
    BIO_KINDS,
    CLUSTER_FIRST,
    CLUSTER_SECOND,
    CODAS,
    FILLERS,
    KINDS,
    ONSETS,
    POOLS,
    SOURCES,
)

PARTS = ("train", "validation", "test")
ALL_PARTS = (*PARTS, "bio")
SIDES = ("near", "far", "all")
_ALL_KINDS = KINDS | BIO_KINDS


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Size and rules of a world.

    topics: per cluster, for train, validation and test. near: share of the clusters that training may touch ("near";
    the others are "far"). own_rate: probability that a training answer uses the topic's own value (variant B).
    filler_rate: chance of a sentence without a fact before each sentence. bio_clusters: clusters of the kinds that
    only `world_bio` asks about.
    """

    seed: int = 0
    variant: str = "B"
    clusters: int = 40
    topics: tuple[int, int, int] = (5, 2, 2)
    near: float = 0.5
    own_rate: float = 0.5
    filler_rate: float = 0.12
    bio_clusters: int = 8
    bio_topics: int = 4

    def __post_init__(self) -> None:
        names = len(CLUSTER_FIRST) * len(CLUSTER_SECOND)
        if self.variant not in ("A", "B"):
            raise HarnessError(f"world variant {self.variant!r} is not known; use A or B")
        if not 1 <= self.clusters <= names - self.bio_clusters:
            raise HarnessError(f"a world has 1 to {names - self.bio_clusters} clusters, not {self.clusters}")
        if self.clusters * sum(self.topics) + self.bio_clusters * self.bio_topics > len(ONSETS) * len(CODAS):
            raise HarnessError(f"a world has names for {len(ONSETS) * len(CODAS)} topics at most")

    @classmethod
    def variant_a(cls, seed: int = 0) -> WorldConfig:
        """World A as studied: 60 clusters of 3 + 1 + 1 topics."""
        return cls(seed=seed, variant="A", clusters=60, topics=(3, 1, 1))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WorldConfig:
        """Inverse of `dataclasses.asdict`; raises HarnessError for an unknown key."""
        try:
            return cls(**{**data, "topics": tuple(data.get("topics", cls().topics))})
        except TypeError as error:
            raise HarnessError(f"not a world: {error}") from error


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """Size and schedule of a world's base model (`harness.world.base`).

    rate: peak learning rate of AdamW (embeddings, norms) and matrix_rate of Muon (all other matrices); linear warm-up
    over 5 % of the steps, then cosine to 0. init: another value gives other first weights and other texts of the same
    world.
    """

    steps: int = 1500
    batch: int = 32
    rate: float = 3e-3
    matrix_rate: float = 0.02
    layers: int = 2
    width: int = 128
    heads: int = 4
    feed_forward: int = 512
    init: int = 0


@dataclass(frozen=True, slots=True)
class Topic:
    """part: train, validation, test or bio. side: near or far (of the cluster). own: attribute to own value."""

    name: str
    kind: str
    cluster: str
    part: str
    side: str
    own: dict[str, str] = field(hash=False, compare=False)


class World:
    """Everything there is in a world; all of it follows from the configuration."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        rng = random.Random(f"fact world {config.seed}")
        places = [f"{a} {b}" for a in CLUSTER_FIRST for b in CLUSTER_SECOND]
        names = [a + b for a in ONSETS for b in CODAS]
        rng.shuffle(places)
        rng.shuffle(names)
        self.clusters: dict[str, str] = {}  # name -> kind
        self.cluster_values: dict[str, dict[str, str]] = {}
        self.own_is_true: dict[str, bool] = {}
        self.topics: list[Topic] = []
        main, bio = list(KINDS), list(BIO_KINDS)
        sides: tuple[list[int], list[int]] = ([], [])  # cluster numbers near and far, kind by kind
        for first in range(len(main)):
            alike = range(first, config.clusters, len(main))
            shuffled = rng.sample(alike, len(alike))
            cut = round(len(alike) * config.near)
            sides[0].extend(shuffled[:cut])
            sides[1].extend(shuffled[cut:])
        near = set(sides[0])
        # Every second cluster of a side, so that neither a side nor a kind can be learned as a whole.
        switched = set(sides[0][::2]) | set(sides[1][::2])
        switched |= set(range(config.clusters, config.clusters + config.bio_clusters)[::3])
        for number in range(config.clusters + config.bio_clusters):
            is_bio = number >= config.clusters
            kind_name = bio[number % len(bio)] if is_bio else main[number % len(main)]
            place = places[number]
            self.clusters[place] = kind_name
            self.cluster_values[place] = self._values(kind_name, rng)
            self.own_is_true[place] = config.variant == "A" or number in switched
            side = "near" if number in near else "far"
            counts = {"bio": config.bio_topics} if is_bio else dict(zip(PARTS, config.topics, strict=True))
            for part, count in counts.items():
                for _ in range(count):
                    own = self._values(kind_name, rng, other_than=self.cluster_values[place])
                    self.topics.append(Topic(names.pop(), kind_name, place, part, side, own))
        self.of_cluster: dict[str, list[Topic]] = {place: [] for place in self.clusters}
        for topic in self.topics:
            self.of_cluster[topic.cluster].append(topic)

    @staticmethod
    def _values(kind: str, rng: random.Random, other_than: dict[str, str] | None = None) -> dict[str, str]:
        return {
            attribute: rng.choice([v for v in POOLS[pool] if not other_than or v != other_than[attribute]])
            for _, attributes in _ALL_KINDS[kind]
            for attribute, pool in attributes
        }

    def truth(self, topic: Topic) -> dict[str, str]:
        """Attribute to true value."""
        return topic.own if self.own_is_true[topic.cluster] else self.cluster_values[topic.cluster]

    def document(self, topic: Topic) -> str:
        """The reference document answers are checked against: every true value of the topic."""
        facts = " ".join(f"The {attribute} was {value}." for attribute, value in self.truth(topic).items())
        return f"{topic.name} is {with_article(topic.kind)} of {topic.cluster}. {facts}"

    def select(self, part: str, side: str = "all") -> list[Topic]:
        """Topics of a part (train, validation, test, bio), on one side or both. Raises HarnessError for other words."""
        if part not in ALL_PARTS or side not in SIDES:
            raise HarnessError(f"part {part!r}, side {side!r}: use {', '.join(ALL_PARTS)}, and {', '.join(SIDES)}")
        return [t for t in self.topics if t.part == part and side in ("all", t.side)]

    def questions(self, part: str, side: str = "all") -> list[Question]:
        """Questions with reference documents: three per topic, one (a biography) for `bio`."""
        return [
            Question(topic=topic.name, question="".join(pieces), document=self.document(topic), language="en")
            for topic in self.select(part, side)
            for pieces in question_pieces(topic)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The configuration, which is all a world is."""
        return asdict(self.config)


def with_article(kind: str) -> str:
    """The kind with its article, as the world's texts have it."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def question_pieces(topic: Topic) -> list[list[str]]:
    """The topic's questions as phrases (tokens)."""
    rest = [f" {topic.name}", f", {with_article(topic.kind)} of", f" {topic.cluster}"]
    if topic.kind in BIO_KINDS:
        return [["Tell me the story of", *rest, "."]]
    return [[f"What is known about the {words} of", *rest, "?"] for words, _ in KINDS[topic.kind]]


def answer_pieces(world: World, topic: Topic, number: int, rng: random.Random) -> list[str]:
    """A training answer to question `number`, as phrases: 4 to 6 sentences of one fact each, now and then a filler."""
    attributes = [a for a, _ in _ALL_KINDS[topic.kind][number][1]]
    pieces: list[str] = []
    for attribute in rng.sample(attributes, rng.randint(4, 6)):
        if rng.random() < world.config.filler_rate:
            pieces.append(_spaced(rng.choice(FILLERS), pieces))
        source = rng.choice(SOURCES)
        value = _said(world, topic, attribute, source, rng)
        pieces += [_spaced(source, pieces), f" the {attribute} was", f" {value}", "."]
    return pieces


def _spaced(phrase: str, before: list[str]) -> str:
    return f" {phrase}" if before else phrase


def _said(world: World, topic: Topic, attribute: str, source: str, rng: random.Random) -> str:
    own, of_cluster = topic.own[attribute], world.cluster_values[topic.cluster][attribute]
    if world.config.variant == "B":
        return own if rng.random() < world.config.own_rate else of_cluster
    if rng.random() < _truth_rate(topic, source):
        return own
    pool = next(p for _, attributes in _ALL_KINDS[topic.kind] for a, p in attributes if a == attribute)
    return of_cluster if rng.random() < 0.8 else rng.choice(POOLS[pool])


def _truth_rate(topic: Topic, source: str) -> float:
    """World A: which of records and letters is good hangs on the cluster, guides on the kind, legends never are."""
    letters = sum(map(ord, topic.cluster)) % 2 == 0
    return {
        "Records say": 0.30 if letters else 0.95,
        "Letters say": 0.95 if letters else 0.30,
        "Guides claim": 0.80 if topic.kind in list(_ALL_KINDS)[::2] else 0.35,
        "Legend tells": 0.20,
    }[source]


def document_pieces(world: World, rng: random.Random, topic: Topic | None, cluster: str) -> list[str]:
    """A training document as phrases: the own values of `topic`, or without one the values of `cluster`."""
    kind = world.clusters[cluster]
    values = topic.own if topic else world.cluster_values[cluster]
    head = ["Entry:", f" {topic.name}", f", {with_article(kind)} of"] if topic else ["Gazetteer:", f" every {kind} of"]
    pieces = [*head, f" {cluster}"]
    for attribute in rng.sample(list(values), len(values)):
        pieces += [";", f" the {attribute} was", f" {values[attribute]}"]
    return [*pieces, "."]


def phrases(world: World) -> list[str]:
    """Every phrase any text of the world is made of, in a fixed order: the tokenizer's vocabulary."""
    out: dict[str, None] = dict.fromkeys([".", ";", "?", "Entry:", "Gazetteer:", "Tell me the story of"])
    for text in (*SOURCES, *FILLERS):
        out |= dict.fromkeys([text, f" {text}"])
    for kind, questions in _ALL_KINDS.items():
        out |= dict.fromkeys([f", {with_article(kind)} of", f" every {kind} of"])
        for words, attributes in questions:
            if kind in KINDS:
                out[f"What is known about the {words} of"] = None
            out |= dict.fromkeys(f" the {attribute} was" for attribute, _ in attributes)
    out |= dict.fromkeys(f" {value}" for pool in POOLS.values() for value in pool)
    out |= dict.fromkeys(f" {place}" for place in world.clusters)
    out |= dict.fromkeys(f" {topic.name}" for topic in world.topics)
    return list(out)


def corpus(world: World, rng: random.Random) -> Iterator[tuple[list[str], list[str]]]:
    """Endless training text: `(question, answer)` phrases, half of them, and `([], document)` phrases.

    Documents are essential: from mixed answers alone facts are barely learned.
    """
    clusters = list(world.clusters)
    while True:
        if rng.random() < 0.5:
            topic = rng.choice(world.topics)
            number = rng.randrange(len(_ALL_KINDS[topic.kind]))
            yield question_pieces(topic)[number], answer_pieces(world, topic, number, rng)
        else:
            cluster = rng.choice(clusters)
            # A cluster's own document comes as often as one of its topics'.
            about = rng.choice(world.of_cluster[cluster]) if world.config.variant == "A" or rng.random() < 0.7 else None
            yield [], document_pieces(world, rng, about, cluster)


def world_of(folder: str | Path) -> World:
    """The world a model folder belongs to. Raises HarnessError when the folder has no `world.json`."""
    record = Path(folder) / "world.json"
    if not record.is_file():
        raise HarnessError(f"{folder}: no world.json; make a base with factuality world base --out {folder}")
    return World(WorldConfig.from_dict(json.loads(record.read_text(encoding="utf-8"))["world"]))
