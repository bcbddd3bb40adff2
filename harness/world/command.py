"""Questions of a fact world as a file."""

from __future__ import annotations

from typing import Literal

from factuality_harness.harness.commands import Out
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.world.generate import world_of


def write_questions(
    base: str,
    *,
    part: Literal["train", "validation", "test", "bio"] = "train",
    side: Literal["near", "far", "all"] = "all",
    out: Out,
) -> None:
    """Questions of a fact world as ANAH rows, for tools that read such files.

    Parameters
    ----------
    base
        Folder of the world's base model.
    part
        Which topics.
    side
        Which clusters: those that training may touch (near), the others, or all.
    out
        Questions, one JSON row each.
    """
    questions = world_of(base).questions(part, side)
    write_jsonl(out, (q.to_dict() for q in questions))
    print(f"{out}: {len(questions)} questions")
