"""Best-of-N: the closed form against all draws counted out, against simulation, and against the plain scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factuality_harness.harness import metrics
from factuality_harness.harness.best_of import SIZES, best_of, rank_weights, score, score_macro, summarise_pools
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import Counts

RESPONSE = st.builds(
    Counts,
    topic=st.just("t"),
    responses=st.just(1),
    ok=st.integers(0, 3),
    contradictory=st.integers(0, 3),
    unverifiable=st.integers(0, 1),
    nofact=st.integers(0, 2),
)
POOL = st.lists(RESPONSE, min_size=1, max_size=8)
POOLS = st.lists(POOL, min_size=1, max_size=5)


def response(ok: int, wrong: int = 0, topic: str = "t") -> Counts:
    return Counts(topic, 1, ok=ok, contradictory=wrong)


def merged(pool: Sequence[Counts]) -> Counts:
    """All responses of a pool as one question, the way the sampled tasks count them."""
    return Counts(
        pool[0].topic,
        len(pool),
        ok=sum(r.ok for r in pool),
        contradictory=sum(r.contradictory for r in pool),
        unverifiable=sum(r.unverifiable for r in pool),
    )


def rank(r: Counts) -> float:
    return r.ok / r.checkable if r.checkable else -1.0


def counted_out(pool: Sequence[Counts], n: int) -> tuple[float, float, float]:
    """Expected correct, checkable and share, from every draw of n and every one of its best responses."""
    ok = checkable = share = has = 0.0
    draws = list(combinations(pool, n))
    for draw in draws:
        best = max(map(rank, draw))
        tied = [r for r in draw if rank(r) == best]
        ok += sum(r.ok for r in tied) / len(tied) / len(draws)
        checkable += sum(r.checkable for r in tied) / len(tied) / len(draws)
        share += max(best, 0) / len(draws)
        has += (best >= 0) / len(draws)
    return ok, checkable, share / has if has else math.nan


@given(POOL)
def test_the_closed_form_is_the_mean_over_all_draws(pool: list[Counts]) -> None:
    sizes = range(1, len(pool) + 1)
    for n, found in best_of(pool, sizes).items():
        assert [found.ok, found.checkable, found.share] == pytest.approx(counted_out(pool, n), nan_ok=True)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 64))
def test_simulated_draws_agree(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ok, wrong = rng.integers(0, 4, 64), rng.integers(0, 4, 64)
    found = best_of([response(int(a), int(b)) for a, b in zip(ok, wrong, strict=True)], [n])[n]
    # Equal shares are taken with equal chance: a random small number decides.
    ranks = np.where(ok + wrong, ok / np.maximum(ok + wrong, 1), -1) + rng.uniform(0, 1e-6, (4000, 64))
    draws = rng.permuted(np.tile(np.arange(64), (4000, 1)), axis=1)[:, :n]
    taken = draws[np.arange(4000), np.take_along_axis(ranks, draws, axis=1).argmax(axis=1)]
    for expected, values in ((found.ok, ok[taken]), (found.checkable, (ok + wrong)[taken])):
        assert values.mean() == pytest.approx(expected, abs=4.5 * values.std() / math.sqrt(4000) + 1e-3)


@given(POOLS)
def test_the_best_of_one_is_the_pool_itself(pools: list[list[Counts]]) -> None:
    even = [(pool * 8)[:8] for pool in pools]  # every question with as many samples, as in a task
    rows = [merged(pool) for pool in even]
    found = [best_of(pool, [1])[1] for pool in even]
    assert score(found) == pytest.approx(metrics.factuality(rows), nan_ok=True)
    assert [r.ok * 8 for r in found] == pytest.approx([r.ok for r in rows])
    of_responses = [metrics.factuality_macro(pool) for pool in even]
    assert [r.share for r in found] == pytest.approx(of_responses, nan_ok=True)


@given(POOL)
def test_the_best_of_all_is_the_maximum(pool: list[Counts]) -> None:
    found = best_of(pool, [len(pool)])[len(pool)]
    best = max(map(rank, pool))
    assert found.share == pytest.approx(best if best >= 0 else math.nan, nan_ok=True)
    tied = [r.checkable for r in pool if rank(r) == best]
    assert found.checkable == pytest.approx(sum(tied) / len(tied))


@given(POOL, st.randoms())
def test_more_draws_never_hurt_and_order_is_nothing(pool: list[Counts], random: object) -> None:
    sizes = range(1, len(pool) + 1)
    found = best_of(pool, sizes)
    shuffled = list(pool)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [r.ok for r in best_of(shuffled, sizes).values()] == pytest.approx([r.ok for r in found.values()])
    shares = [r.share for r in found.values()]
    assert all(b >= a - 1e-12 for a, b in pairwise(shares)) or math.isnan(shares[-1])


@given(st.integers(1, 300).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, m))))
def test_the_weights_are_binomial_coefficients(size: tuple[int, int]) -> None:
    m, n = size
    exact = [math.comb(m - i, n - 1) / math.comb(m, n) for i in range(1, m + 1)]
    assert rank_weights(m, n) == pytest.approx(exact, rel=1e-10, abs=1e-300)
    assert rank_weights(m, n).sum() == pytest.approx(1, rel=1e-12)


def test_the_weights_of_a_large_pool_are_sound() -> None:
    weights = rank_weights(100_000, 50_000)
    assert weights[:3] == pytest.approx([1 / 2, 1 / 4, 1 / 8], rel=1e-4)
    assert weights.sum() == pytest.approx(1, rel=1e-10)
    assert (weights >= 0).all()


def test_by_hand() -> None:
    pool = [response(1, 1), response(3, 1), response(0, 0)]  # shares 1/2, 3/4, none
    found = best_of(pool, [2])[2]
    # Draws: (1/2, 3/4) and (3/4, none) take the second, (1/2, none) the first.
    assert (found.ok, found.checkable) == (pytest.approx(7 / 3), pytest.approx(10 / 3))
    assert found.share == pytest.approx((3 / 4 + 3 / 4 + 1 / 2) / 3)
    empty = best_of([response(0)] * 3, [2])[2]
    assert math.isnan(empty.share)
    assert math.isnan(score([empty]))
    assert score([empty, found]) == score([found])
    assert score_macro([empty, found]) == found.share


def test_ties_are_taken_with_equal_chance() -> None:
    found = best_of([response(1, 0), response(5, 0), response(0, 1)], [3])[3]
    assert (found.ok, found.checkable, found.share) == (3, 3, 1)


def test_the_metrics_of_several_questions() -> None:
    rng = np.random.default_rng(1)
    pools = [
        [response(int(k), 5 - int(k), f"t{t}") for k in rng.binomial(5, rng.uniform(0.2, 0.6), 256)] for t in range(40)
    ]
    found = summarise_pools(pools, SIZES)
    curve = [found[f"best_of_{n}"] for n in SIZES]
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(metrics.factuality([merged(p) for p in pools]))
    assert curve[-1] == pytest.approx(np.mean([max(map(rank, p)) for p in pools]))
    for n, value in zip(SIZES, curve, strict=True):
        assert found[f"best_of_{n}_ci95_low"] < value < found[f"best_of_{n}_ci95_high"]
        # Five sentences each: micro is macro.
        assert found[f"best_of_{n}_macro"] == pytest.approx(value)
        assert found[f"best_of_{n}_facts"] == pytest.approx(5)
        assert found[f"best_of_{n}_correct"] == pytest.approx(5 * value)
    assert len(found) == 6 * len(SIZES)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_a_pool_that_is_too_small_is_told(n: int) -> None:
    with pytest.raises(HarnessError, match=rf"best of {n} needs a pool of at least"):
        best_of([response(1)] * 3, [1, n])
