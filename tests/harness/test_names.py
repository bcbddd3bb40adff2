"""Names in other spellings: matched where one is meant, and never where two could be."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from pathlib import Path

import pytest

from factuality_harness.harness.annotate import items_of
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.knowledge import Knowledge, PageKnowledge, open_knowledge
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.samples import match
from factuality_harness.harness.names import Names, folded, name_of

SAME = [
    ("Beyoncé", unicodedata.normalize("NFD", "Beyoncé")),
    ("Pope John", "Pope\u00a0John"),
    ("Pope John", "Pope_John"),
    ("Pope John", " Pope  John "),
    ('O\'Neill "Tip"', "O’Neill “Tip”"),
    ("Pope John", "Pope \u2003_John"),
    ('What*ever [?] "x"', "What*ever_[?]_“x”"),
    ("'Abd al-Malik", "‘Abd_al-Malik"),
    ("Mai Văn Hòa", unicodedata.normalize("NFD", "Mai Văn Hòa")),
    ("한글", unicodedata.normalize("NFD", "한글")),
]
BOTH = [pair for a, b in SAME for pair in ((a, b), (b, a))]


@pytest.mark.parametrize(("name", "known"), BOTH)
def test_spellings_of_one_name(name: str, known: str) -> None:
    assert folded(name) == folded(known)
    assert Names([known, "Other"]).find(name) == known


def test_as_written_comes_first_and_two_are_none() -> None:
    names = Names(["A_B", "A B"])
    assert names.find("A_B") == "A_B"
    assert names.find("A B") == "A B"
    assert names.find("A\u00a0B") is None
    assert names.find("a b") is None


def pages(kind: str, titles: list[str], folder: Path) -> Knowledge:
    if kind == "memory":
        return PageKnowledge({title: f"About {title}." for title in titles})
    if kind == "jsonl":
        write_jsonl(folder / "k.jsonl", ({"title": title, "text": f"About {title}."} for title in titles))
        return open_knowledge(folder / "k.jsonl")
    with sqlite3.connect(folder / "k.db") as db:
        db.execute("CREATE TABLE documents (title PRIMARY KEY, text)")
        db.executemany("INSERT INTO documents VALUES (?, ?)", [(title, f"About {title}.") for title in titles])
    return open_knowledge(folder / "k.db")


@pytest.mark.parametrize("kind", ["memory", "jsonl", "sqlite"])
@pytest.mark.parametrize(("name", "known"), [pair for pair in BOTH if pair[1] != " Pope  John "])
def test_pages_are_found(kind: str, name: str, known: str, tmp_path: Path) -> None:
    (passage,) = pages(kind, [known, "Other"], tmp_path).passages(name)
    assert passage.text == f"About {known}."


@pytest.mark.parametrize("kind", ["memory", "jsonl", "sqlite"])
def test_two_pages_that_could_be_meant_are_none(kind: str, tmp_path: Path) -> None:
    knowledge = pages(kind, ["A_B", "A B"], tmp_path)
    assert knowledge.passages("A_B")[0].text == "About A_B."
    assert knowledge.passages("A\u00a0B") == ()


def test_a_page_twice_is_one_where_the_text_is_the_same(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "k.jsonl", [{"title": 1984, "text": "A novel."}, {"title": "1984", "text": "A novel."}])
    assert open_knowledge(tmp_path / "k.jsonl").passages("1984")[0].text == "A novel."


@pytest.mark.parametrize(("name", "known"), BOTH)
def test_stored_answers_are_found(name: str, known: str, tmp_path: Path) -> None:
    asked, stored = (name, "Who is it?"), (known, "Who is it?")
    assert match([asked, ("Other", "Who is it?")], [stored, ("Other", "Who is it?")])[asked] == stored
    write_jsonl(tmp_path / "a.jsonl", [{"topic": known, "question": f"Who? {known}", "response": "R."}])
    (item,) = items_of(tmp_path / "a.jsonl", [Question(name, f"Who? {name}", "D.", "en")])
    assert (item.topic, item.document, item.response) == (name, "D.", "R.")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, True, None, [], "", " "])
def test_what_is_no_name(value: object) -> None:
    with pytest.raises(HarnessError, match=r"f, row 1: `topic` is .*which is no name"):
        name_of(value, "`topic`", "f, row 1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"topic": float("nan"), "question": "Q?", "response": "R."}, "row 1: `topic` is nan, which is no name"),
        ({"question": 3.5, "response": "R."}, "row 1: `question` is 3.5, which is no name"),
        ({"question": "Q?", "response": float("nan")}, "row 1: the response to 'Q.' is not text"),
        ({"question": "Q?", "response": 42}, "row 1: the response to 'Q.' is not text: 42"),
        (None, "no responses in it"),
    ],
)
def test_answers_that_are_none(row: dict | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("" if row is None else json.dumps(row) + "\n")
    with pytest.raises(HarnessError, match=f"a.jsonl.*{message}"):
        items_of(tmp_path / "a.jsonl", [Question("T", "Q?", "D.", "en")])
