"""Responses to annotations: in order, in windows, whatever the annotator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress
from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, CachedEngine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import count, language_mismatch_rate
from factuality_harness.harness.sentences import split
from tests.helpers import rule_judge


class Echo:
    """Labels a sentence by its first letter and tells what it was asked: o ok, c contradictory, else nofact."""

    spec = "echo"

    def __init__(self, window: int) -> None:
        self.window = window
        self.batches: list[int] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        self.batches.append(len(claims))
        labels = {"o": Label.OK, "c": Label.CONTRADICTORY}
        return [
            Judgement(labels.get(c.sentence[0], Label.NOFACT), (c.document,), f"{c.question}|{c.sentence}|{c.language}")
            for c in claims
        ]


def item(number: int, response: str, language: str = "en") -> DocumentedResponse:
    return DocumentedResponse(f"q{number}", response, f"d{number}", language, f"t{number}")


@given(st.lists(st.text(st.sampled_from("oc. \n"), max_size=12), max_size=12), st.integers(1, 9))
def test_any_window_gives_the_same_annotations(responses: list[str], window: int) -> None:
    items = [item(i, r) for i, r in enumerate(responses)]
    found = list(annotate(items, Echo(window), progress=False))
    assert found == list(annotate(items, Echo(10_000), progress=False))
    assert len(found) == len(items)
    for source, annotation in zip(items, found, strict=True):
        assert (annotation.question, annotation.response, annotation.topic) == (
            source.question,
            source.response,
            source.topic,
        )
        assert list(annotation.sentences) == split(source.response, "en")
        for sentence, judgement in zip(annotation.sentences, annotation.judgements, strict=True):
            if sentence.text.strip(".") == "":
                assert judgement == Judgement(Label.NOFACT)  # without a letter or digit: not asked about
                continue
            assert judgement.evidence == (source.document,)
            assert judgement.detail == f"{source.question}|{sentence.text}|en"


def test_sentences_are_judged_a_window_at_a_time_and_no_more_is_read() -> None:
    read: list[int] = []

    def stream() -> Iterator[DocumentedResponse]:
        for i in range(10):
            read.append(i)
            yield item(i, "o. c. n.")

    echo = Echo(window=6)
    annotations = annotate(stream(), echo, progress=False)
    next(annotations)
    assert (read, echo.batches) == ([0, 1], [6])
    next(annotations)
    next(annotations)
    assert (read, echo.batches) == ([0, 1, 2, 3], [6, 6])
    assert len(list(annotations)) == 7
    assert echo.batches == [6] * 5


def test_an_empty_response_has_no_sentence() -> None:
    echo = Echo(window=100)
    found = list(annotate([item(0, ""), item(1, " \n "), item(2, "o. n.")], echo, progress=False))
    assert [len(a.sentences) for a in found] == [0, 0, 2]
    assert echo.batches == [2]
    assert next(iter(annotate([item(0, "")], echo, progress=False))).judgements == ()
    assert list(annotate([], echo, progress=False)) == []


def test_the_sentence_style_is_the_callers() -> None:
    text = "Dr. No came."
    assert len(next(annotate([item(0, text)], Echo(9), progress=False)).sentences) == 1
    assert next(annotate([item(0, text)], Echo(9), style="spacy", progress=False)).sentences[0].text == text
    with pytest.raises(HarnessError, match="style 'words'"):
        list(annotate([item(0, text)], Echo(9), style="words", progress=False))


def test_the_bar_counts_sentences_and_responses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    engine = CachedEngine(rule_judge.RuleEngine(), AnswerCache(tmp_path / "a.sqlite"))
    items = [DocumentedResponse("q", f"Alice came in 19{i}0. Oh!", rule_judge.EN_DOCUMENT, "en") for i in range(3)]
    found = list(annotate(items, DialogueAnnotator(engine, window=2), total=3))
    error = capsys.readouterr().err
    assert "judge dialogue@rules#1: 6sentence" in error.replace(" sentence", "sentence")
    assert "3/3 responses" in error
    assert {a.judge for a in found} == {"dialogue@rules#1"}


def test_labels_of_the_lexical_judge_reach_the_annotation() -> None:
    response = "Alice was born in 1901.\nAlice was born in 1902.\n\nI hope this helps!"
    annotation = next(
        annotate(
            [DocumentedResponse("Who?", response, rule_judge.EN_DOCUMENT, "en")],
            JudgeSpec("lexical").open(),
            progress=False,
        )
    )
    assert [j.label for j in annotation.judgements] == ["ok", "contradictory", "nofact"]
    assert [response[s.start : s.end] for s in annotation.sentences] == response.replace("\n\n", "\n").split("\n")
    assert annotation.judge == "lexical"


def test_answers_in_another_language_are_split_by_their_own_and_counted() -> None:
    items = [
        item(0, "o一。c二。"),
        item(1, "鲁迅生于1881年。他是作家。"),
        item(2, "One. Two.", "zh"),
        item(3, "一.二.", "zh"),
    ]
    found = list(annotate(items, Echo(9), progress=False))
    assert [len(a.sentences) for a in found] == [1, 2, 2, 2]
    assert [a.language for a in found] == ["en", "en", "zh", "zh"]
    assert [a.extra.get("answer_language") for a in found] == [None, "zh", "en", None]
    assert language_mismatch_rate([count([a]) for a in found]) == 0.5
