"""Scores: the paper's number, bounds, intervals over topics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factuality_harness.harness import metrics
from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.metrics import Counts, cluster_bootstrap, factuality, factuality_macro, summarise

NAMES = [
    "factuality",
    "factuality_macro",
    "factuality_ci95_low",
    "factuality_ci95_high",
    "correct",
    "incorrect",
    "contradictory_rate",
    "unverifiable_rate",
    "nofact_rate",
    "unparsed_rate",
    "sentences_per_response",
    "score_reference",
    "correct_per_response",
    "correct_per_response_ci95_low",
    "correct_per_response_ci95_high",
    "f1_at_k",
    "f1_at_k_ci95_low",
    "f1_at_k_ci95_high",
    "thinking_cut_rate",
    "language_mismatch_rate",
]
SHARES = [n for n in NAMES if n not in ("correct", "incorrect") and "_per_response" not in n]

SMALL = st.integers(0, 9)
ROWS = st.lists(
    st.builds(
        Counts,
        topic=st.sampled_from("abcdef"),
        responses=st.integers(1, 4),
        ok=SMALL,
        contradictory=SMALL,
        unverifiable=SMALL,
        nofact=SMALL,
        unparsed=SMALL,
    ),
    min_size=1,
    max_size=12,
)


def annotation(labels: str, topic: str = "") -> Annotation:
    """One sentence a letter: o, c, u, n, x for the five labels."""
    names = dict(zip("ocunx", Label, strict=True))
    return Annotation(
        question="q",
        response=labels,
        language="en",
        judge="lexical",
        topic=topic,
        sentences=tuple(Sentence(letter, i, i + 1) for i, letter in enumerate(labels)),
        judgements=tuple(Judgement(names[letter]) for letter in labels),
    )


def test_the_metrics_of_the_tasks() -> None:
    assert {*metrics.METRICS} == {*NAMES}


def test_the_papers_number() -> None:
    rows = [Counts("a", 1, ok=400, contradictory=300), Counts("b", 1, ok=61, contradictory=100, unverifiable=76)]
    assert factuality(rows) == 461 / (461 + 476)
    assert round(100 * factuality(rows), 1) == 49.2


def test_count() -> None:
    counts = metrics.count([annotation("oocunx", "T"), annotation("on", "T")])
    assert counts == Counts(
        "T", 2, ok=3, contradictory=1, unverifiable=1, nofact=2, unparsed=1, each=((2, 2, 1), (1, 0, 0))
    )
    assert (counts.incorrect, counts.checkable, counts.total) == (2, 5, 8)
    assert metrics.count([annotation("o")]).topic == "q"
    with pytest.raises(ValueError, match="no annotations"):
        metrics.count([])


def test_each_metric_by_hand() -> None:
    rows = [Counts("a", 1, ok=3, contradictory=1, nofact=1), Counts("b", 2, unverifiable=2, unparsed=1)]
    values = summarise(rows)
    assert values["factuality"] == 3 / 6
    assert values["factuality_macro"] == (3 / 4 + 0) / 2
    assert (values["correct"], values["incorrect"]) == (3, 3)
    assert values["contradictory_rate"] == 1 / 8
    assert values["unverifiable_rate"] == 2 / 8
    assert values["nofact_rate"] == 1 / 8
    assert values["unparsed_rate"] == 1 / 8
    assert values["sentences_per_response"] == 8 / 3
    assert values["score_reference"] == 1 - 3 / 8


@given(ROWS, SMALL, SMALL)
def test_sentences_without_a_verdict_change_no_score(rows: list[Counts], nofact: int, unparsed: int) -> None:
    changed = [replace(r, nofact=nofact, unparsed=unparsed) for r in rows]
    for score in (factuality, factuality_macro):
        assert score(rows) == score(changed) or math.isnan(score(rows))


@settings(max_examples=30)
@given(ROWS)
def test_permutation_changes_nothing(rows: list[Counts]) -> None:
    there, back = summarise(rows), summarise(rows[::-1])
    for name in NAMES:
        assert there[name] == pytest.approx(back[name], nan_ok=True)
    assert metrics.factuality_ci95(rows) == pytest.approx(metrics.factuality_ci95(rows[::-1]), abs=0, nan_ok=True)


@settings(max_examples=40)
@given(ROWS)
def test_bounds(rows: list[Counts]) -> None:
    values = summarise(rows)
    assert all(0 <= values[name] <= 1 or math.isnan(values[name]) for name in SHARES)
    checkable = sum(r.checkable for r in rows)
    assert values["correct"] + values["incorrect"] == checkable
    assert math.isnan(values["factuality"]) == (checkable == 0)
    topics = {r.topic for r in rows if r.checkable}
    assert math.isnan(values["factuality_ci95_low"]) == (len(topics) < 2)
    if len(topics) > 1:
        assert values["factuality_ci95_low"] <= values["factuality_ci95_high"]
    rates = ["contradictory_rate", "unverifiable_rate", "nofact_rate", "unparsed_rate"]
    total = sum(r.total for r in rows)
    if total:
        assert sum(values[r] for r in rates) + values["correct"] / total == pytest.approx(1)


@pytest.mark.parametrize("rows", [[], [Counts("a", 1)], [Counts("a", 1, nofact=3, unparsed=2)]])
def test_nothing_to_divide_by_is_nan(rows: list[Counts]) -> None:
    assert math.isnan(factuality(rows))
    assert math.isnan(factuality_macro(rows))
    assert all(math.isnan(v) for v in metrics.factuality_ci95(rows))
    assert metrics.is_missing(factuality(rows))
    assert not metrics.is_missing(0.0)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.15, 0.85), st.integers(20, 80))
def test_the_interval_holds_the_score_of_ordinary_data(seed: int, share: float, topics: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 15, topics)
    right = rng.binomial(sizes, share)
    low, high = cluster_bootstrap(map(str, range(topics)), right, sizes, resamples=1000)
    assert low < right.sum() / sizes.sum() < high


def test_the_interval_has_the_width_theory_gives() -> None:
    rng = np.random.default_rng(7)
    right = rng.binomial(1, 0.4, 400)
    low, high = cluster_bootstrap(map(str, range(400)), right, np.ones(400))
    share = right.mean()
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 400), rel=0.05)


def test_topics_are_drawn_whole() -> None:
    """Three equal questions a topic tell no more than one does."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(3, 9, 60)
    right = rng.binomial(sizes, 0.5)
    names = [f"t{i:02}" for i in range(60)]
    once = cluster_bootstrap(names, right, sizes)
    thrice = cluster_bootstrap(names * 3, np.tile(right, 3), np.tile(sizes, 3))
    assert thrice == once
    by_row = cluster_bootstrap([f"r{i}" for i in range(180)], np.tile(right, 3), np.tile(sizes, 3))
    assert by_row[1] - by_row[0] == pytest.approx((once[1] - once[0]) / math.sqrt(3), rel=0.1)


