"""The reader of stored responses and annotations: which question a row answers, which run of a folder is read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from factuality_harness.harness.annotate import items_of
from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence, dump_annotations
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.io.samples import judged_rows, match, read_annotations, sample_rows, samples_files
from factuality_harness.harness.lm_eval_plugin.replay import ReplayLM
from factuality_harness.training.preferences import Pairing, PairRules
from tests.helpers.cli import command

OPENED = "When was it opened?"
BRIDGE = Question("Arlen Bridge", OPENED, "It was opened in 1911.", "en")
TOWER = Question("Corven Tower", OPENED, "It was opened in 1954.", "en")
BOTH = [BRIDGE, TOWER]


def row(of: Question, *left_out: str, **more: Any) -> dict[str, Any]:
    """A plain row whose response is the document of its question."""
    data = {"topic": of.topic, "question": of.question, "response": of.document, **more}
    return {key: value for key, value in data.items() if key not in left_out}


def sample(question: Question) -> dict[str, Any]:
    """The same as lm_eval writes it."""
    return {"doc_id": 0, "doc": question.to_dict(), "resps": [[question.document]], "filter": "none"}


ANSWERED: dict[str, tuple[list[dict[str, Any]], list[Question]]] = {
    "two topics, plain rows": ([row(q) for q in BOTH], BOTH),
    "two topics, the other way round": ([row(q) for q in reversed(BOTH)], BOTH),
    "two topics, lm_eval samples": ([sample(q) for q in BOTH], BOTH),
    "two topics and two sources, one of them on one": ([row(TOWER)], [TOWER]),
    "a row without a topic": ([row(TOWER, "topic")], [TOWER]),
    "a topic spelled in another way": ([row(TOWER, topic="The tower of Corven")], [TOWER]),
    "a row with its topic alone": ([row(TOWER, "question")], [TOWER]),
    "white space around": ([row(TOWER, topic=" Corven Tower", question=f"{OPENED}\n")], [TOWER]),
}
UNCLEAR: dict[str, tuple[list[dict[str, Any]], list[Question], str]] = {
    "no topic, though two are asked about": (
        [row(q, "topic") for q in BOTH],
        BOTH,
        "do not say whether they are about 'Arlen Bridge' or 'Corven Tower': add the topic",
    ),
    "no question, though the topic has two": (
        [row(TOWER, "question")],
        [TOWER, Question("Corven Tower", "Where?", TOWER.document, "en")],
        "add the question to their rows",
    ),
}


def replayed(file: Path, asked: list[Question]) -> list[str]:
    requests = [Instance("generate_until", q.to_dict(), ("", {}), 0, ("task", i, 1)) for i, q in enumerate(asked)]
    return ReplayLM(str(file)).generate_until(requests)


@pytest.mark.parametrize("case", ANSWERED)
def test_every_answer_meets_its_own_question(case: str, tmp_path: Path) -> None:
    rows, asked = ANSWERED[case]
    file = tmp_path / "answers.jsonl"
    write_jsonl(file, rows)
    assert replayed(file, asked) == [q.document for q in asked]
    items = items_of(file, asked)
    assert {(i.topic, i.document, i.response) for i in items} == {(q.topic, q.document, q.document) for q in asked}
    assert len(items) == len(asked)


@pytest.mark.parametrize("case", UNCLEAR)
def test_an_answer_that_may_belong_to_two_questions_is_refused(case: str, tmp_path: Path) -> None:
    rows, asked, message = UNCLEAR[case]
    file = tmp_path / "answers.jsonl"
    write_jsonl(file, rows)
    for ask in (lambda: replayed(file, asked), lambda: items_of(file, asked)):
        with pytest.raises(HarnessError, match=rf"answers\.jsonl: .*{message}"):
            ask()


def test_the_answer_on_another_topic_is_none() -> None:
    assert match([(q.topic, OPENED) for q in BOTH], [(TOWER.topic, OPENED)]) == {
        (TOWER.topic, OPENED): (TOWER.topic, OPENED)
    }
    assert match([("", OPENED)], [(q.topic, OPENED) for q in BOTH]) == {}


def test_two_topics_with_one_question_from_answers_to_pairs(tmp_path: Path) -> None:
    """Judged against their own documents, all answers are right; each topic's good and bad answer make one pair."""
    questions, answers, out = (tmp_path / f"{name}.jsonl" for name in ("questions", "answers", "annotations"))
    write_jsonl(questions, (q.to_dict() for q in BOTH))
    write_jsonl(answers, [row(q) for q in BOTH] + [row(q, response=q.document[:-2] + "9.") for q in BOTH])
    assert command("annotate")([answers, "--questions", questions, "--judge", "lexical", "--out", out]) == 0
    labels = {(r["topic"], r["response"]): [s["label"] for s in r["sentences"]] for _, r in read_jsonl(out)}
    assert [labels[q.topic, q.document] for q in BOTH] == [["ok"], ["ok"]]
    pairing = Pairing(list(read_annotations(out)), PairRules())
    assert [(p.topic, p.chosen.text) for p in pairing] == [(q.topic, q.document) for q in BOTH]


