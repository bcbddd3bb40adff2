"""Biographies: the entities to ask about, and FActScore's human-labelled answers.

Entities come from a text file with one name a line, from FActScore JSONL, or from a dataset
`hf:REPO[@split][#column]`. The labelled files hold, for each answer, its sentences and for each sentence the
atomic facts people wrote down, labelled S (supported), NS (not supported) or IR (irrelevant).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import open_text, read_jsonl
from factuality_harness.harness.names import name_of
from factuality_harness.harness.prompts import prompt

COLUMNS = ("entity", "topic", "name", "title")
FACT_LABELS = ("S", "NS", "IR")


@dataclass(frozen=True, slots=True)
class Biography:
    """An entity and the question about it. categories: how rare the entity is, its region; often empty."""

    topic: str
    question: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledFact:
    """An atomic fact with its human label: S, NS or IR."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class LabelledSentence:
    """A sentence of an answer. human_facts: None where nobody wrote facts down, as for irrelevant ones."""

    text: str
    relevant: bool
    human_facts: tuple[LabelledFact, ...] | None
    model_facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledBiography:
    """An answer with human labels. sentences: None when the labellers saw an abstention."""

    topic: str
    question: str
    output: str
    categories: tuple[str, ...]
    sentences: tuple[LabelledSentence, ...] | None

    @property
    def facts(self) -> tuple[LabelledFact, ...]:
        """The human facts of all sentences, in order."""
        return tuple(f for s in self.sentences or () for f in s.human_facts or ())


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """The rows of a labelled file and what was left out of them.

    without_facts: relevant sentences that nobody wrote facts down for. bad_facts: facts without text or with
    an unknown label. Neither enters a score.
    """

    rows: tuple[LabelledBiography, ...]
    without_facts: int = 0
    bad_facts: int = 0


def question_about(entity: str) -> str:
    """FActScore's prompt: `Question: Tell me a bio of <entity>.`"""
    return prompt("factscore_question").format(entity=entity)


def entity_of(question: str) -> str | None:
    """Inverse of `question_about`, with or without the leading `Question: `; None for any other question."""
    before, after = prompt("factscore_question").split("{entity}")
    text = question.strip()
    for head in (before, before.partition(": ")[2]):
        if text.startswith(head) and text.endswith(after) and len(text) > len(head) + len(after):
            return text[len(head) : len(text) - len(after)].strip() or None
    return None


_ASKED = (
    r"who(?: is|'s| was) (?P<name>.+)",
    r"tell me (?:something |more |everything )?about (?P<name>.+)",
    r"(?:tell me|give me|(?:provide|write)(?: me)?) (?:an? )?(?:(?:short|brief|detailed|complete) )?(?:bio|biography) "
    r"(?:of|about|on|for) (?P<name>.+)",
    r"what (?:do you know|can you tell me) about (?P<name>.+)",
    r"(?P<name>[^的]+?)是(?:谁|誰|何人)",
    r"(?:谁|誰)是(?P<name>[^的]+)",
    r"(?:简要|简单|详细|簡要|簡單|詳細)?(?:地)?(?:介绍|介紹)(?:一下)?(?P<name>.+)",
    r"[写寫](?:一?[篇份个個])?(?:关于|關於)?(?P<name>.+?)的?(?:传记|傳記|小传|小傳|生平|简介|簡介)",
    r"(?:告诉我|告訴我|讲讲|講講|说说|說說|谈谈|談談)(?:关于|關於)?(?P<name>.+)",
)
_POLITE = re.compile(
    r"^(?:question: |please |(?:can|could) you (?:please )?|请问|請問|请你?|請你?|帮我|幫我)+", re.IGNORECASE
)
_LIFE = re.compile(r"的?(?:生平|传记|傳記|简介|簡介|小传|小傳|事迹|事蹟|故事)(?:简介|簡介)?$")
_INITIAL = re.compile(r"\b(?:[A-Z]|[JS]r|Inc)\.$")  # a full stop that belongs to the name
# Signs that more is asked than who or what a name is.
_NO_NAME = re.compile(
    r"^(?:it|he|she|they|you|this|that|the|a|an|my|your)\b|^[a-z]|[?？,，。;；:：\n]\s*\S*(?:and|wh\w+|how|什么|甚麼|怎|哪)"
    r"|[?？。！\n]|\b(?:and|or) (?:wh\w+|how|did|does|is|was)\b|[a-z]{3,}[.!] |什么|甚麼|怎么|怎麼|如何|哪"
)


def topic_of(question: str) -> str | None:
    """The name that a question in one of the usual wordings asks about: "Who was X?", "Tell me about X", "Write a
    biography of X", "X是谁？", "介绍一下X". None where it asks for more, or for no name.
    """
    if (entity := entity_of(question)) is not None:
        return entity
    asked = _POLITE.sub("", " ".join(question.split())).rstrip(" ?？。!！")
    asked = asked if _INITIAL.search(asked) else asked.removesuffix(".")
    for wording in _ASKED:
        if found := re.fullmatch(wording, asked, re.IGNORECASE):
            name = _LIFE.sub("", found["name"]).strip(" \"“”'‘’《》")
            return None if not name or _NO_NAME.search(name) else name
    return None


