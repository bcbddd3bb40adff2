"""Agreement of a judge with humans: against scikit-learn, and the intervals against the harness's own bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.judging import agreement
from factuality_harness.harness.judging.agreement import JUDGE, SUPPORTED, WRONG, JudgedUnit, UnitSample
from factuality_harness.harness.judging.labels import TYPES, LabelledClaim
from factuality_harness.harness.metrics import cluster_bootstrap

PAIRS = st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(JUDGE)), min_size=1, max_size=60)


def verdicts(pairs: list[tuple[str, str]], topics: int = 7) -> list[JudgedUnit]:
    return [JudgedUnit(f"t{i % topics}", human, judge, "en") for i, (human, judge) in enumerate(pairs)]


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-12)


@settings(max_examples=40)
@given(PAIRS)
def test_types_as_scikit_learn_has_them(pairs: list[tuple[str, str]]) -> None:
    human, judge = zip(*pairs, strict=True)
    rows = verdicts(pairs)
    given_labels = sorted(set(human))

    def ours(statistic: agreement.Statistic) -> float:
        return UnitSample(rows).value(agreement.of_types(statistic))

    assert same(ours(agreement.accuracy), accuracy_score(human, judge))
    for average, statistic in (("weighted", agreement.f1_weighted), ("macro", agreement.f1_macro)):
        theirs = f1_score(human, judge, labels=given_labels, average=average, zero_division=0)
        assert same(ours(statistic), theirs)
    for name in TYPES:
        found = UnitSample(rows).value(agreement.class_f1(name))
        if name in human:
            assert same(found, f1_score(human, judge, labels=[name], average="macro", zero_division=0))
        else:
            assert math.isnan(found)
    if len(set(human) | set(judge)) > 1:
        assert same(ours(agreement.kappa), cohen_kappa_score(human, judge))


def reading(label: str) -> str:
    return "yes" if label in SUPPORTED else "no" if label in WRONG else label


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(("S", "NS", "IR", "nofact")), st.sampled_from(JUDGE)), min_size=1, max_size=60)
)
def test_supported_or_not_as_scikit_learn_has_it(pairs: list[tuple[str, str]]) -> None:
    rows = verdicts(pairs)
    human, judge = zip(*((reading(h), reading(j)) for h, j in pairs), strict=True)
    assert same(UnitSample(rows).value(agreement.of_binary(agreement.accuracy)), accuracy_score(human, judge))
    if len(set(human) | set(judge)) > 1:
        found = UnitSample(rows).value(agreement.of_binary(agreement.kappa))
        assert same(found, cohen_kappa_score(human, judge))
    told = [(h, j) for h, j in zip(human, judge, strict=True) if h in ("yes", "no") and j in ("yes", "no")]
    for answer, statistic in (("yes", agreement.sensitivity), ("no", agreement.specificity)):
        of_class = [(h, j) for h, j in told if h == answer]
        found = UnitSample(rows).value(statistic)
        if of_class:
            h, j = zip(*of_class, strict=True)
            assert same(found, recall_score(h, j, labels=[answer], average="macro", zero_division=0))
        else:
            assert math.isnan(found)


@given(PAIRS)
def test_nothing_is_dropped(pairs: list[tuple[str, str]]) -> None:
    table = agreement.tables(verdicts(pairs))[1]
    assert table.sum() == agreement.types(table).sum() == agreement.binary(table).sum() == len(pairs)
    rates = [UnitSample(verdicts(pairs)).value(agreement.judged_as(name)) for name in JUDGE]
    assert sum(rates) == pytest.approx(1)


def test_malformed_rows_are_in_no_matrix() -> None:
    rows = [*verdicts([("ok", "ok")]), JudgedUnit("x", "malformed", "unparsed", "en")]
    topics, table = agreement.tables(rows)
    assert (topics, table.sum()) == (["t0"], 1)
    nothing = UnitSample(rows[1:]).ci95(agreement.sensitivity)
    assert all(map(math.isnan, (*nothing, UnitSample(rows[1:]).value(agreement.sensitivity))))


def test_the_interval_is_the_harness_bootstrap_over_topics() -> None:
    rng = np.random.default_rng(1)
    pairs = [(TYPES[i], JUDGE[j]) for i, j in zip(rng.integers(4, size=300), rng.integers(5, size=300), strict=True)]
    rows = verdicts(pairs, topics=20)
    expected = cluster_bootstrap([v.topic for v in rows], [float(v.human == v.judge) for v in rows], [1.0] * len(rows))
    assert UnitSample(rows).ci95(agreement.of_types(agreement.accuracy)) == pytest.approx(expected)
    assert UnitSample(rows[::-1]).ci95(agreement.of_types(agreement.accuracy)) == pytest.approx(expected)


def test_what_rests_on_one_topic_has_no_interval() -> None:
    one = verdicts([("ok", "ok"), ("contradictory", "ok")] * 3, topics=1)
    assert all(map(math.isnan, UnitSample(one).ci95(agreement.of_types(agreement.accuracy))))
    two = [*one, JudgedUnit("other", "contradictory", "contradictory", "en")]
    assert all(map(math.isnan, UnitSample(two).ci95(agreement.sensitivity)))  # nothing supported in the other topic
    assert all(map(math.isnan, UnitSample(two).ci95(agreement.class_f1("ok"))))
    low, high = UnitSample(two).ci95(agreement.specificity)
    assert (low, high) == (0, 1)
    apart = [JudgedUnit(f"t{i}", "ok" if i < 2 else "unverifiable", "ok", "en") for i in range(4)]
    assert UnitSample(apart).ci95(agreement.balanced_accuracy) == (0.5, 0.5)  # no topic has both, none is alone


def test_the_interval_covers_the_true_sensitivity() -> None:
    """Judges of known sensitivity that differs by topic: the interval over topics covers, Wilson's does not."""
    rng = np.random.default_rng(7)
    covered = {"topics": 0, "wilson": 0}
    runs = 60
    for _ in range(runs):
        shares = rng.beta(3.5, 1.5, size=40)  # mean 0.7
        hits = rng.binomial(15, shares)
        rows = [
            JudgedUnit(f"t{t}", "S", "ok" if i < hit else "unverifiable", "en")
            for t, hit in enumerate(hits)
            for i in range(15)
        ]
        for name, (low, high) in (
            ("topics", UnitSample(rows).ci95(agreement.sensitivity)),
            ("wilson", agreement.wilson(int(hits.sum()), 600)),
        ):
            covered[name] += low <= 0.7 <= high
    assert covered["topics"] >= 54
    assert covered["wilson"] <= 50


