"""One way to say where questions come from, and the same meaning in every command."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from factuality_harness.harness.contamination import read_rows
from factuality_harness.harness.data import anah
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.questions import load_questions
from factuality_harness.harness.world import World, WorldConfig
from tests.helpers.cli import command

QUESTIONS = [
    Question(f"Topic {number}", f"Question {i} on {number}?", f"All about {number}.", "en")
    for number in range(80)
    for i in range(3)
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    write_jsonl(folder / "a.jsonl", (q.to_dict() for q in QUESTIONS[:120]))
    rest = "".join(json.dumps(q.to_dict()) + "\n" for q in QUESTIONS[120:])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(rest.encode()))
    return folder


WORLD = World(WorldConfig(seed=3))
CASES: dict[str, Callable[[], list[Question]]] = {
    "mini": lambda: anah.load_mini("all"),
    "mini:all": lambda: anah.load_mini("all"),
    "mini:train": lambda: anah.load_mini("train"),
    "mini:test": lambda: anah.load_mini("test"),
    "anah": lambda: anah.split_questions(QUESTIONS, "all"),
    "anah:train": lambda: anah.split_questions(QUESTIONS, "train"),
    "anah:test": lambda: anah.split_questions(QUESTIONS, "test"),
    "ROWS": lambda: QUESTIONS,
    "ROWS/a.jsonl": lambda: QUESTIONS[:120],
    "ROWS/b.jsonl.gz": lambda: QUESTIONS[120:],
    "world:3:train": lambda: WORLD.questions("train"),
    "world:WORLD:validation": lambda: WORLD.questions("validation"),
    "world:WORLD:test:near": lambda: WORLD.questions("test", "near"),
    "world:WORLD:bio:all": lambda: WORLD.questions("bio"),
}


@pytest.mark.parametrize("source", CASES)
def test_every_source_means_the_same_everywhere(
    source: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_ANAH_DATA", str(rows))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "world.json").write_text(json.dumps({"world": WORLD.to_dict()}))
    source = source.replace("ROWS", str(rows)).replace("WORLD", str(tmp_path))
    found = load_questions(source)
    assert found == CASES[source.replace(str(rows), "ROWS").replace(str(tmp_path), "WORLD")]()
    asked = [q.question for q in found]
    assert [r.questions for r in read_rows(source)] == [(q,) for q in asked]  # contamination
    answers, out = tmp_path / "answers.jsonl", tmp_path / "out.jsonl"
    write_jsonl(answers, ({"question": q.question, "topic": q.topic, "response": ""} for q in found))
    assert command("annotate")([answers, "--questions", source, "--judge", "lexical", "--out", out]) == 0
    assert [row["question"] for _, row in read_jsonl(out)] == asked


@pytest.mark.parametrize(
    ("source", "split", "same"),
    [
        ("mini", "train", "mini:train"),
        ("mini:test", "test", "mini:test"),
        ("anah", "test", "anah:test"),
        ("world:3", "test", "world:3:test"),
    ],
)
def test_a_split_says_what_the_source_does_not(
    source: str, split: str, same: str, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_ANAH_DATA", str(rows))
    assert load_questions(source, split) == load_questions(same)


def test_files_are_split_as_anah_is(rows: Path) -> None:
    train, test = load_questions(str(rows), "train"), load_questions(str(rows), "test")
    assert (len(test), len(train)) == (59 * 3, 21 * 3)
    assert {q.topic for q in train}.isdisjoint(q.topic for q in test)


def test_the_same_question_on_two_topics_is_two(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = QUESTIONS[0].to_dict()
    path = tmp_path / "q.jsonl"
    write_jsonl(path, [row, row | {"document": "Another."}, row | {"topic": "Other"}, row | {"language": "zh"}])
    with caplog.at_level(logging.WARNING):
        found = load_questions(str(path))
    assert [(q.language, q.topic, q.document) for q in found] == [
        ("en", "Topic 0", "All about 0."),
        ("en", "Other", "All about 0."),
        ("zh", "Topic 0", "All about 0."),
    ]
    assert "1 questions are asked twice" in caplog.text


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("mini:half", None, "split 'half' is not known"),
        ("anah:test", "train", "anah:test: names the part test, but the split asked for is train"),
        ("world:3", None, "which world, and which part"),
        ("world::train", None, "which world, and which part"),
        ("world:3:half", None, "part 'half'"),
        ("world:3:test:left", None, "side 'left'"),
        ("world:nowhere:test", None, "nowhere: no world.json"),
        ("nowhere.jsonl", None, "nowhere.jsonl: no such file"),
    ],
)
def test_sources_that_are_none(source: str, split: str | None, message: str, rows: Path) -> None:
    with pytest.raises(HarnessError, match=message):
        load_questions(source, split)
