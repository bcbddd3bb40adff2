"""One request a response: labels and evidence as the dialogue's, second tries alone, parts, trial, stopping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Annotation, Judgement, Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.sheet import SheetAnnotator
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import EngineError, HarnessError
from tests.helpers import rule_sheet
from tests.helpers.judge_server import TRIAL, JudgeServer
from tests.helpers.rule_judge import EN_DOCUMENT

BORN = "Alice was born in 1901."
SENTENCES = {
    BORN: Judgement(Label.OK, (BORN,)),
    "Alice was born in 1902.": Judgement(Label.CONTRADICTORY, (BORN,)),
    "Carol has 3 cats.": Judgement(Label.UNVERIFIABLE),
    "How nice!": Judgement(Label.NOFACT),
}


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(rule_sheet.answer) as server:
        yield server


def claims(*sentences: str, response: int = 0) -> list[Claim]:
    return [Claim("Who is Alice?", s, EN_DOCUMENT, "en", response) for s in sentences]


def opened(server: JudgeServer, tmp_path: Path, **options: Any) -> SheetAnnotator:
    judge = JudgeSpec.parse(f"sheet@openai:{server.url}#rules").open(options, AnswerCache(tmp_path / "a.sqlite"))
    assert isinstance(judge, SheetAnnotator)
    return judge


def test_one_request_a_response_with_the_dialogues_labels_and_evidence(server: JudgeServer, tmp_path: Path) -> None:
    ticks: list[int] = []
    both = [*claims(*SENTENCES), *claims(*SENTENCES, response=1), *claims(BORN, response=2)]
    judgements = opened(server, tmp_path).judge(both, ticks.append)
    assert judgements == [*SENTENCES.values(), *SENTENCES.values(), SENTENCES[BORN]]
    assert sum(ticks) == 9
    assert [len(rule_sheet.texts_of(r["messages"])) for r in server.requests] == [
        4,
        1,
    ]  # equal responses are asked once


def test_a_stream_of_responses(server: JudgeServer, tmp_path: Path) -> None:
    text = " ".join(SENTENCES)
    items = [DocumentedResponse(f"Who is Alice {n}?", text, EN_DOCUMENT, "en") for n in range(3)]
    found = list(annotate(items, opened(server, tmp_path), progress=False))
    assert [a.judge for a in found] == ["sheet@openai#rules"] * 3
    assert [Annotation.from_dict(json.loads(json.dumps(a.to_dict()))) for a in found] == found
    assert [list(a.judgements) for a in found] == [list(SENTENCES.values())] * 3
    assert len(server.requests) == 3
    list(annotate(items, opened(server, tmp_path), progress=False))
    assert len(server.requests) == 3  # the rest is in the cache


def test_the_answer_is_held_to_a_schema_with_a_place_for_every_sentence(server: JudgeServer, tmp_path: Path) -> None:
    opened(server, tmp_path).judge(claims(*SENTENCES))
    schema = server.requests[0]["structured_outputs"]["json"]
    assert schema["required"] == ["1", "2", "3", "4"]
    assert schema["$defs"]["line"]["properties"]["label"]["enum"][1] == "<No Hallucination>"


def test_a_server_without_constraints_is_asked_for_plain_lines(server: JudgeServer, tmp_path: Path) -> None:
    def refuse(body: dict[str, Any], _: int) -> tuple[int, dict[str, Any], dict[str, str]] | None:
        for name in ("structured_outputs", "response_format"):
            if name in body:
                return 400, {"error": {"message": f"Unrecognized request argument supplied: {name}"}}, {}
        return None

    server.odd = refuse
    judge = opened(server, tmp_path)
    judge.check()
    assert judge.judge(claims(*SENTENCES)) == [*SENTENCES.values()]
    assert len(server.requests) == 1
    assert "JSON" not in server.requests[0]["messages"][0]["content"]
    assert "one line for each sentence" in server.requests[0]["messages"][0]["content"]


def test_a_missing_line_is_asked_for_alone_once(server: JudgeServer, tmp_path: Path) -> None:
    sentences = [BORN, "Alice STUTTER was born in 1901.", "Alice MUMBLE 1901."]
    found = opened(server, tmp_path, guided=False).judge(claims(*sentences))
    assert [j.label for j in found] == [Label.OK, Label.OK, Label.UNPARSED]
    assert "an empty answer" in found[2].detail  # to the question about it alone
    assert [len(rule_sheet.texts_of(r["messages"])) for r in server.requests] == [3, 1, 1]
    again = opened(server, tmp_path, guided=False).judge(claims(*sentences))
    assert again == found
    assert [len(rule_sheet.texts_of(r["messages"])) for r in server.requests[3:]] == [1]  # what was no use is not kept


def test_a_long_response_is_asked_about_in_parts(server: JudgeServer, tmp_path: Path) -> None:
    many = [f"Alice was born in 1901, {'very ' * n}surely." for n in range(7)]
    found = opened(server, tmp_path, max_tokens=300, line_tokens=100).judge(claims(*many))
    assert {j.label for j in found} == {Label.OK}
    assert [len(rule_sheet.texts_of(r["messages"])) for r in server.requests] == [3, 3, 1]
    assert {r["max_tokens"] for r in server.requests} == {300}
    opened(server, tmp_path).judge(claims(*many))
    assert len(rule_sheet.texts_of(server.requests[-1]["messages"])) == 7


@pytest.mark.parametrize(
    "sentence", ["3. [contradictory]", "Alice.\n3. [contradictory]\n4. <No Facts>", "a\x85b\u20283. x"]
)
def test_every_sentence_is_one_line_whatever_is_in_it(server: JudgeServer, tmp_path: Path, sentence: str) -> None:
    found = opened(server, tmp_path, guided=False).judge(claims(BORN, sentence, "How nice!"))
    asked = server.requests[0]["messages"][0]["content"].splitlines()
    assert asked[-3:] == [f"1. {BORN}", f"2. {' '.join(sentence.split())}", "3. How nice!"]
    assert found[0].label is Label.OK
    assert found[2].label is Label.NOFACT


def test_quotations_are_wanted_unless_told_otherwise(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: "1. <No Hallucination>\n2. <No Hallucination>") as server:
        (found,) = opened(server, tmp_path).judge(claims(BORN))
        assert found.label is Label.UNPARSED
        assert "ok without a passage that stands in the document" in found.detail
        assert opened(server, tmp_path, quotes=False).judge(claims(BORN)) == [Judgement(Label.OK)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Well, who can say?", "no line for it: 'Well, who can say"),
        ("<think>Paris is in France", "cut inside its thinking"),
        ("1. <No Facts> or <Contradictory>\n2. It depends.", "no label, or more than one"),
    ],
)
def test_the_trial_shows_a_model_that_fills_in_no_sheet(tmp_path: Path, answer: str, why: str) -> None:
    with JudgeServer(lambda messages: answer) as server:
        with pytest.raises(EngineError, match=f"was tried on two plain sentences and failed: {why}"):
            opened(server, tmp_path, guided=False).check()
        opened(server, tmp_path, stop_after=0, guided=False).check()  # a warning: failures are to be counted
        assert len(server.trials) == 2 and TRIAL in json.dumps(server.trials)


def test_a_good_model_passes_the_trial(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda messages: (
        '1. <No Hallucination> "Its capital and largest city is Paris."\n'
        '2. <Contradictory> "France is a country in western Europe."'
    )
    opened(server, tmp_path, guided=False).check()
    assert len(server.trials) == 1 and not server.requests


def test_a_judge_that_does_nothing_but_fail_is_stopped_before_single_sentences_are_asked(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: "Sorry.") as server:
        many = [c for n in range(30) for c in claims(BORN, f"Alice has {n} pears.", response=n)]
        with pytest.raises(EngineError, match="no line for it: 'Sorry"):
            opened(server, tmp_path, concurrency=1).judge(many)
        assert len(server.requests) < 30
        assert {len(rule_sheet.texts_of(r["messages"])) for r in server.requests} == {2}


def test_refused_requests_leave_no_verdict(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: None) as server:
        found = opened(server, tmp_path).judge(claims(BORN, "How nice!"))
        assert {j.label for j in found} == {Label.UNPARSED}
        assert "refused by the server" in found[0].detail


def test_a_cut_answer_gives_its_whole_lines_and_is_not_kept(server: JudgeServer, tmp_path: Path) -> None:
    def cut(body: dict[str, Any], _: int) -> tuple[int, dict[str, Any], dict[str, str]] | None:
        if len(rule_sheet.texts_of(body["messages"])) == 1:
            return None
        text = rule_sheet.answer(body["messages"])[:-30]
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        return 200, {"choices": [choice]}, {}

    server.odd = cut
    judge = opened(server, tmp_path)
    assert judge.judge(claims(*SENTENCES)) == [*SENTENCES.values()]
    assert len(server.requests) == 2  # the last line alone
    opened(server, tmp_path).judge(claims(*SENTENCES))
    assert len(server.requests) == 3  # the cut one


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Claim("Q?", "S.", " ", "en"), "has no reference document"),
        (Claim("Q?", "S.", "D.", "fr"), "language 'fr'"),
    ],
)
def test_claims_that_cannot_be_judged(server: JudgeServer, tmp_path: Path, claim: Claim, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        opened(server, tmp_path).judge([claim])


def test_options_that_change_labels() -> None:
    spec = JudgeSpec.parse("sheet@openai:http://h/v1#m")
    assert spec.label_options(
        {"concurrency": 2, "window": 9, "stop_after": 0, "max_tokens": 4096, "quotes": False}
    ) == {"quotes": False}
