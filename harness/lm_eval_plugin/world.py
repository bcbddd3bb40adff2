"""The fact world in lm_eval: its questions, and what its base model remembers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.anah import AnahTask, BestOfNTask, as_dataset
from factuality_harness.harness.world import World, WorldConfig, world_of
from factuality_harness.harness.world.generate import document_pieces

__all__ = ["AnahTask", "BestOfNTask", "RecallTask", "recall_dataset", "world_dataset"]


def _chosen(world: str | int | dict[str, Any] | None, pretrained: str | None) -> World:
    if world is None:
        if not pretrained or not (Path(pretrained) / "world.json").is_file():
            raise HarnessError(
                "which world? Give --metadata '{\"world\": FOLDER_OF_ITS_BASE_MODEL}' (or a seed): a score in another "
                "world than the model's means nothing"
            )
        world = pretrained
    if isinstance(world, str):
        return world_of(world)
    return World(WorldConfig(seed=world) if isinstance(world, int) else WorldConfig.from_dict(world))


def world_dataset(
    world: str | int | dict[str, Any] | None = None,
    part: str = "test",
    side: str = "all",
    per_topic: int | None = None,
    pretrained: str | None = None,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: questions of a world with reference documents.

    world: a base model's folder (it holds `world.json`), a seed, or a configuration; None takes the evaluated model's
    own folder. part: train, validation, test or bio; side: near, far or all. per_topic: so many questions of each
    topic, a different one for the next topic; None for all. Raises HarnessError when no world is named.
    """
    questions = _chosen(world, pretrained).questions(part, side)
    if per_topic is not None:
        of_topic: dict[str, list[Any]] = {}
        for question in questions:
            of_topic.setdefault(question.topic, []).append(question)
        if not 1 <= per_topic <= min(map(len, of_topic.values())):
            raise HarnessError(
                f"per_topic {per_topic!r}: topics have 1 to {min(map(len, of_topic.values()))} questions"
            )
        questions = [
            asked[(number + turn) % len(asked)]
            for number, asked in enumerate(of_topic.values())
            for turn in range(per_topic)
        ]
    return as_dataset(questions, None)


def recall_dataset(
    world: str | int | dict[str, Any] | None = None,
    about: str = "topics",
    part: str = "test",
    side: str = "all",
    attributes: int = 4,
    pretrained: str | None = None,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: beginnings of training documents that stop before one value, and that value.

    about: `topics` (the own values of the topics of `part` and `side`) or `clusters` (the values of their clusters).
    attributes: how many of the 18 of each, drawn by a seed. Raises HarnessError when no world is named.
    """
    chosen = _chosen(world, pretrained)
    topics = chosen.select(part, side)
    if about not in ("topics", "clusters"):
        raise HarnessError(f"recall about {about!r} is not known; use topics or clusters")
    clusters = list(dict.fromkeys(t.cluster for t in topics))
    subjects = [(t.name, t, t.cluster) for t in topics] if about == "topics" else [(c, None, c) for c in clusters]
    rows = []
    for name, topic, cluster in subjects:
        # A whole document; each of its first lines is asked on its own, right after the head.
        pieces = document_pieces(chosen, random.Random(f"recall {chosen.config.seed} {name}"), topic, cluster)
        start = pieces.index(";")
        for line in range(start, min(start + 3 * attributes, len(pieces) - 1), 3):
            prompt = "".join([*pieces[:start], *pieces[line : line + 2]])
            rows.append({"topic": name, "question": prompt, "value": pieces[line + 2].strip()})
    return {"test": datasets.Dataset.from_list(rows)}


class RecallTask(ConfigurableTask):
    """Completion of bare text: lm_eval's own task, except that no chat template and no system prompt is ever applied,
    so it can run in one call with tasks that want them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def build_all_requests(self, **kwargs: Any) -> None:
        bare = {"system_instruction": None, "apply_chat_template": False, "chat_template": None, "tokenizer_name": ""}
        super().build_all_requests(**{**kwargs, **bare})
