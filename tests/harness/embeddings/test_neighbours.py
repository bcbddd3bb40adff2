"""Clusters, distances and halves: what must hold for any embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from factuality_harness.harness.embeddings.neighbours import (
    centred,
    clusters,
    distances,
    halves,
    nearest_distance,
    random_halves,
)
from factuality_harness.harness.errors import HarnessError

SEEDS = st.integers(0, 10_000)


def gaussian(seed: int, rows: int, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@given(SEEDS, st.integers(1, 9), st.integers(1, 9))
def test_distances_are_scipys(seed: int, train: int, test: int) -> None:
    a, b = gaussian(seed, train), gaussian(seed + 1, test)
    table = distances(a, b)
    assert table.shape == (test, train) and (table >= 0).all() and (table <= 2).all()
    np.testing.assert_allclose(table, cdist(b, a, "cosine"), atol=1e-6)
    np.testing.assert_allclose(distances(7 * a, b), table, atol=1e-6)  # length does not matter
    np.testing.assert_allclose(np.diag(distances(a, a)), 0, atol=1e-9)


@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.data())
def test_nearest_distance(seed: int, train: int, test: int, data: st.DataObject) -> None:
    a, b = gaussian(seed, train), gaussian(seed + 1, test)
    k = data.draw(st.integers(1, train))
    expected = [np.mean(sorted(row)[:k]) for row in cdist(b, a, "cosine")]
    np.testing.assert_allclose(nearest_distance(a, b, k), expected, atol=1e-6)
    if train > 1:  # more training topics never move the nearest one away
        assert (nearest_distance(a, b) <= nearest_distance(a[:-1], b) + 1e-9).all()


@given(SEEDS, st.integers(2, 30), st.integers(1, 9))
def test_halves_are_equal_disjoint_and_split_by_distance(seed: int, train: int, test: int) -> None:
    a, b = gaussian(seed, train), gaussian(seed + 1, test)
    near, far = (halves(a, b, keep=keep, seed=seed) for keep in ("near", "far"))
    assert len(near) == len(far) == train // 2
    assert not {*near} & {*far}
    assert list(near) == sorted(near) and list(far) == sorted(far)
    to_test = cdist(a, b, "cosine").min(axis=1)
    assert to_test[near].max() <= to_test[far].min() + 1e-5


@given(SEEDS, st.integers(2, 20))
def test_halves_follow_their_rows(seed: int, train: int) -> None:
    """Another order of the training topics chooses the same topics."""
    a, b = gaussian(seed, train), gaussian(seed + 1, 4)
    order = np.random.default_rng(seed).permutation(train)
    chosen = {int(order[i]) for i in halves(a[order], b, keep="near", seed=3)}
    assert chosen == {*halves(a, b, keep="near", seed=3)}


def test_ties_are_broken_by_the_seed_alone() -> None:
    """Training topics all equally far: the seed decides, the order of the file does not favour anybody."""
    a, b = np.ones((20, 3), dtype=np.float32), gaussian(0, 4, 3)
    draws = [tuple(halves(a, b, keep="near", seed=seed)) for seed in range(200)]
    assert draws == [tuple(halves(a, b, keep="near", seed=seed)) for seed in range(200)]
    often = np.bincount(np.concatenate(draws), minlength=20) / 200
    assert often.min() > 0.35 and often.max() < 0.65
    for seed in range(5):
        assert not {*halves(a, b, keep="near", seed=seed)} & {*halves(a, b, keep="far", seed=seed)}


@given(SEEDS, st.integers(2, 50))
def test_random_halves(seed: int, n: int) -> None:
    a, b = random_halves(n, seed)
    assert len(a) == len(b) == n // 2 and not {*a} & {*b}
    assert {*a} | {*b} <= {*range(n)} and list(a) == sorted(a) and list(b) == sorted(b)
    np.testing.assert_array_equal(random_halves(n, seed), (a, b))


@settings(max_examples=25)  # k-means is slow to start
@given(SEEDS, st.integers(1, 6), st.integers(1, 5))
def test_clusters_find_what_is_apart(seed: int, k: int, members: int) -> None:
    """Points close around k orthogonal directions come back as the k groups, numbered as they appear."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(k), members))
    rows = np.eye(8)[truth] * rng.uniform(1, 9, (len(truth), 1)) + rng.normal(0, 0.01, (len(truth), 8))
    labels = clusters(rows, k, seed)
    first_seen = {group: number for number, group in enumerate(dict.fromkeys(truth))}
    assert labels.tolist() == [first_seen[group] for group in truth]


@settings(max_examples=25)  # k-means is slow to start
@given(SEEDS, st.integers(1, 12), st.data())
def test_clusters_number_from_zero_in_order(seed: int, rows: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, rows))
    labels = clusters(gaussian(seed, rows), k, seed)
    assert list(dict.fromkeys(labels.tolist())) == list(range(k))
    np.testing.assert_array_equal(clusters(gaussian(seed, rows), k, seed), labels)


@given(SEEDS, st.integers(2, 9), st.integers(1, 9))
def test_centring_removes_what_is_common(seed: int, train: int, test: int) -> None:
    a, b = gaussian(seed, train), gaussian(seed + 1, test)
    shifted = centred(a + 100, b + 100)
    np.testing.assert_allclose(np.concatenate(shifted).mean(axis=0), 0, atol=1e-9)
    for one, other in zip(shifted, centred(a, b), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert distances(a + 100, b + 100).max() < 0.01  # what it is good for


def test_bad_input() -> None:
    rows = gaussian(0, 4)
    zero = rows.copy()
    zero[2] = 0
    unknown = rows.copy()
    unknown[3, 1] = np.nan
    with pytest.raises(HarnessError, match="training embeddings, row 3: is zero or not finite"):
        distances(zero, rows)
    with pytest.raises(HarnessError, match="test embeddings, row 4: is zero or not finite"):
        distances(rows, unknown)
    with pytest.raises(HarnessError, match="of one model"):
        distances(rows, rows[:, :3])
    with pytest.raises(HarnessError, match="one row a text"):
        distances(rows[:0], rows)
    for k in (0, 5):
        with pytest.raises(HarnessError, match=f"{k} nearest of 4 training topics"):
            nearest_distance(rows, rows, k)
        with pytest.raises(HarnessError, match=f"{k} clusters of 4 different topics"):
            clusters(rows, k, 0)
    with pytest.raises(HarnessError, match="2 clusters of 1 different topics"):
        clusters(np.ones((5, 3)), 2, 0)
    with pytest.raises(HarnessError, match="use near or far"):
        halves(rows, rows, keep="middle", seed=0)  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match="cannot be halved"):
        halves(rows[:1], rows, keep="near", seed=0)
    with pytest.raises(HarnessError, match="cannot be halved"):
        random_halves(1, 0)
