"""How far each test topic lies from the topics a model was trained on, and the file that holds it.

A sweep's stage `distances` writes `STORE/stages/ID/distances.json`; `factuality hypothesis` reads it. Nothing but this
file is needed to know what was measured: no checkpoint, no embedding, no world.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json

DISTANCES = "distances.json"
"""The file's name in the stage's folder."""


@dataclass(frozen=True, slots=True)
class TopicDistances:
    """What the file holds, key by key.

    embedding: spec as the experiment has it (`hidden:policy@2`). text: what was embedded for a topic, with `{topic}`,
    in a fact world `{kind}`. template: text around the topic (hidden states only). k: how many nearest training topics
    a distance is the mean over. centre: whether the mean embedding of all topics was subtracted first.
    training_topics: how many there were. distance: test topic to mean cosine distance, 0 to 2, every test topic in the
    order of its questions. unit: test topic to the group of topics that share its fate (`world 2, Copper March`: the
    cluster of a fact world, whose seed tells it from another world's); empty where topics stand for themselves.
    """

    embedding: str
    text: str
    template: str | None
    k: int
    centre: bool
    training_topics: int
    distance: dict[str, float]
    unit: dict[str, str]


def write_distances(path: Path, distances: TopicDistances) -> None:
    """Write the file, as JSON with the keys of `TopicDistances`."""
    write_json(path, asdict(distances), indent=1)


def read_distances(path: Path) -> TopicDistances:
    """Inverse of `write_distances`. Raises HarnessError for a file that is not there or is none of these."""
    names = [field.name for field in fields(TopicDistances)]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return TopicDistances(**{name: data[name] for name in names})
    except FileNotFoundError as error:
        raise HarnessError(
            f"{path}: no such file; it is written by the stage `distances` of a sweep (give the sweep's store)"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{path}: no distances with {', '.join(names)} ({error!r}); run the sweep again") from error
