"""ANAH questions with their reference documents, and the fixed test split.

Three sources give the same rows: the hub dataset `opencompass/anah` (v1 topic files), local copies of those files (a
folder or one file), and ANAH-v2's `question_document.jsonl` (plain or gzipped). `mini` is the corpus shipped here.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from factuality_harness.harness.data.biographies import hub_rows, topic_of
from factuality_harness.harness.data.columns import USUAL_COLUMNS, Columns, language_in, texts_of
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import jsonl_files
from factuality_harness.harness.io.tables import read_rows
from factuality_harness.harness.names import name_of
from factuality_harness.harness.sentences import LANGUAGES

HUB = "opencompass/anah"
TEST_TOPICS = 59
QUESTIONS_PER_TOPIC = 3
MINI_TEST_TOPICS = {"en": 28, "zh": 14}
NO_TOPIC = re.compile(r"document-[0-9a-f]{12}")
"""What a topic without a name is called here."""
_SALT = "factuality-harness anah test split v1"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its topic and the document its answers are checked against ("" where pages are elsewhere). language:
    `en` or `zh`."""

    topic: str
    question: str
    document: str
    language: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def load(
    source: str | Path | None = None,
    columns: Columns = USUAL_COLUMNS,
    *,
    documents: bool = True,
) -> list[Question]:
    """All questions of a source: a file, a folder, `hf:REPO[@split]`, or None for $HARNESS_ANAH_DATA and then the hub.

    columns: where they are not the usual ones. documents: whether every question needs one; without, it needs a topic.
    Raises HarnessError naming file and row for a row that lacks one, has no question, or is in another language, and
    when the hub cannot be reached.
    """
    source = source or os.environ.get("HARNESS_ANAH_DATA") or hub_folder()
    if str(source).startswith("hf:"):
        rows, _ = hub_rows(str(source))
        found = (_questions(dict(row), f"{source}, row {n}", columns, documents) for n, row in enumerate(rows, 1))
        questions = [q for of_row in found for q in of_row]
    else:
        questions = [q for path in jsonl_files(source) for q in _read(path, columns, documents)]
    if not questions:
        raise HarnessError(f"{source}: no questions in it")
    return questions


def load_mini(part: str = "test") -> list[Question]:
    """A split of the small corpus shipped here: 28 English and 14 Chinese topics for `test`, the rest for `train`."""
    return [
        question
        for language, topics in MINI_TEST_TOPICS.items()
        for question in split_questions(
            _read(Path(str(files(__package__) / "mini" / f"{language}.jsonl"))), part, topics=topics
        )
    ]


def hub_folder() -> Path:
    """ANAH's JSONL files as the hub client keeps them. Raises HarnessError when they cannot be had."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(HUB, repo_type="dataset", allow_patterns="*.jsonl"))
    except Exception as error:  # the hub client raises many unrelated types
        raise HarnessError(
            f"cannot get the dataset {HUB} from the hub ({type(error).__name__}: {str(error)[:200]}). "
            "Give a local copy: "
            '--metadata \'{"data": "PATH"}\' or HARNESS_ANAH_DATA=PATH (ANAH v1 topic files, or ANAH-v2\'s '
            "question_document.jsonl, .gz too), or run anah_factuality_mini, which needs nothing."
        ) from error


def _read(path: Path, columns: Columns = USUAL_COLUMNS, documents: bool = True) -> Iterator[Question]:
    for number, row in read_rows(path):
        yield from _questions(row, f"{path}, row {number}", columns, documents)


def _questions(row: dict[str, Any], where: str, columns: Columns, documents: bool) -> Iterator[Question]:
    asked, held = columns.value(row, "question", where), columns.value(row, "document", where)
    texts, pieces = texts_of(asked), texts_of(held)
    if (held is not None and pieces is None) or (documents and pieces is None):
        raise columns.missing("document", row, where, held)
    if not texts or not all(text.strip() for text in texts):
        raise columns.missing("question", row, where, asked)
    document = "\n".join(pieces or ())
    topic = columns.value(row, "topic", where)
    if topic is not None:
        topic = name_of(topic, "the topic", where)
    elif documents:
        # ANAH-v2 rows name no topic; its questions on one topic share their document.
        topic = f"document-{hashlib.sha256(document.encode()).hexdigest()[:12]}"
    elif (topic := topic_of(texts[0])) is None:
        raise columns.missing("topic", row, where, topic)
    language = language_in(columns.value(row, "language", where), texts[0], where)
    for text in texts:
        yield Question(topic=topic, question=text.strip(), document=document, language=language)


def split_rank(topic: str, language: str) -> str:
    """Place of a topic in the fixed order: SHA-256 of salt, language and the NFKC-normalised, case-folded topic."""
    name = unicodedata.normalize("NFKC", topic).casefold().strip()
    return hashlib.sha256(f"{_SALT}\0{language}\0{name}".encode()).hexdigest()


def split_questions(
    questions: Iterable[Question],
    part: str = "test",
    *,
    topics: int = TEST_TOPICS,
    per_topic: int = QUESTIONS_PER_TOPIC,
) -> list[Question]:
    """The `test` or `train` part of a set of questions; `all` gives both.

    Test: the `topics` topics of lowest `split_rank` among those with at least `per_topic` different questions, the
    first `per_topic` questions of each: 59 x 3 = 177. Train: every question of every other topic, so no topic is in
    both. The same rows give the same split wherever and in whatever order they are read.
    """
    if part not in ("test", "train", "all"):
        raise HarnessError(f"split {part!r} is not known; use test, train or all")
    groups: dict[tuple[str, str], dict[str, Question]] = defaultdict(dict)
    for q in questions:
        groups[q.language, q.topic].setdefault(q.question, q)
    order = sorted(groups, key=lambda key: split_rank(key[1], key[0]))
    if part == "all":
        return [q for key in order for q in groups[key].values()]
    test = [key for key in order if len(groups[key]) >= per_topic][:topics]
    if part == "test":
        return [q for key in test for q in list(groups[key].values())[:per_topic]]
    held_out = set(test)
    return [q for key in order if key not in held_out for q in groups[key].values()]


def only_language(questions: Sequence[Question], language: str | None) -> list[Question]:
    """The questions in `language`; all of them for None."""
    if language is None:
        return list(questions)
    if language not in LANGUAGES:
        raise HarnessError(f"language {language!r} is not supported; use one of: {', '.join(LANGUAGES)}")
    return [q for q in questions if q.language == language]