@pytest.mark.parametrize(("hits", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634)])
def test_wilson(hits: int, total: int, low: float, high: float) -> None:
    assert agreement.wilson(hits, total) == pytest.approx((low, high), abs=1e-4)
    assert all(map(math.isnan, agreement.wilson(0, 0)))


@pytest.mark.parametrize(
    ("said", "reference", "n", "expected"),
    [
        (["the cat sat"], ["The cat sat."], 1, (3, 3)),
        (["the the the"], ["the cat"], 1, (1, 3)),
        (["the cat sat on it"], ["a cat sat on it"], 4, (1, 2)),
        (["one two", "three four"], ["one two three four"], 2, (2, 2)),
        (["灯塔于1871年"], ["灯塔于1872年"], 1, (4, 5)),
        (["too short"], ["too short"], 4, (0, 0)),
        ([], ["the cat"], 1, (0, 0)),
    ],
)
def test_ngram_overlap(said: list[str], reference: list[str], n: int, expected: tuple[int, int]) -> None:
    assert agreement.ngram_overlap(said, reference, n) == expected


def test_evidence_counts_where_the_human_gave_some() -> None:
    claim = Claim("Q?", "S.", "D.", "en")
    rows = [
        agreement.judged_unit(
            LabelledClaim("a", claim, "ok", "", ("one two three four",)), Judgement(Label.OK, ("one two",))
        ),
        agreement.judged_unit(LabelledClaim("b", claim, "ok", "", ()), Judgement(Label.OK, ("five six",))),
        agreement.judged_unit(LabelledClaim("c", claim, "ok", "", ("seven",)), Judgement(Label.OK, ("eight seven",))),
    ]
    assert agreement.evidence_precision(rows, 1) == 3 / 4
    assert math.isnan(agreement.evidence_precision(rows, 4))
    low, high = agreement.evidence_precision_ci95(rows, 1)
    assert (low, high) == (0.5, 1.0)
