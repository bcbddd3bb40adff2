"""What a judge reads: sentences without the marks of their layout."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.lexical import LexicalAnnotator
from factuality_harness.harness.factscore.evaluator import FactScorer
from factuality_harness.harness.factscore.knowledge import PageKnowledge
from factuality_harness.harness.factscore.scored import TopicResponse
from factuality_harness.harness.factscore.verify import AnnotatorVerifier
from factuality_harness.harness.markup import plain
from tests.harness.test_annotate import Echo

MARKED = [
    ("- **Born**: 1990", "Born: 1990"),
    ("* item", "item"),
    ("+ item", "item"),
    ("• item", "item"),
    ("– item", "item"),
    ("1. First one.", "First one."),
    ("12) It is.", "It is."),
    ("a) It is.", "It is."),
    ("(3) It is.", "It is."),
    ("- [x] done", "done"),
    ("- [ ] to do", "to do"),
    ("  - deep", "deep"),
    ("> - **both**", "both"),
    ("## Early life ##", "Early life"),
    ("# 早年", "早年"),
    ("> quoted", "quoted"),
    (">> deep", "deep"),
    ("> > deep", "deep"),
    ("1、第一", "第一"),
    ("（1）第一", "第一"),
    ("① 第一", "第一"),
    ("- 他是**伟大**的作家。", "他是伟大的作家。"),
    ("| Born | 1990 |", "Born, 1990"),
    ("|a|b|", "a, b"),
    ("| Born in May.", "Born in May."),
    ("Paris | 1990 |", "Paris, 1990"),
    ("|---|:--:|", ""),
    ("| a | b |\n|---|---|\n| c | d |", "a, b\nc, d"),
    ("A list:\n\n- One.\n- **Two**", "A list:\n\nOne.\nTwo"),
    ("**Born in 1990.", "Born in 1990."),
    ("He died.**", "He died."),
    ("***both***", "both"),
    ("__bold__ and _it_", "bold and it"),
    ("3. **Name**: text", "Name: text"),
    ("**3. Name**: text", "Name: text"),
    ("*it* is 5 * 3 * 2", "it is 5 * 3 * 2"),
]
PLAIN = [
    "He was born in 1990.",
    "1990. That was it.",
    "42.",
    "7)",
    "-5 degrees",
    "2**10 is 1024",
    "snake_case_name",
    "5 * 3 * 2",
    "#1 hit",
    "|x| is 3",
    "A | B",
    ">50% of all",
    "1、2号楼",
    "J. Smith",
    "",
    "- ",
    "A-B – C",
    "C# and F#",
    "f(x) = x_1 + x_2",
]


@pytest.mark.parametrize(("text", "read"), MARKED)
def test_marks_are_not_read(text: str, read: str) -> None:
    assert plain(text) == read


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_stays(text: str) -> None:
    assert plain(text) == text


@given(st.lists(st.sampled_from([*"-*#>|_ \n1.()", "ab", "字", "**", "- ", "1. ", "| "]), max_size=30).map("".join))
def test_letters_and_their_order_stay(text: str) -> None:
    assert [c for c in plain(text) if c.isalpha()] == [c for c in text if c.isalpha()]


@pytest.mark.parametrize(
    "unit", ["*", "**a", "_", " _a", "> ", ">", "| ", "- ", "1. ", " ", "\n ", "#", "a |", "*a ", "[x] "]
)
def test_long_monotonous_text_takes_no_time(unit: str) -> None:
    start = time.process_time()
    plain("- a" + unit * (60_000 // len(unit)) + "b")
    assert time.process_time() - start < 2


RESPONSE = "## Life\n\n- **ok** born in 1990.\n---\n| c | 1991 |\n"


def test_judges_read_it_and_annotations_keep_the_original() -> None:
    (found,) = annotate([DocumentedResponse("q", RESPONSE, "d", "en")], Echo(9), progress=False)
    assert [s.text for s in found.sentences] == ["## Life", "- **ok** born in 1990.", "---", "| c | 1991 |"]
    assert all(RESPONSE[s.start : s.end] == s.text for s in found.sentences)
    assert [j.detail for j in found.judgements] == ["q|Life|en", "q|ok born in 1990.|en", "", "q|c, 1991|en"]
    assert [j.label for j in found.judgements] == [Label.NOFACT, Label.OK, Label.NOFACT, Label.CONTRADICTORY]


def test_facts_are_taken_from_it_and_spans_keep_the_original() -> None:
    scorer = FactScorer(
        AnnotatorVerifier(LexicalAnnotator()),
        PageKnowledge({"T": "Alice was born in 1990."}),
        style="anah",
        progress=False,
    )
    (scored,) = scorer.score([TopicResponse("T", "Who?", "1. **Alice** was born in 1990.", "en")])
    assert [(s.text, s.facts[0].text) for s in scored.sentences] == [
        ("1. **Alice** was born in 1990.", "Alice was born in 1990.")
    ]