def load_entities(source: str | Path) -> list[Biography]:
    """Entities from text (one a line), JSONL (`topic`, optionally `input`), or `hf:REPO[@split][#column]`.

    A file is JSONL when its name ends in `.jsonl` or `.jsonl.gz`. Order is kept, blank lines are skipped.
    Raises HarnessError naming file and row for a row without a name, for a file without entities, and for a
    dataset that cannot be loaded or has none of the columns entity, topic, name, title.
    """
    if str(source).startswith("hf:"):
        entities = _entities_of_dataset(str(source))
    elif Path(source).name.endswith((".jsonl", ".jsonl.gz")):
        entities = [_entity(row, f"{source}, row {number}") for number, row in read_jsonl(source, ["topic"])]
    else:
        entities = _entities_of_text(Path(source))
    if not entities:
        raise HarnessError(f"{source}: no entities in it")
    return entities


def _entities_of_text(path: Path) -> list[Biography]:
    try:
        with open_text(path) as lines:
            names = [line.strip().removeprefix("\ufeff") for line in lines]
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise HarnessError(f"{path}: unreadable ({error})") from error
    return [Biography(name, question_about(name)) for name in names if name]


def _entity(row: Mapping[str, Any], where: str) -> Biography:
    topic = name_of(row.get("topic"), "`topic`", where).strip()
    question = _text(row, "input", where) if row.get("input") is not None else ""
    return Biography(topic, question or question_about(topic), _categories(row, where))


def _entities_of_dataset(spec: str) -> list[Biography]:
    spec, _, column = spec.partition("#")
    rows, columns = hub_rows(spec)
    if not column:
        found = [c for c in COLUMNS if c in columns]
        if not found:
            raise HarnessError(
                f"{spec}: none of the columns {', '.join(COLUMNS)}; it has {', '.join(columns)}. "
                "Name the column: hf:REPO@split#column"
            )
        column = found[0]
    elif column not in columns:
        raise HarnessError(f"{spec}: no column {column!r}; it has {', '.join(columns)}")
    entities = []
    for number, row in enumerate(rows, 1):
        name = name_of(row[column], f"column {column!r}", f"{spec}, row {number}")
        entities.append(Biography(name.strip(), question_about(name.strip())))
    return entities


def hub_rows(spec: str) -> tuple[Iterable[Mapping[str, Any]], list[str]]:
    """Rows and column names of `hf:REPO[@split]`, through `datasets` (REPO may be a local folder).

    Without a split the dataset must have only one. Raises HarnessError when it cannot be loaded.
    """
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetsError

    name, _, split = spec.removeprefix("hf:").partition("@")
    if not name:
        raise HarnessError(f"{spec!r} names no dataset; write hf:REPO[@split]")
    try:
        data = load_dataset(name, split=split or None)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise HarnessError(f"{spec}: cannot load the dataset ({type(error).__name__}: {str(error)[:200]})") from error
    if isinstance(data, DatasetDict):
        if len(data) != 1:
            raise HarnessError(f"{spec}: name a split, as in hf:{name}@{next(iter(data))}; it has {', '.join(data)}")
        data = next(iter(data.values()))
    return data, list(data.column_names)


def load_labelled(path: str | Path) -> LabelledFile:
    """Read a file of FActScore's human labels (rows `input`, `output`, `topic`, `cat`, `annotations`).

    Raises HarnessError naming file and row for a row or sentence without its parts. A relevant sentence
    without human facts, and a fact without text or with an unknown label, is left out and counted.
    """
    rows: list[LabelledBiography] = []
    without_facts = bad_facts = 0
    for number, row in read_jsonl(path, ["topic", "output", "annotations"]):
        where = f"{path}, row {number}"
        entity = _entity(row, where)
        sentences: list[LabelledSentence] | None = None
        if row["annotations"] is not None:
            sentences = []
            for data in _objects(row["annotations"], f"{where}: `annotations`"):
                sentence, bad = _sentence(data, where)
                sentences.append(sentence)
                without_facts += sentence.relevant and sentence.human_facts is None
                bad_facts += bad
        rows.append(
            LabelledBiography(
                topic=entity.topic,
                question=entity.question,
                output=_text(row, "output", where),
                categories=entity.categories,
                sentences=None if sentences is None else tuple(sentences),
            )
        )
    if not rows:
        raise HarnessError(f"{path}: no rows in it")
    return LabelledFile(tuple(rows), without_facts, bad_facts)


def _sentence(data: Mapping[str, Any], where: str) -> tuple[LabelledSentence, int]:
    """The sentence and the number of its facts that had to be left out."""
    text = _text(data, "text", f"{where}, annotation")
    human: tuple[LabelledFact, ...] | None = None
    bad = 0
    if isinstance(data.get("human-atomic-facts"), list):
        rows = data["human-atomic-facts"]
        good = [
            r for r in rows if isinstance(r, dict) and r.get("label") in FACT_LABELS and isinstance(r.get("text"), str)
        ]
        human = tuple(LabelledFact(r["text"], r["label"]) for r in good)
        bad = len(rows) - len(good)
    model = data.get("model-atomic-facts")
    model_facts = (
        tuple(f["text"] for f in model if isinstance(f, dict) and isinstance(f.get("text"), str))
        if isinstance(model, list)
        else ()
    )
    return LabelledSentence(text, data.get("is-relevant", True) is not False, human, model_facts), bad


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise HarnessError(f"{where}: `{key}` must be text, not {type(value).__name__}")
    return value


def _categories(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    value = row.get("cat") or ()
    if isinstance(value, str) or not all(isinstance(v, str) for v in value):
        raise HarnessError(f"{where}: `cat` must be a list of texts")
    return tuple(value)


def _objects(value: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise HarnessError(f"{where} must be a list of objects or null")
    return value
