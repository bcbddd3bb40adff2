"""ANAH sources in their three forms, bad rows, and the fixed split."""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.data.anah import Question, load, only_language, split_questions, split_rank
from factuality_harness.harness.errors import HarnessError


def v1_row(number: int, language: str = "en") -> dict[str, Any]:
    """A row of the hub dataset: a topic with its documents and questions, and much that is not read."""
    return {
        "name": f"Topic {number}",
        "documents": [f"Document {number}, part one.", f"Part two of {number}."],
        "selected_questions": [f"Question {i} on {number}?" for i in range(3)],
        "GPT3.5_answers_D": ["a", "b", "c"],
        "human_GPT3.5_answers_D_ann": [["<Hallucination> None"]],
        "language": language,
    }


def v2_rows(number: int, language: str = "en", questions: int = 3) -> list[dict[str, Any]]:
    """Rows of question_document.jsonl: one a question, the document repeated, no topic."""
    return [
        {"question": f"Question {i} on {number}?", "document": f"All about {number}.", "language": language}
        for i in range(questions)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def language_of(number: int) -> str:
    return "zh" if number % 3 == 0 else "en"


def source(folder: Path, form: str, order: random.Random | None = None) -> Path:
    """100 topics as a folder of v1 files, a v2 file, or gzipped."""
    v1 = [v1_row(i, language_of(i)) for i in range(100)]
    v2 = [row for i in range(100) for row in v2_rows(i, language_of(i))]
    if order is not None:
        order.shuffle(v1)
        order.shuffle(v2)
    folder.mkdir()
    if form == "v1":
        for part, name in enumerate(("event", "location", "person", "thing")):
            write(folder / f"{name}.jsonl", v1[part::4])
        return folder
    if form == "v1.gz":
        return write(folder / "all.jsonl.gz", v1)
    return write(folder / f"question_document.{'jsonl.gz' if form == 'v2.gz' else 'jsonl'}", v2)


@pytest.mark.parametrize("form", ["v1", "v1.gz", "v2", "v2.gz"])
def test_the_split_of_a_whole_source(tmp_path: Path, form: str) -> None:
    questions = load(source(tmp_path / form, form))
    assert len(questions) == 300
    test, train = split_questions(questions, "test"), split_questions(questions, "train")
    assert len(test) == 177
    assert len({(q.language, q.topic) for q in test}) == 59
    assert len(train) == 300 - 177
    assert not {q.topic for q in test} & {q.topic for q in train}
    assert not {q.document for q in test} & {q.document for q in train}
    assert len(split_questions(questions, "all")) == 300
    for first in range(0, 177, 3):
        assert len({q.topic for q in test[first : first + 3]}) == 1


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_the_split_does_not_depend_on_the_order_of_rows(tmp_path: Path, form: str) -> None:
    first = split_questions(load(source(tmp_path / "a", form)), "test")
    second = split_questions(load(source(tmp_path / "b", form, random.Random(1))), "test")
    assert [q.topic for q in first[::3]] == [q.topic for q in second[::3]]
    assert set(first) == set(second)


def test_the_forms_of_one_source_give_the_same_rows(tmp_path: Path) -> None:
    assert set(load(source(tmp_path / "a", "v1"))) == set(load(source(tmp_path / "b", "v1.gz")))
    assert set(load(source(tmp_path / "c", "v2"))) == set(load(source(tmp_path / "d", "v2.gz")))


TOPICS = st.lists(
    st.tuples(st.text(min_size=1, max_size=4), st.integers(1, 5), st.sampled_from(["en", "zh"])), max_size=12
)


@given(TOPICS, st.integers(0, 6), st.integers(1, 4), st.randoms())
def test_any_split_keeps_topics_apart(
    rows: list[tuple[str, int, str]], topics: int, per_topic: int, order: random.Random
) -> None:
    questions = [Question(t, f"{t} {i}?", f"doc {t}", lang) for t, n, lang in rows for i in range(n)]
    test = split_questions(questions, "test", topics=topics, per_topic=per_topic)
    train = split_questions(questions, "train", topics=topics, per_topic=per_topic)
    tested = {(q.language, q.topic) for q in test}
    assert len(test) == len(tested) * per_topic <= topics * per_topic
    assert not tested & {(q.language, q.topic) for q in train}
    assert {(q.language, q.topic) for q in questions} == tested | {(q.language, q.topic) for q in train}
    order.shuffle(questions)
    again = split_questions(questions, "test", topics=topics, per_topic=per_topic)
    assert {(q.language, q.topic) for q in again} == tested


def test_topics_with_too_few_questions_train() -> None:
    few = [Question("few", f"{i}?", "d", "en") for i in range(2)]
    many = [Question("many", f"{i}?", "d", "en") for i in range(5)]
    repeated = [Question("twice", "same?", "d", "en")] * 3
    test = split_questions(few + many + repeated, "test")
    assert [q.question for q in test] == ["0?", "1?", "2?"]
    train = split_questions(few + many + repeated, "train")
    assert {q.topic for q in train} == {"few", "twice"}
    assert len(train) == 3


def test_a_topics_rank_is_fixed_and_blind_to_its_spelling() -> None:
    assert split_rank("Café ", "en") == split_rank("CAFE\u0301", "en") == split_rank("ｃａｆé", "en")
    assert split_rank("Café", "en") != split_rank("Café", "zh")
    # Another value would be another test split.
    assert split_rank("Marie Curie", "en").startswith("54343fd912833938")


def test_a_v1_row(tmp_path: Path) -> None:
    rows = load(write(tmp_path / "person.jsonl", [v1_row(7)]))
    assert rows == [
        Question("Topic 7", f"Question {i} on 7?", "Document 7, part one.\nPart two of 7.", "en") for i in range(3)
    ]


def test_v2_questions_on_one_document_are_one_topic(tmp_path: Path) -> None:
    rows = load(write(tmp_path / "q.jsonl", v2_rows(1) + v2_rows(2)))
    assert len({q.topic for q in rows[:3]}) == len({q.topic for q in rows[3:]}) == 1
    assert rows[0].topic != rows[3].topic
    assert rows[0].topic.startswith("document-")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q?", "language": "en"}, "no reference document"),
        ({"question": "Q?", "document": "  ", "language": "en"}, "no reference document"),
        ({"question": "Q?", "document": None, "language": "en"}, "no reference document"),
        ({"question": "Q?", "documents": [], "language": "en"}, "no reference document"),
        ({"document": "D", "language": "en"}, "no question"),
        ({"question": " ", "document": "D", "language": "en"}, "no question"),
        ({"questions": ["Q?", 3], "document": "D", "language": "en"}, "no question"),
        ({"question": "Q?", "document": "D", "language": "fr"}, "language is 'fr'; only en and zh"),
        ({"question": "Q?", "document": "D", "language": 3}, "language is 3"),
        (
            {"question": "Q?", "documents": ["D", math.nan]},
            "no reference document .*but .'D', nan.; the row has question",
        ),
        ({"question": "Q?", "document": math.nan}, "no reference document .*but nan"),
        ({"question": math.inf, "document": "D"}, "no question .*but inf"),
        ({"question": 3, "document": "D"}, "no question .*but 3"),
        ({"question": "Q?", "document": "D", "topic": math.nan}, "the topic is nan, which is no name"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "bad.jsonl", [*v2_rows(1), row])
    with pytest.raises(HarnessError, match=rf"bad\.jsonl, row 4: .*{message}"):
        load(file)


@pytest.mark.parametrize(
    ("topic", "read"), [(17, "17"), ("17", "17"), (None, "document-"), (float("nan"), ""), (True, ""), (["a"], "")]
)
def test_a_number_is_a_name_and_nothing_else_that_is_no_text(tmp_path: Path, topic: Any, read: str) -> None:
    path = write(tmp_path / "a.jsonl", [{**v2_rows(1)[0], "topic": topic}])
    if read:
        assert load(path)[0].topic.startswith(read)
        return
    with pytest.raises(HarnessError, match=r"row 1: the topic is .*, which is no name"):
        load(path)


def test_a_language_that_cannot_be_hashed_is_a_bad_row_too(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", [{"question": "Q?", "document": "D", "language": ["en"]}])
    with pytest.raises(HarnessError, match=r"row 1: language is \['en'\]"):
        load(file)


def test_a_source_without_questions(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no questions in it"):
        load(write(tmp_path / "empty.jsonl", []))
    (tmp_path / "folder").mkdir()
    with pytest.raises(HarnessError, match=r"holds no \.jsonl"):
        load(tmp_path / "folder")
    with pytest.raises(HarnessError, match="no such file"):
        load(tmp_path / "none.jsonl")


def test_the_source_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ANAH_DATA", str(write(tmp_path / "q.jsonl", v2_rows(1))))
    assert len(load()) == 3


def test_without_a_hub_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(HarnessError, match=r"opencompass/anah.*HARNESS_ANAH_DATA=PATH.*anah_factuality_mini"):
        load()


def test_only_one_language() -> None:
    questions = [Question("a", "a?", "d", "en"), Question("b", "b?", "d", "zh")]
    assert only_language(questions, "zh") == questions[1:]
    assert only_language(questions, None) == questions
    with pytest.raises(HarnessError, match=r"'fr'.*en, zh"):
        only_language(questions, "fr")
