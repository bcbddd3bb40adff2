"""The small corpus that ships with the harness."""

from __future__ import annotations

import pytest

from factuality_harness.harness.data.anah import Question, load_mini
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import split


def topics(questions: list[Question], language: str | None = None) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        if language in (None, question.language):
            groups.setdefault(f"{question.language} {question.topic}", []).append(question)
    return groups


def test_the_test_split_is_large_enough() -> None:
    test = load_mini("test")
    assert len(topics(test)) >= 40
    assert len(topics(test, "zh")) >= 14
    assert {len(group) for group in topics(test).values()} == {3}


def test_train_and_test_share_no_topic_and_no_document() -> None:
    train, test = load_mini("train"), load_mini("test")
    assert len(topics(train, "en")) >= 10
    assert len(topics(train, "zh")) >= 5
    assert not topics(train).keys() & topics(test).keys()
    assert not {q.document for q in train} & {q.document for q in test}
    assert not {q.question for q in train} & {q.question for q in test}


def test_the_split_is_the_same_every_time() -> None:
    assert load_mini("test") == load_mini()
    # Published scores rest on this split: these are its first and last topic.
    groups = list(topics(load_mini("test")))
    assert (groups[0], groups[-1]) == ("en Panama Canal", "zh 北京故宫")


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_document_is_a_short_text_of_its_language(part: str) -> None:
    for question in load_mini(part):
        if question.language == "en":
            assert 80 <= len(question.document.split()) <= 200, question.topic
            assert not any("一" <= c <= "鿿" for c in question.document), question.topic
        else:
            assert 160 <= len(question.document) <= 320, question.topic
        assert len(split(question.document, question.language)) >= 5
        assert question.document == question.document.strip()
        assert question.question.endswith(("?", "？"))
        assert "\n" not in question.document + question.question


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_question_is_asked_twice(part: str) -> None:
    questions = [(q.topic, q.question) for q in load_mini(part)]
    assert len(questions) == len(set(questions))


def test_an_unknown_split() -> None:
    with pytest.raises(HarnessError, match="split 'dev' is not known; use test, train or all"):
        load_mini("dev")