def judged(question: Question) -> Annotation:
    text = question.document
    whole, right = Sentence(text, 0, len(text)), Judgement(Label.OK)
    return Annotation(OPENED, text, "en", "lexical", question.topic, (whole,), (right,))


def test_the_page_shows_each_answer_with_its_own_document(tmp_path: Path) -> None:
    file, page = tmp_path / "samples_t.jsonl", tmp_path / "page.html"
    write_jsonl(file, (sample(q) | {"filtered_resps": [dump_annotations([judged(q)])]} for q in BOTH))
    for files, shown in (([file], 1), ([file, file, "--names", "a", "b"], 2)):
        assert command("page")([*files, "--out", page]) == 0
        articles = page.read_text().split("<article")[1:]
        assert len(articles) == 2 * shown
        for article in articles:
            assert (TOWER.topic in article) == (TOWER.document in article.partition("<details")[2])


def run_of(folder: Path, task: str, time: str, text: str) -> Path:
    file = folder / f"samples_{task}_{time}.jsonl"
    write_jsonl(file, [row(TOWER, response=text)])
    return file


def test_of_two_runs_in_a_folder_the_newest_is_read_and_the_other_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "out" / "model"
    new = run_of(model, "t", "2026-02-01T10-00-00.5", "new")
    old = run_of(model, "t", "2026-01-31T10-00-00.5", "old")
    with caplog.at_level(logging.WARNING):
        for folder in (model.parent, model):
            assert [r.responses() for r in sample_rows(folder)] == [["new"]]
            assert replayed(folder, [TOWER]) == ["new"]
    assert f"{old}: left out for the newer run {new.name}" in caplog.text
    assert replayed(old, [TOWER]) == ["old"]
    others = [run_of(model, "t_sampled", "2026-01-01T10-00-00.5", "x"), run_of(model.parent / "b", "t", "2026", "x")]
    assert {*samples_files(model.parent)} == {new, *others}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"filtered_resps": ["{"]}, "not annotation JSON"),
        ({"filtered_resps": [3]}, "not annotation JSON"),
        ({"filtered_resps": ["3"]}, "not an annotation"),
        ({"filtered_resps": [json.dumps({"sentences": []})]}, "not an annotation: KeyError"),
        ({"sentences": 3}, "not an annotation"),
    ],
)
def test_bad_annotations_are_named(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_jsonl(file, [{"doc_id": 0, "filter": "annotation", **data}])
    with pytest.raises(HarnessError, match=f"a.jsonl, row 1: {message}"):
        list(read_annotations(file))
    if "filtered_resps" in data:
        with pytest.raises(HarnessError, match=f"a.jsonl, row 1: {message}"):
            [r.annotations() for _, r in judged_rows(file)]
