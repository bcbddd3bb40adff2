"""The score: published numbers, and its properties."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Annotation
from factuality_harness.harness.data.biographies import load_labelled
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.score import (
    FactCounts,
    counts_of_annotation,
    counts_of_labels,
    f1_at,
    init_score,
    num_facts_per_response,
    penalty,
    respond_ratio,
    response_score,
    score,
    score_ci95,
    summarise_facts,
)

few = st.integers(min_value=0, max_value=40)
counts = st.builds(
    FactCounts,
    topic=st.sampled_from("abcdef"),
    responded=st.booleans(),
    supported=few,
    unsupported=few,
    irrelevant=few,
    unparsed=few,
)


@pytest.mark.parametrize(
    ("name", "share", "responding", "facts"),
    [("ChatGPT", 58.30, 157, 34.6), ("InstructGPT", 42.81, 181, 26.1)],
)
def test_human_labels_give_the_published_numbers(
    shared_data: Path, name: str, share: float, responding: int, facts: float
) -> None:
    data = load_labelled(shared_data / "factscore_labeled" / f"{name}.jsonl")
    result = summarise_facts([counts_of_labels(r) for r in data.rows])
    assert round(100 * result["init_score"], 2) == share
    assert result["respond_ratio"] == responding / 183
    assert round(result["num_facts_per_response"], 1) == facts
    low, high = result["score_ci95_low"], result["score_ci95_high"]
    assert low < result["score"] < high


def test_by_hand() -> None:
    rows = [
        FactCounts("a", True, supported=3, unsupported=1),
        FactCounts("b", True, supported=10, unsupported=10),
        FactCounts("c", False),
        FactCounts("d", True),
        FactCounts("e", True, skipped=True),
    ]
    assert init_score(rows) == (0.75 + 0.5) / 2
    assert score(rows) == pytest.approx((0.75 * math.exp(1 - 10 / 4) + 0.5) / 2)
    assert respond_ratio(rows) == 2 / 4
    assert num_facts_per_response(rows) == 12
    result = summarise_facts(rows, gamma=2)
    assert result["score"] == result["init_score"]
    assert (result["responses"], result["abstained"], result["without_facts"], result["skipped"]) == (
        4,
        1,
        1,
        1,
    )
    assert (result["facts"], result["supported"], result["unsupported"]) == (24, 13, 11)


def test_facts_without_a_verdict_are_in_no_share_but_in_the_length() -> None:
    row = FactCounts("a", True, supported=1, unsupported=1, unparsed=9)
    assert row.precision == 0.5
    assert response_score(row) == 0.5
    unjudged = FactCounts("b", True, unparsed=3)
    assert score([row, unjudged]) == 0.5
    assert respond_ratio([row, unjudged]) == 1


def test_nothing_to_score_is_nan() -> None:
    for rows in ([], [FactCounts("a", False)], [FactCounts("a", True, skipped=True)]):
        assert math.isnan(score(rows))
        assert math.isnan(num_facts_per_response(rows))
        assert all(math.isnan(bound) for bound in score_ci95(rows))
    assert respond_ratio([FactCounts("a", False)]) == 0


@given(st.lists(counts, max_size=8), st.floats(min_value=-5, max_value=50))
def test_bounds(rows: list[FactCounts], gamma: float) -> None:
    value, initial = score(rows, gamma), init_score(rows)
    assert math.isnan(value) == math.isnan(initial)
    if not math.isnan(value):
        assert 0 <= value <= initial + 1e-12 <= 1 + 1e-9


@given(st.integers(min_value=0, max_value=200), st.floats(min_value=0, max_value=100))
def test_penalty_rises_with_the_facts(facts: int, gamma: float) -> None:
    assert 0 <= penalty(facts, gamma) <= penalty(facts + 1, gamma) <= 1
    if facts:
        assert penalty(facts, gamma) >= penalty(facts, gamma + 1)


@given(st.lists(counts, max_size=8), st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[FactCounts], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in (score, init_score, respond_ratio, num_facts_per_response):
        a, b = metric(rows), metric(shuffled)
        assert a == b or (math.isnan(a) and math.isnan(b))


def test_interval_is_deterministic() -> None:
    rows = [FactCounts(str(i), True, supported=i, unsupported=20 - i) for i in range(20)]
    assert score_ci95(rows) == score_ci95(rows[::-1])


def test_other_annotations_are_refused() -> None:
    with pytest.raises(HarnessError, match="'t' holds no atomic facts"):
        counts_of_annotation(Annotation("q", "r", "en", "lexical", topic="t"))


def test_an_extractor_that_fails_is_no_abstention() -> None:
    rows = [FactCounts("a", True, supported=2), FactCounts("b", True, sentences=3, unparsed_sentences=3)]
    assert respond_ratio(rows) == 1
    assert respond_ratio([*rows, FactCounts("c", True, sentences=2)]) == 2 / 3  # read, and states nothing
    assert score(rows, gamma=0) == 1


def test_f1_at_k_of_facts() -> None:
    full, brief, silent = FactCounts("a", True, 35), FactCounts("b", True, 5), FactCounts("c", False)
    unread = FactCounts("d", True, sentences=1, unparsed_sentences=1)
    assert f1_at(35)([full]) == 1
    assert f1_at(35)([brief]) == pytest.approx(2 * (5 / 35) / (1 + 5 / 35))
    assert f1_at(35)([full, silent, unread]) == 0.5
