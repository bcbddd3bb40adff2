"""Entities and FActScore's labelled files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.data.biographies import (
    entity_of,
    load_entities,
    load_labelled,
    question_about,
    topic_of,
)
from factuality_harness.harness.errors import HarnessError


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def test_question() -> None:
    assert question_about("Ada Lovelace") == "Question: Tell me a bio of Ada Lovelace."


@given(st.text(min_size=1).map(str.strip).filter(bool))
def test_entity_is_read_back(entity: str) -> None:
    assert entity_of(question_about(entity)) == entity
    assert entity_of(question_about(entity).removeprefix("Question: ")) == entity


@pytest.mark.parametrize("question", ["Who was Ada Lovelace?", "Tell me a bio of .", "", "Tell me a bio of X"])
def test_other_questions_name_no_entity(question: str) -> None:
    assert entity_of(question) is None


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Question: Tell me a bio of Ada Lovelace.", "Ada Lovelace"),
        ("Tell me a bio of J. K. Rowling", "J. K. Rowling"),
        ("Who is Ada Lovelace?", "Ada Lovelace"),
        ("who was  Alexander the Great ?", "Alexander the Great"),
        ("Who's Björk?", "Björk"),
        ("Please tell me about Sammy Davis, Jr.", "Sammy Davis, Jr."),
        ("Tell me more about “Ada Lovelace”.", "Ada Lovelace"),
        ("Could you please write a short biography of Ada Lovelace?", "Ada Lovelace"),
        ("Write a biography about Charles III", "Charles III"),
        ("Give me a bio on O'Neill.", "O'Neill"),
        ("What do you know about Ada Lovelace?", "Ada Lovelace"),
        ("爱因斯坦是谁？", "爱因斯坦"),
        ("谁是鲁迅?", "鲁迅"),
        ("请介绍一下鲁迅。", "鲁迅"),
        ("請介紹魯迅的生平", "魯迅"),
        ("请写一篇关于鲁迅的传记。", "鲁迅"),
        ("告诉我鲁迅的故事", "鲁迅"),
        ("Who was it?", None),
        ("Who is the president of France?", None),
        ("Who is president?", None),
        ("Who was Ada Lovelace, and what did she do?", None),
        ("Who was Ada Lovelace and where was she born?", None),
        ("Who was Ada Lovelace? Answer in one sentence.", None),
        ("Tell me about Ada Lovelace. Be brief.", None),
        ("Tell me about photosynthesis", None),
        ("When was Ada Lovelace born?", None),
        ("Who wrote Hamlet?", None),
        ("Tell me about", None),
        ("爱因斯坦的老师是谁？", None),
        ("请介绍一下鲁迅，他是哪里人？", None),
        ("请介绍如何学习", None),
        ("", None),
    ],
)
def test_names_are_read_from_the_usual_wordings(question: str, topic: str | None) -> None:
    assert topic_of(question) == topic


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "entities.txt"
    path.write_text("Ada Lovelace\n\n 张衡 \nJ. K. Rowling", encoding="utf-8")
    assert [e.topic for e in load_entities(path)] == ["Ada Lovelace", "张衡", "J. K. Rowling"]


def test_jsonl_file_keeps_its_own_question(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", [{"topic": "A", "input": "Who is A?", "cat": ["rare"]}, {"topic": "B"}])
    first, second = load_entities(path)
    assert (first.question, first.categories) == ("Who is A?", ("rare",))
    assert second.question == question_about("B")


def test_dataset_finds_its_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", [{"name": "Ada", "n": "x"}, {"name": "Bob", "n": "y"}])
    assert [e.topic for e in load_entities(f"hf:{folder}@train")] == ["Ada", "Bob"]
    assert [e.topic for e in load_entities(f"hf:{folder}#n")] == ["x", "y"]
    with pytest.raises(HarnessError, match="no column 'who'; it has name, n"):
        load_entities(f"hf:{folder}@train#who")
    with pytest.raises(HarnessError, match="cannot load the dataset"):
        load_entities(f"hf:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.txt", "\n \n", "no entities"),
        ("e.jsonl", '{"topic": ""}\n', "row 1: `topic` is '', which is no name"),
        ("e.jsonl", '{"topic": "A"}\n{"topic": NaN}\n', "row 2: `topic` is nan, which is no name"),
        ("e.jsonl", '{"name": "A"}\n', "row 1: missing topic"),
        ("e.jsonl", '{"topic": "A", "cat": "x"}\n', "row 1: `cat`"),
    ],
)
def test_bad_entity_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(HarnessError, match=message):
        load_entities(tmp_path / name)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no such file"):
        load_entities(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match="unreadable"):
        load_entities(tmp_path / "b.txt")


def labelled(annotations: object) -> dict[str, Any]:
    return {"input": "q", "output": "o", "topic": "t", "cat": [], "annotations": annotations}


def test_defects_in_an_annotation_are_counted(tmp_path: Path) -> None:
    good = {"text": "A b.", "is-relevant": True, "human-atomic-facts": [{"text": "b", "label": "S"}]}
    without = {"text": "C.", "is-relevant": True, "human-atomic-facts": None}
    irrelevant = {"text": "D.", "is-relevant": False, "human-atomic-facts": None}
    strange = {"text": "E.", "human-atomic-facts": [{"text": "e", "label": "?"}, {"label": "S"}, "x"]}
    data = load_labelled(write(tmp_path / "l.jsonl", [labelled([good, without, irrelevant, strange]), labelled(None)]))
    assert (data.without_facts, data.bad_facts) == (1, 3)
    assert [f.label for f in data.rows[0].facts] == ["S"]
    assert data.rows[1].sentences is None
    assert data.rows[1].facts == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (labelled("x"), "row 2: `annotations` must be a list of objects or null"),
        (labelled([{"human-atomic-facts": []}]), "row 2, annotation: `text`"),
        ({"topic": "t", "output": "o"}, "row 2: missing annotations"),
        ({**labelled(None), "output": None}, "row 2: `output` must be text"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "l.jsonl", [labelled(None), row])
    with pytest.raises(HarnessError, match=message):
        load_labelled(path)


@pytest.mark.parametrize(("name", "answered"), [("ChatGPT", 157), ("InstructGPT", 182)])
def test_published_labels(shared_data: Path, name: str, answered: int) -> None:
    data = load_labelled(shared_data / "factscore_labeled" / f"{name}.jsonl")
    assert len(data.rows) == 183
    assert sum(r.sentences is not None for r in data.rows) == answered
    assert (data.without_facts, data.bad_facts) == (0, 0)
    assert all(s.text in r.output for r in data.rows for s in r.sentences or ())
    entities = load_entities(shared_data / "factscore_labeled" / "prompt_entities.txt")
    assert {e.topic for e in entities} == {r.topic for r in data.rows}
    assert all(e.question in {r.question for r in data.rows} for e in entities)
