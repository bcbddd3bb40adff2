"""What a comparison computes: arrays (clusters, ...) in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from factuality_harness.analysis.intervals import LEVEL
from factuality_harness.harness.metrics import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED, NAN, cluster_resamples

POWER = 0.8


def resampled_ratios(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Ratios (resamples, ...) over resampled clusters, of (clusters, ..., 2) numerators and denominators."""
    drawn = np.concatenate([*cluster_resamples(sums.reshape(len(sums), -1), resamples, seed)])
    drawn = drawn.reshape(len(drawn), *sums.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        return drawn[..., 0] / drawn[..., 1]


def quantile_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of resampled values, NaN where none is finite."""
    values = values[np.isfinite(values)]
    if not len(values):
        return NAN, NAN
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def influences(sums: np.ndarray) -> np.ndarray:
    """Influence of each cluster on sum(numerator) / sum(denominator); sums: (clusters, 2). They add up to 0."""
    numerator, denominator = sums.T
    total = denominator.sum()
    return (numerator - numerator.sum() / total * denominator) / total


def swap_test(
    a: np.ndarray, b: np.ndarray, *, resamples: int = BOOTSTRAP_RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> float:
    """Two-sided p-value of ratio(b) - ratio(a) = 0 for paired clusters; a, b: (clusters, 2) numerators, denominators.

    Studentised permutation test: the labels a and b of every cluster are swapped with probability 1/2, and the
    difference divided by its linearised standard error is compared. Exact when swapping changes nothing in law, and
    right for many clusters when the two share no more than the ratio (Janssen, Stat. Probab. Lett. 36, 1997).
    NaN without a denominator on either side.
    """
    if not a[:, 1].sum() or not b[:, 1].sum():
        return NAN
    rng = np.random.default_rng(seed)
    swapped = rng.integers(0, 2, size=(resamples, len(a)), dtype=np.int8).astype(float)
    swapped = np.concatenate([np.zeros((1, len(a))), swapped])
    # Sums of x * y over clusters for all pairs of (num a, den a, num b, den b), with and without the swap.
    kept, turned = np.hstack([a, b]), np.hstack([b, a])
    sums = kept.sum(0) + swapped @ (turned - kept)
    products = (kept[:, :, None] * kept[:, None, :]).reshape(len(a), 16)
    products_turned = (turned[:, :, None] * turned[:, None, :]).reshape(len(a), 16)
    second = (products.sum(0) + swapped @ (products_turned - products)).reshape(-1, 4, 4)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio_a, ratio_b = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
        weights = np.stack([-1 / sums[:, 1], ratio_a / sums[:, 1], 1 / sums[:, 3], -ratio_b / sums[:, 3]], axis=1)
        variance = np.einsum("ri,rij,rj->r", weights, second, weights)
        difference = ratio_b - ratio_a
        size = np.abs(difference) / np.sqrt(np.maximum(variance, 1e-30))
    size[np.abs(difference) < 1e-12] = 0.0  # equal sums, whatever rounding leaves
    size = size[np.isfinite(size)]
    return float(((size[1:] >= size[0] * (1 - 1e-9)).sum() + 1) / len(size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; NaN stays NaN and counts for nothing."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, worst = [NAN] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def questions_needed(variance: float, questions: int, detect: float) -> int | None:
    """Questions that detect a difference `detect` with power 0.8 at 5 %, two-sided, if the variance of the difference
    falls as 1 / questions from `variance` at `questions` (new topics with as many questions each). None for a variance
    that has no value."""
    if not math.isfinite(variance):
        return None
    return math.ceil(questions * variance * ((norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) / detect) ** 2)
