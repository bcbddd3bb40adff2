"""Measures of two runs and their differences, paired by question and clustered by topic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from factuality_harness.analysis.compare.runs import Answer, JudgedRun, Key
from factuality_harness.analysis.compare.statistics import (
    influences,
    quantile_interval,
    questions_needed,
    resampled_ratios,
    swap_test,
)
from factuality_harness.analysis.intervals import Estimate, paired_difference
from factuality_harness.harness.metrics import (
    BOOTSTRAP_RESAMPLES,
    BOOTSTRAP_SEED,
    NAN,
    Counts,
    cluster_variance,
    factuality,
    ratio,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A ratio of sums over questions. bad: the direction (+1 more, -1 less) in which a change can fake a gain; 0 for
    the score itself and for what only explains it."""

    name: str
    numerator: str
    denominator: str
    bad: int = 0


FACTUALITY = Measure("factuality", "ok", "checkable")
MEASURES = (
    FACTUALITY,
    Measure("facts per response", "checkable", "responses", -1),
    Measure("abstaining responses", "declined", "responses", 1),
    Measure("no-fact sentences", "nofact", "total", 1),
    Measure("unparsed sentences", "unparsed", "total", 1),
    Measure("correct facts per response", "ok", "responses"),
    Measure("factuality, unparsed as wrong", "ok", "hidden"),
)
"""What is compared. The last two tell what a warning is worth: whether less is said that is right, and whether the gain
outlives the harshest reading of unparsed sentences."""


@dataclass(frozen=True, slots=True)
class MeasureDifference:
    """A measure of both runs and run minus baseline, with its paired 95 % interval. NaN where there is no value."""

    measure: str
    baseline: float
    run: float
    difference: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """-1 or 1 when the interval leaves 0 out, else 0 (also without an interval)."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against the baseline. p_value: of the factuality difference; p_holm: after Holm's correction.

    unpaired: interval of the difference had the two not answered the same questions; tighter: its width over the paired
    one's. needed: questions (of this kind, as many a topic) to detect `detect` with power 0.8 at 5 %, paired and not;
    None without a variance to plan with. over_seeds: factuality difference paired by training seed, with its t interval
    over the seeds; None for runs that are not cells.
    """

    baseline: str
    run: str
    questions: int
    clusters: int
    score: MeasureDifference
    p_value: float
    p_holm: float
    unpaired: tuple[float, float]
    tighter: float
    detect: float
    needed: int | None
    needed_unpaired: int | None
    over_seeds: Estimate | None = None
    checks: tuple[MeasureDifference, ...] = field(default=())
    verdict: str = ""


def _value(answer: Answer, name: str) -> float:
    if name == "declined":
        return NAN if answer.declined is None else answer.declined
    if name == "hidden":
        return answer.counts.checkable + answer.counts.unparsed
    return float(getattr(answer.counts, name))


def _sums(run: JudgedRun, keys: Sequence[Key], clusters: dict[str, int], measure: Measure) -> np.ndarray:
    sums = np.zeros((len(clusters), 2))
    for key in keys:
        answer = run.answers[key]
        sums[clusters[answer.cluster]] += _value(answer, measure.numerator), _value(answer, measure.denominator)
    return sums


def _over_seeds(baseline: JudgedRun, run: JudgedRun, keys: Sequence[Key]) -> Estimate | None:
    scores = []
    for one in (baseline, run):
        by_seed: dict[int, list[Counts]] = {}
        for answer in (one.answers[key] for key in keys):
            if answer.seed is not None:
                by_seed.setdefault(answer.seed, []).append(answer.counts)
        scores.append({seed: factuality(rows) for seed, rows in by_seed.items()})
    return paired_difference(scores[1], scores[0]) if all(scores) else None


def compare_pair(
    baseline: JudgedRun,
    run: JudgedRun,
    *,
    detect: float = 0.03,
    seed: int = BOOTSTRAP_SEED,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Comparison:
    """One run against the baseline, over the questions of the baseline, which `run` must have (see `check_alike`)."""
    keys = sorted(baseline.answers)
    clusters = {c: i for i, c in enumerate(sorted({baseline.answers[k].cluster for k in keys}))}
    tables = [np.stack([_sums(r, keys, clusters, m) for m in MEASURES], axis=1) for r in (baseline, run)]
    resampled = [resampled_ratios(table, resamples, seed) for table in tables]  # the same clusters for both
    differences = []
    for i, measure in enumerate(MEASURES):
        before, after = (ratio(*table[:, i].sum(0).tolist()) for table in tables)
        low, high = quantile_interval(resampled[1][:, i] - resampled[0][:, i])
        differences.append(MeasureDifference(measure.name, before, after, after - before, low, high))
    a, b = (table[:, 0] for table in tables)
    unpaired = quantile_interval(resampled_ratios(b, resamples, seed + 1) - resampled[0][:, 0])
    score = differences[0]
    width, usable = score.high - score.low, bool(a[:, 1].sum() and b[:, 1].sum())
    variances = (
        (
            cluster_variance(influences(b) - influences(a)),
            cluster_variance(influences(a)) + cluster_variance(influences(b)),
        )
        if usable
        else (math.inf, math.inf)
    )
    p_value = swap_test(a, b, resamples=resamples, seed=seed)
    return Comparison(
        baseline=baseline.name,
        run=run.name,
        questions=len(keys),
        clusters=len(clusters),
        score=score,
        p_value=p_value,
        p_holm=p_value,
        unpaired=unpaired,
        tighter=(unpaired[1] - unpaired[0]) / width if width > 0 else NAN,
        detect=detect,
        needed=questions_needed(variances[0], len(keys), detect),
        needed_unpaired=questions_needed(variances[1], len(keys), detect),
        over_seeds=_over_seeds(baseline, run, keys),
        checks=tuple(differences[1:]),
    )