def test_the_interval_is_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    arguments = ([f"t{i}" for i in range(40)], rng.integers(0, 9, 40), rng.integers(9, 20, 40))
    assert cluster_bootstrap(*arguments) == cluster_bootstrap(*arguments)
    assert cluster_bootstrap(*arguments, seed=1) != cluster_bootstrap(*arguments, seed=2)
    wide = cluster_bootstrap(*arguments, level=0.99)
    narrow = cluster_bootstrap(*arguments, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("topics", "right", "of"), [(["a", "a"], [1, 2], [4, 4]), (["a", "b"], [1, 0], [2, 0]), ([], [], [])]
)
def test_one_topic_has_no_interval(topics: list[str], right: list[int], of: list[int]) -> None:
    assert all(map(math.isnan, cluster_bootstrap(topics, right, of)))


def test_topics_without_checkable_sentences_do_no_harm() -> None:
    low, high = cluster_bootstrap(["a", "b", "c"], [1, 0, 2], [2, 0, 4])
    assert (low, high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("correct", "incorrect", "k", "value"),
    [
        (0, 0, 5, 0.0),
        (0, 4, 5, 0.0),
        (5, 0, 5, 1.0),
        (9, 0, 5, 1.0),  # more than K correct ones bring no more
        (1, 0, 5, 2 * 1 * 0.2 / 1.2),
        (4, 4, 5, 2 * 0.5 * 0.8 / 1.3),
        (3, 1, 1, 2 * 0.75 / 1.75),
    ],
)
def test_f1_at_k_of_one_response(correct: int, incorrect: int, k: int, value: float) -> None:
    assert metrics.f1(correct, incorrect, k) == pytest.approx(value)


def test_saying_less_raises_precision_and_not_f1() -> None:
    brief = metrics.Counts("a", 1, ok=1, each=((1, 0, 0),))
    full = metrics.Counts("a", 1, ok=5, unverifiable=1, each=((5, 1, 0),))
    assert metrics.factuality([brief]) > metrics.factuality([full])
    assert metrics.f1_at(5)([brief]) < metrics.f1_at(5)([full])
    assert metrics.correct_per_response([brief]) < metrics.correct_per_response([full])


def test_f1_counts_empty_answers_and_leaves_out_what_could_not_be_judged() -> None:
    rows = [
        metrics.Counts("a", 2, ok=5, each=((5, 0, 0), (0, 0, 0))),
        metrics.Counts("b", 1, unparsed=3, each=((0, 0, 3),)),
    ]
    assert metrics.f1_at(5)(rows) == 0.5
    assert math.isnan(metrics.f1_at(5)(rows[1:]))
    assert math.isnan(metrics.f1_at(5)([metrics.Counts("old file", 1, ok=3)]))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1), st.integers(1, 12))
def test_f1_lies_between_0_and_1_and_falls_with_k(each: list[tuple[int, int]], k: int) -> None:
    rows = [metrics.Counts("t", 1, ok=ok, unverifiable=wrong, each=((ok, wrong, 0),)) for ok, wrong in each]
    assert 0 <= metrics.f1_at(k + 1)(rows) <= metrics.f1_at(k)(rows) + 1e-12 <= 1 + 1e-12


def test_every_score_of_an_interval_lies_in_it() -> None:
    rows = [metrics.Counts(f"t{i}", 1, ok=i % 4, unverifiable=2, each=((i % 4, 2, 0),)) for i in range(20)]
    for name in ("factuality", "correct_per_response", "f1_at_k"):
        low, value, high = (
            metrics.METRICS[key].aggregation(rows) for key in (f"{name}_ci95_low", name, f"{name}_ci95_high")
        )
        assert low < value < high
