"""Where facts are checked: the page of each topic, cut into passages.

Sources: FActScore's SQLite database (Wikipedia, 2023-04-01), JSONL rows `{"title", "text"}`, a dataset
`hf:REPO[@split]` with those columns, or a dict in memory. Nothing is ever written to a source.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from factuality_harness.harness.data.biographies import hub_rows
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import TABLES
from factuality_harness.harness.io.tables import read_rows
from factuality_harness.harness.names import Names, glob_patterns, name_of
from factuality_harness.harness.words import EAST_ASIAN

SEPARATOR = "####SPECIAL####SEPARATOR####"
PASSAGE_TOKENS = 256
_SQLITE_HEAD = b"SQLite format 3\0"
_MARKERS = re.compile(r"</?s>")  # RoBERTa's sequence marks, left in the texts of the original database
_PIECE = re.compile(rf"[{EAST_ASIAN}]|[^\W{EAST_ASIAN}]+|[^\w\s]")
_NAMED = 5  # missing titles named in an error

Cut = Callable[[str], list[str]]
Document = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a page, of at most 256 tokens."""

    title: str
    text: str


class Knowledge(Protocol):
    """A source of pages. `name` tells it apart in records."""

    name: str

    def passages(self, title: str) -> tuple[Passage, ...]:
        """The passages of a page in order; () when there is no such page or it is empty."""


def cut_words(text: str, limit: int = PASSAGE_TOKENS) -> list[str]:
    """Slices of the text with at most `limit` words, punctuation marks and East Asian characters.

    Each of these counts as one token. A subword tokenizer finds some 10 to 20 % more in English prose; give
    `tokenizer` to `open_knowledge` for the exact number.
    """
    starts = [m.start() for m in _PIECE.finditer(text)][::limit]
    return [piece for a, b in pairwise([*starts, len(text)]) if (piece := text[a:b].strip())]


def token_cut(tokenizer: str, limit: int = PASSAGE_TOKENS) -> Cut:
    """A cut at every `limit` tokens of a Hugging Face tokenizer; passages are slices of the text.

    Raises HarnessError when the tokenizer cannot be loaded or gives no offsets (a slow one).
    """
    from transformers import AutoTokenizer

    try:
        tokens: Any = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise HarnessError(f"tokenizer {tokenizer!r} cannot be loaded: {error}") from error
    if not tokens.is_fast:
        raise HarnessError(f"tokenizer {tokenizer!r} gives no character offsets; use one with a fast version")

    def cut(text: str) -> list[str]:
        offsets = tokens(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        starts = [start for start, _ in offsets][::limit]
        return [piece for a, b in pairwise([*starts, len(text)]) if (piece := text[a:b].strip())]

    return cut


class PageKnowledge:
    """Pages in memory, title -> document (a text, or a list of texts in order), cut when first asked for."""

    def __init__(self, pages: Mapping[str, Document], *, name: str = "memory", cut: Cut = cut_words) -> None:
        self.name = name
        self._pages = pages
        self._titles = Names(pages)
        self._passages = lru_cache(maxsize=1024)(self._cut_page)
        self._cut = cut

    def _cut_page(self, title: str) -> tuple[Passage, ...]:
        spelt = self._titles.find(title)
        document = "" if spelt is None else self._pages[spelt]
        text = document if isinstance(document, str) else "\n".join(document)
        return tuple(Passage(title, piece) for piece in self._cut(text))

    def passages(self, title: str) -> tuple[Passage, ...]:
        return self._passages(title)


class SQLiteKnowledge:
    """FActScore's database, opened read-only: `documents(title PRIMARY KEY, text)`, see SEPARATOR."""

    def __init__(self, path: str | Path) -> None:
        """Raises HarnessError for a missing file and for one that is no such database."""
        path = Path(path)
        self.name = path.name
        self._lock = threading.Lock()
        if not is_sqlite(path):
            raise HarnessError(f"{path}: not a SQLite database")
        try:
            self._db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)
            self._db.execute("SELECT title, text FROM documents LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise HarnessError(
                f"{path}: not a FActScore knowledge source ({error}); it needs a table documents(title, text)"
            ) from error
        self._path = path

    def passages(self, title: str) -> tuple[Passage, ...]:
        try:
            text = self._text(title)
        except sqlite3.Error as error:
            raise HarnessError(f"{self._path}: cannot be read ({error})") from error
        if not isinstance(text, str):
            return ()
        pieces = (_MARKERS.sub("", piece).strip() for piece in text.split(SEPARATOR))
        return tuple(Passage(title, piece) for piece in pieces if piece)

    def _text(self, title: str) -> Any:
        """The page in the spelling in use, as `Names` finds it; None where there is none."""
        select = "SELECT text FROM documents WHERE title = ?"
        with self._lock:
            if row := self._db.execute(select, [title]).fetchone():
                return row[0]
            patterns = glob_patterns(title)
            near = " OR ".join(["title GLOB ?"] * len(patterns))  # on the titles' index alone
            titles = [name for (name,) in self._db.execute(f"SELECT title FROM documents WHERE {near}", patterns)]
            spelt = Names(name for name in titles if isinstance(name, str)).find(title)
            return None if spelt is None else self._db.execute(select, [spelt]).fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self._db.close()


