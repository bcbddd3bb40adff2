"""The fact world as an lm_eval dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from harness.data.world import World, WorldConfig
from harness.data.world.base import world_of
from harness.errors import HarnessError
from harness.lm_eval_plugin.task import AnahTask, as_dataset

__all__ = ["AnahTask", "world_dataset"]


def world_dataset(
    world: str | int | dict[str, Any] | None = None,
    part: str = "test",
    side: str = "all",
    pretrained: str | None = None,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: questions of a world with reference documents.

    world: a base model's folder (it holds `world.json`), a seed, or a configuration; None takes the evaluated model's
    own folder. part: train, validation, test or bio; side: near, far or all. Raises HarnessError when no world is
    named.
    """
    if world is None:
        if not pretrained or not (Path(pretrained) / "world.json").is_file():
            raise HarnessError(
                "which world? Give --metadata '{\"world\": FOLDER_OF_ITS_BASE_MODEL}' (or a seed): a score in another "
                "world than the model's means nothing"
            )
        world = pretrained
    if isinstance(world, str):
        chosen = world_of(world)
    else:
        chosen = World(WorldConfig(seed=world) if isinstance(world, int) else WorldConfig.from_dict(world))
    return as_dataset(chosen.questions(part, side), None)
