"""Annotations: JSON both ways, and what is refused."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factuality_harness.harness.annotation import (
    Annotation,
    Judgement,
    Label,
    Sentence,
    dump_annotations,
    load_annotations,
)
from factuality_harness.harness.errors import HarnessError


@st.composite
def some_annotation(draw: st.DrawFn) -> Annotation:
    response = draw(st.text(max_size=60))
    cuts = sorted(draw(st.sets(st.integers(0, len(response)), max_size=6)))
    spans = list(itertools.pairwise(cuts))
    return Annotation(
        question=draw(st.text(max_size=20)),
        response=response,
        language=draw(st.sampled_from(["en", "zh"])),
        judge=draw(st.text(max_size=20)),
        topic=draw(st.text(max_size=20)),
        sentences=tuple(Sentence(response[a:b], a, b) for a, b in spans),
        judgements=tuple(
            Judgement(
                draw(st.sampled_from(list(Label))),
                tuple(draw(st.lists(st.text(max_size=10), max_size=3))),
                draw(st.text(max_size=10)),
            )
            for _ in spans
        ),
        extra=draw(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2)),
    )


@settings(max_examples=50)
@given(st.lists(some_annotation(), min_size=1, max_size=3))
def test_round_trip(rows: list[Annotation]) -> None:
    text = dump_annotations(rows)
    assert load_annotations(text) == rows
    assert isinstance(json.loads(text), dict if len(rows) == 1 else list)


def example() -> Annotation:
    return Annotation(
        question="Who?",
        response="I did. 好",
        language="en",
        judge="lexical",
        sentences=(Sentence("I did.", 0, 6), Sentence("好", 7, 8)),
        judgements=(Judgement(Label.OK, ("He did.",)), Judgement(Label.UNPARSED, (), "no answer")),
    )


def test_json_is_flat_and_readable() -> None:
    data = json.loads(dump_annotations([example()]))
    assert data["sentences"] == [
        {"text": "I did.", "start": 0, "end": 6, "label": "ok", "evidence": ["He did."], "detail": ""},
        {"text": "好", "start": 7, "end": 8, "label": "unparsed", "evidence": [], "detail": "no answer"},
    ]
    assert "好" in dump_annotations([example()])
    assert "extra" not in data


def test_count() -> None:
    assert example().count(Label.OK) == 1
    assert example().count(Label.OK, Label.UNPARSED) == 2
    assert example().count(Label.NOFACT) == 0


def test_sentences_and_judgements_must_pair_up() -> None:
    with pytest.raises(ValueError, match="1 sentences but 0 judgements"):
        Annotation("q", "a", "en", "lexical", sentences=(Sentence("a", 0, 1),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": ...}, "question"),
        ({"sentences": ...}, "sentences"),
        ({"sentences": [{"text": "I did.", "start": 0, "end": 6}]}, "label"),
        ({"sentences": [{"text": "I did.", "start": 0, "end": 6, "label": "fine"}]}, "fine"),
        ({"sentences": [{"text": "I did.", "start": 1, "end": 7, "label": "ok"}]}, "characters 1:7"),
        ({"sentences": [{"text": "I did.", "start": "0", "end": 6, "label": "ok"}]}, "not an annotation"),
        ({"sentences": 3}, "not an annotation"),
    ],
)
def test_what_is_no_annotation(change: dict[str, object], message: str) -> None:
    data = {k: v for k, v in {**example().to_dict(), **change}.items() if v is not ...}
    with pytest.raises(HarnessError, match=message):
        load_annotations(json.dumps(data))


@pytest.mark.parametrize("text", ["", "None", '{"question":', "3", '["a"]'])
def test_other_json(text: str) -> None:
    with pytest.raises(HarnessError, match=r"not annotation JSON|not an annotation"):
        load_annotations(text)
