"""Gain against distance: slope and rank correlation, with intervals that redraw what shares its fate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from factuality_harness.analysis.hypothesis.points import Point
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED

CHUNK = 500  # resamples at a time


@dataclass(frozen=True, slots=True)
class Fit:
    """Gain against distance, with 95 % percentile intervals.

    slope: of gain on distance (in gain per unit of cosine distance), least squares with an intercept of its own for
    every seed. rho: Spearman's, of ranks taken within each seed. Below 0 both say: nearer topics gain more.
    sd_distance: standard deviation within seeds; embeddings have distances of different scale, so compare `per_sd`.
    """

    points: int
    seeds: int
    units: int
    slope: float
    slope_ci95: tuple[float, float]
    rho: float
    rho_ci95: tuple[float, float]
    mean_gain: float
    mean_gain_ci95: tuple[float, float]
    mean_distance: float
    sd_distance: float

    @property
    def per_sd(self) -> tuple[float, float, float]:
        """Gain per standard deviation of distance, with its interval."""
        low, high = self.slope_ci95
        return self.slope * self.sd_distance, low * self.sd_distance, high * self.sd_distance

    def line(self, distance: float) -> float:
        """Fitted gain at a distance, for the average seed."""
        return self.mean_gain + self.slope * (distance - self.mean_distance)


def gain_against_distance(
    points: Sequence[Point], *, resamples: int = BOOTSTRAP_RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> Fit:
    """Slope and rank correlation of gain against distance, every topic counting the same.

    The bootstrap draws whole units with replacement, all points of a unit together in whatever seeds they stand, among
    the units that occur in the same seeds: topics that recur under every seed are drawn once for all of them, those of
    a seed's own world within that seed. The seeds themselves are taken as given. Independent of the order of points.
    Raises HarnessError for fewer than 3 points or when distances or gains are all alike within every seed.
    """
    if len(points) < 3:
        raise HarnessError(f"{len(points)} topics with a gain: a slope needs at least 3")
    points = sorted(points, key=lambda p: (p.seed, p.topic))
    sample = _Points(points)
    once = sample.statistics(np.ones((1, len(sample.units))))[0]
    if not np.isfinite(once).all():
        raise HarnessError("all topics of a seed are equally far from training, or gain the same: there is no slope")
    draws = np.concatenate(list(sample.resampled(resamples, seed)))
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    slope, rho, gain = ((float(once[i]), (float(low[i]), float(high[i]))) for i in range(3))
    return Fit(
        points=len(points),
        seeds=len(sample.seeds),
        units=len(sample.units),
        slope=slope[0],
        slope_ci95=slope[1],
        rho=rho[0],
        rho_ci95=rho[1],
        mean_gain=gain[0],
        mean_gain_ci95=gain[1],
        mean_distance=float(np.mean([p.distance for p in points])),
        sd_distance=sample.sd,
    )


class _Points:
    def __init__(self, points: Sequence[Point]) -> None:
        self.seeds = sorted({p.seed for p in points})
        self.units = sorted({p.unit for p in points})
        number = {unit: i for i, unit in enumerate(self.units)}
        occurs: dict[str, set[int]] = defaultdict(set)
        for p in points:
            occurs[p.unit].add(p.seed)
        strata: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for unit in self.units:
            strata[tuple(sorted(occurs[unit]))].append(number[unit])
        self.strata = list(strata.values())
        # A seed's points: their units, distances and gains (distances less the seed's mean, for numerical sake).
        self.of_seed: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for s in self.seeds:
            own = [p for p in points if p.seed == s]
            x = np.array([p.distance for p in own])
            self.of_seed.append(
                (np.array([number[p.unit] for p in own]), x - x.mean(), np.array([p.gain for p in own]))
            )
        self.sd = float(np.sqrt(sum((x**2).sum() for _, x, _ in self.of_seed) / len(points)))

    def resampled(self, resamples: int, seed: int) -> Iterable[np.ndarray]:
        rng = np.random.default_rng(seed)
        for start in range(0, resamples, CHUNK):
            size = min(CHUNK, resamples - start)
            weights = np.zeros((size, len(self.units)))
            for units in self.strata:
                weights[:, units] = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=size)
            yield self.statistics(weights)

    def statistics(self, weights: np.ndarray) -> np.ndarray:
        """Slope, rank correlation and mean gain, shape (n, 3), for unit weights of shape (n, units)."""
        plain, ranked = np.zeros((3, len(weights))), np.zeros((3, len(weights)))  # sums of xy, xx, yy within seeds
        gains, total = np.zeros(len(weights)), np.zeros(len(weights))
        for units, x, y in self.of_seed:
            w = weights[:, units]
            n = w.sum(axis=1)
            gains, total = gains + w @ y, total + n
            size = np.maximum(n, 1)[:, None]
            plain += _products(w, x - (w @ x)[:, None] / size, y - (w @ y)[:, None] / size)
            ranked += _products(w, weighted_ranks(x, w) / size, weighted_ranks(y, w) / size)
        # Below this the differences are rounding, not data.
        plain[1:][plain[1:] < 1e-18] = np.nan
        ranked[1:][ranked[1:] < 1e-18] = np.nan
        return np.stack([plain[0] / plain[1], ranked[0] / np.sqrt(ranked[1] * ranked[2]), gains / total], axis=1)


def _products(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([(w * x * y).sum(axis=1), (w * x * x).sum(axis=1), (w * y * y).sum(axis=1)])


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks, less their mean, of `values` each repeated `weights` times, ties sharing the mean of their ranks; shape of
    weights (n, len(values))."""
    different, group = np.unique(values.round(12), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(different)))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    return middle[:, group] - (weights.sum(axis=1, keepdims=True) + 1) / 2
