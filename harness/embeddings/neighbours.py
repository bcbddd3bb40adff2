"""Near and far: clusters, distances and halves of topics by their embeddings. Pure functions of arrays.

All distances are cosine distances, 1 - cos, between 0 (same direction) and 2 (opposite).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from factuality_harness.harness.errors import HarnessError

_DIGITS = 6  # distances are ranked after rounding: equal vectors may differ in the last bits by their place in a batch


def _unit(embeddings: np.ndarray, name: str) -> np.ndarray:
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise HarnessError(f"{name} embeddings: expected one row a text, got shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(rows).all() or not lengths.all():
        bad = int(np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))[0])
        raise HarnessError(f"{name} embeddings, row {bad + 1}: is zero or not finite, so it has no direction")
    return rows / lengths


def centred(*groups: np.ndarray) -> tuple[np.ndarray, ...]:
    """The groups less the mean of all their rows. Hidden states share a large common part, which makes every cosine
    distance small and alike; without it distances tell texts apart."""
    mean = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups]).mean(axis=0)
    return tuple(np.asarray(group, dtype=np.float64) - mean for group in groups)


def distances(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Cosine distances of shape (len(test), len(train)). Raises HarnessError for rows that are zero or not finite and
    for groups of different width."""
    a, b = _unit(test, "test"), _unit(train, "training")
    if a.shape[1] != b.shape[1]:
        raise HarnessError(f"embeddings of width {b.shape[1]} and {a.shape[1]}: are they of one model?")
    return np.clip(1.0 - a @ b.T, 0.0, 2.0)


def nearest_distance(train: np.ndarray, test: np.ndarray, k: int = 1) -> np.ndarray:
    """For every test row the mean distance to its k nearest training rows, shape (len(test),).

    Raises HarnessError unless 1 <= k <= len(train).
    """
    if not 1 <= k <= len(train):
        raise HarnessError(f"{k} nearest of {len(train)} training topics: k must lie between 1 and their number")
    return np.sort(distances(train, test), axis=1)[:, :k].mean(axis=1)


def clusters(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    """K-means (ten starts) over the rows scaled to length 1; labels from 0 in order of first appearance, shape
    (len(embeddings),). Raises HarnessError unless there are at least k different rows."""
    from sklearn.cluster import KMeans

    rows = _unit(embeddings, "topic")
    different = len(np.unique(rows.round(_DIGITS), axis=0))
    if not 1 <= k <= different:
        raise HarnessError(f"{k} clusters of {different} different topics: k must lie between 1 and their number")
    labels = KMeans(k, n_init=10, random_state=seed).fit_predict(rows)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def halves(
    train_embeddings: np.ndarray,
    test_embeddings: np.ndarray,
    *,
    keep: Literal["near", "far"],
    seed: int,
) -> np.ndarray:
    """Indices, ascending, of the training rows in the near or the far half by their distance to the nearest test row.

    Both halves hold len(train) // 2 rows and share none; of an odd number the middle row is in neither. Rows equally
    far are put in an order that follows from the seed alone. Raises HarnessError for fewer than two training rows.
    """
    if keep not in ("near", "far"):
        raise HarnessError(f"keep {keep!r}: use near or far")
    size = _half(len(train_embeddings))
    nearest = distances(test_embeddings, train_embeddings).min(axis=1).round(_DIGITS)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(nearest)), nearest))
    return np.sort(order[:size] if keep == "near" else order[-size:])


def random_halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random disjoint sets of n // 2 indices each, ascending. Raises HarnessError for n < 2."""
    size = _half(n)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[:size]), np.sort(order[size : 2 * size])


def _half(n: int) -> int:
    if n < 2:
        raise HarnessError(f"{n} training topics cannot be halved; at least 2 are needed")
    return n // 2