def is_sqlite(path: Path) -> bool:
    """Whether the file begins as SQLite databases do. Raises HarnessError when there is no such file."""
    if not path.is_file():
        raise HarnessError(f"{path}: no such file")
    with path.open("rb") as data:
        return data.read(len(_SQLITE_HEAD)) == _SQLITE_HEAD


def open_knowledge(source: str | Path | Mapping[str, Document], *, tokenizer: str | None = None) -> Knowledge:
    """Knowledge source from a path (SQLite, told by its content; or JSONL), `hf:REPO[@split]`, or a dict.

    tokenizer: cut JSONL, dataset and dict pages by its tokens and not by words; the database is cut already.
    Raises HarnessError for what is none of these, and naming file and row for a malformed or repeated page.
    """
    cut = token_cut(tokenizer) if tokenizer else cut_words
    if isinstance(source, Mapping):
        return PageKnowledge(source, cut=cut)
    if str(source).startswith("hf:"):
        rows, columns = hub_rows(str(source))
        missing = [c for c in ("title", "text") if c not in columns]
        if missing:
            raise HarnessError(f"{source}: no column {', '.join(missing)}; it has {', '.join(columns)}")
        return PageKnowledge(_pages(enumerate(rows, 1), source), name=str(source), cut=cut)
    path = Path(source)
    if is_sqlite(path):
        return SQLiteKnowledge(path)
    if not path.name.endswith((".jsonl", ".gz", ".json", *TABLES)):
        raise HarnessError(
            f"{path}: neither a SQLite database (by its first bytes) nor named *.jsonl, *.jsonl.gz, *.csv or *.parquet"
        )
    return PageKnowledge(_pages(read_rows(path, ["title", "text"]), path), name=path.name, cut=cut)


def _pages(rows: Iterable[tuple[int, Mapping[str, Any]]], source: object) -> dict[str, Document]:
    pages: dict[str, Document] = {}
    for number, row in rows:
        title, text = row["title"], row["text"]
        title = name_of(title, "`title`", f"{source}, row {number}")
        if not isinstance(text, str) and not (isinstance(text, list) and all(isinstance(t, str) for t in text)):
            raise HarnessError(f"{source}, row {number}: `text` must be a text or a list of texts")
        if pages.get(title, text) != text:
            raise HarnessError(f"{source}, row {number}: a second page with the title {title!r}; join or rename them")
        pages[title] = text
    if not pages:
        raise HarnessError(f"{source}: no pages in it")
    return pages


def missing_titles(knowledge: Knowledge, titles: Iterable[str]) -> list[str]:
    """The titles without a page, each once, in order."""
    return [title for title in dict.fromkeys(titles) if not knowledge.passages(title)]


def missing_error(knowledge: Knowledge, missing: Sequence[str]) -> HarnessError:
    """The error for topics without a page, with their number and the first few."""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = ", ".join(repr(t) for t in missing[:_NAMED])
    return HarnessError(
        f"{knowledge.name}: no page for {len(missing)} topic{'s' * (len(missing) != 1)}: {named}{more}. "
        "Topics must equal page titles, but for how spaces, quotes and accents are written. "
        "Add the pages, name the page in a row's `topic` column, or leave topics out: "
        'missing="skip" (--missing skip).'
    )
