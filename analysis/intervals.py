"""95 % intervals of a single run and of means over seeds, and differences paired by seed: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from factuality_harness.harness.metrics import NAN

LEVEL = 0.95
Z95 = 1.959964
"""Standard normal quantile of (1 + LEVEL) / 2."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval (NaN limits where there is none). n: values behind it. over: what the interval is
    taken over: `seeds`, `topics` or `questions`; empty without one."""

    mean: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    over: str = ""

    def scaled(self, factor: float) -> Estimate:
        """The same in other units, factor > 0."""
        return Estimate(self.mean * factor, self.low * factor, self.high * factor, self.n, self.over)


def of_one_run(metrics: Mapping[str, float], key: str) -> Estimate:
    """A metric of a single run with the 95 % interval that lm_eval's file gives for it: a task's own limits
    (`NAME_ci95_low`, bootstrapped over topics), else from the standard error over questions, else none.

    metrics: by `name`, or `name,filter` where several filters report a metric; limits and errors carry that filter too.
    """
    name, comma, of = key.partition(",")
    mean = metrics.get(key, NAN)
    low, high, error = (metrics.get(f"{name}_{part}{comma}{of}", NAN) for part in ("ci95_low", "ci95_high", "stderr"))
    if not math.isnan(low):
        return Estimate(mean, low, high, 1, "topics")
    if not math.isnan(error):
        return Estimate(mean, mean - Z95 * error, mean + Z95 * error, 1, "questions")
    return Estimate(mean, n=1)


def over_seeds(values: Iterable[float]) -> Estimate:
    """Mean and Student's t interval over seeds, mean +- t(n-1) s / sqrt(n); no interval for fewer than two values.

    A NaN among the values makes the mean NaN: a seed without a score is not left out in silence.
    """
    data = np.asarray(list(values), dtype=float)
    if not len(data):
        return Estimate(NAN)
    mean = float(data.mean())
    if len(data) == 1 or math.isnan(mean):
        return Estimate(mean, n=len(data))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return Estimate(mean, mean - half, mean + half, len(data), "seeds")


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate:
    """Mean of value minus reference over the seeds that both have, with its t interval over those seeds."""
    return over_seeds(values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys()))
