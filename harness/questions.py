"""Where questions come from: one way to write it, the same in every command.

    PATH                        a file of rows, JSONL (.gz too), a JSON list, CSV, TSV or Parquet, or a folder of them;
                                columns by their usual names (`harness.data.columns`)
    hf:REPO[@SPLIT]             a dataset of the hub, or a folder of one, with such columns
    mini[:PART]                 the small corpus shipped here; PART is train, test or all
    anah[:PART]                 ANAH: $HARNESS_ANAH_DATA, else the hub
    world:FOLDER:PART[:SIDE]    a fact world: its base model's folder, or its seed; PART is train, validation, test or
                                bio; SIDE is near, far or all

Without PART, `mini` and `anah` are all of it. These names come before files of the same name; write ./mini for those.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping

from factuality_harness.harness.data import anah
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.data.columns import Columns
from factuality_harness.harness.errors import HarnessError

log = logging.getLogger(__name__)

NAMED = ("mini", "anah", "world", "hf")
GRAMMAR = "a file or folder, hf:REPO[@SPLIT], mini[:PART], anah[:PART] or world:FOLDER:PART[:SIDE]"


def is_named_source(source: str) -> bool:
    """Whether a source is written by name, and not as a path."""
    return source.partition(":")[0] in NAMED


def load_questions(
    source: str,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    documents: bool = True,
) -> list[Question]:
    """The questions of a source, each once a language and topic.

    columns: which column of rows holds question, document, topic or language, where it has not its usual name.
    documents: whether every question needs one; without, pages are elsewhere and it needs a topic.

    split: `train`, `test` or `all`, for a source that does not say it; the rows of a path are split as ANAH's are. None
    takes all rows, in their order. Raises HarnessError for a source that cannot be read or a part that it has not, and
    naming file and row for a row that is no question.
    """
    name, _, rest = source.partition(":")
    if name == "hf" or not is_named_source(source):
        found = anah.load(source, Columns.read(columns or {}), documents=documents)
        return _once(found, source) if split is None else anah.split_questions(found, split)
    if columns:
        raise HarnessError(f"{source}: has its own columns; leave `columns` out")
    if name == "world":
        return _world_questions(source, rest, split)
    part = _agreed(source, rest, split) or "all"
    return anah.load_mini(part) if name == "mini" else anah.split_questions(anah.load(), part)


def _world_questions(source: str, rest: str, split: str | None) -> list[Question]:
    from factuality_harness.harness.world.generate import ALL_PARTS, World, WorldConfig, world_of

    words = rest.split(":")
    side = words.pop() if len(words) > 2 and words[-2] in ALL_PARTS else "all"
    part = _agreed(source, words.pop() if len(words) > 1 else "", split)
    place = ":".join(words)
    if not place or not part:
        raise HarnessError(f"{source}: which world, and which part of it? Write world:FOLDER:PART or world:SEED:PART")
    world = World(WorldConfig(seed=int(place))) if place.isdigit() else world_of(place)
    return world.questions(part, side)


def _agreed(source: str, part: str, split: str | None) -> str | None:
    if part and split and part != split:
        raise HarnessError(f"{source}: names the part {part}, but the split asked for is {split}; give one of them")
    return part or split


def _once(questions: list[Question], source: str) -> list[Question]:
    once: dict[tuple[str, str, str], Question] = {}
    for q in questions:
        once.setdefault((q.language, q.topic, q.question), q)
    if len(once) < len(questions):
        log.warning("%s: %d questions are asked twice; their first rows count", source, len(questions) - len(once))
    return list(once.values())


def digest(questions: Iterable[Question]) -> str:
    """SHA-256 over everything the questions hold, in their order."""
    found = hashlib.sha256()
    for q in questions:
        found.update("\0".join((q.language, q.topic, q.question, q.document, "")).encode("utf-8", "surrogatepass"))
    return found.hexdigest()
