"""A share corrected for a judge's errors, with an interval that carries them: two estimators.

With a card the estimator is Rogan and Gladen's (1978): the share that would give the judge's share of `ok`. With labels
it is prediction-powered inference (PPI++, arXiv 2311.01453): the judge on all sentences, corrected by how it errs on
the labelled ones. It is written out here since the package `ppi-python` knows no clusters, while sentences of one topic
are not independent; where each sentence is a topic of its own the two agree (see the tests).

Sentences without a verdict (`unparsed`, `nofact`) count in neither half of the raw score, as everywhere. With a card
they are taken to hide supported and unsupported sentences as often as the judge failed on each there, so a judge that
falls silent on false sentences gains nothing by it. With labels nothing is assumed: such a sentence tells nothing, and
the labelled ones say what was missed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import Counts, cluster_variance

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class ShareEstimate:
    """A share with its interval, all in 0..1. clipped: whether the point had to be pulled back into that range."""

    value: float
    low: float
    high: float
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class JudgeCard:
    """What a judge's card says. topics: integer array (topics, 6): true positives, false negatives, true negatives,
    false positives, supported and unsupported units without a verdict. nofact: (units in which humans saw no fact but
    the judge gave a verdict, all units with a verdict). judge_args: the judge's options, None where not known."""

    judge: str
    dataset: str
    unit: str
    topics: np.ndarray
    nofact: tuple[int, int] = (0, 0)
    judge_args: Mapping[str, Any] | None = None

    @property
    def n(self) -> int:
        """Human labels behind sensitivity and specificity."""
        return int(self.topics.sum())


@dataclass(frozen=True, slots=True)
class TopicSums:
    """Sums over the sentences of one topic of the run.

    labelled: those with a human label; of these human_ok, human_checkable (ok or wrong), judge_ok, judge_checkable, and
    disagree: where human and judge differ in ok or wrong or neither. rest: those without a human label.
    """

    topic: str
    labelled: int = 0
    human_ok: int = 0
    human_checkable: int = 0
    judge_ok: int = 0
    judge_checkable: int = 0
    disagree: int = 0
    rest: int = 0
    rest_ok: int = 0
    rest_checkable: int = 0


_SUMS = attrgetter(*(field.name for field in fields(TopicSums)[1:]))


def _smoothed(hits: float, total: float) -> float:
    """Binomial variance of a share with one success and one failure added: what stays uncertain after no error."""
    share = (hits + 1) / (total + 2)
    return share * (1 - share) / (total + 2)


def _clip(value: float, variance: float, degrees: float, level: float) -> ShareEstimate:
    half = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(variance) if math.isfinite(variance) else math.inf
    inside = min(max(float(value), 0.0), 1.0)
    return ShareEstimate(inside, max(inside - half, 0.0), min(inside + half, 1.0), clipped=inside != value)


def _on_log_odds(value: float, variance: float, degrees: float, n: float, level: float) -> ShareEstimate:
    """Like `_clip`, with the interval built on the scale of log odds, where the spread of a share found by labels does
    not shrink with the share itself; cut at 1 on the plain scale, it misses too often. The odds are taken no further
    out than 1 to n + 1, and an interval around an end of the range reaches that end."""
    inside = min(max(float(value), 0.0), 1.0)
    point = min(max(inside, 1 / (n + 2)), (n + 1) / (n + 2))
    half = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(variance) / (point * (1 - point))
    low, high = (float(expit(logit(point) + d)) for d in (-half, half))
    low, high = (0.0 if inside == 0 else low), (1.0 if inside == 1 else high)
    return ShareEstimate(inside, min(low, inside), max(high, inside), clipped=inside != value)


def rogan_gladen(rows: Sequence[Counts], card: JudgeCard, *, level: float = LEVEL) -> ShareEstimate:
    """Share of supported sentences among the checkable ones, from the judge's counts and its card.

    Among sentences with a verdict (p + specificity - 1) / (sensitivity + specificity - 1) for the judge's share p
    (Rogan and Gladen, Am. J. Epidemiol. 107, 1978); then each class is divided by the share of it that got a verdict on
    the card. Interval: delta method with variances over topics of the run and of the card, each at least the binomial
    one with a success and a failure added (after Lang and Reiczigel, Prev. Vet. Med. 113, 2014), Student's t with
    Satterthwaite's degrees of freedom. It assumes that the judge errs here as it did on the card.
    Raises HarnessError when nothing is checkable, and when sensitivity + specificity is not above 1.
    """
    by_topic: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for row in rows:
        by_topic[row.topic] += row.ok, row.checkable
    ok, checkable = np.array(list(by_topic.values())).reshape(-1, 2).T
    if not checkable.sum():
        raise HarnessError("the judge called no sentence supported or unsupported; there is nothing to correct")
    tp, fn, tn, fp, lost_pos, lost_neg = card.topics.T
    pos, neg = tp + fn, tn + fp
    p, se, sp = ok.sum() / checkable.sum(), tp.sum() / pos.sum(), tn.sum() / neg.sum()
    youden = se + sp - 1
    if youden <= 0:
        raise HarnessError(
            f"judge {card.judge} on {card.dataset}: sensitivity {se:.3f} + specificity {sp:.3f} <= 1, no better than a "
            "coin, so its scores hold nothing to correct; use another judge, or --labels"
        )
    judged = (p + sp - 1) / youden
    v = min(max(judged, 0.0), 1.0)
    given_pos, given_neg = pos.sum() / (pos + lost_pos).sum(), neg.sum() / (neg + lost_neg).sum()
    ratio = given_pos / given_neg
    scale = v + (1 - v) * ratio
    value, slope = v / scale, ratio / scale**2  # slope: d value / d v
    of_run = slope / youden * (ok - p * checkable) / checkable.sum()
    of_card = slope / youden * ((1 - v) * (tn - sp * neg) / neg.sum() - v * (tp - se * pos) / pos.sum())
    of_card = of_card - value * (1 - value) * (
        (pos - given_pos * (pos + lost_pos)) / pos.sum() - (neg - given_neg * (neg + lost_neg)) / neg.sum()
    )
    least_run = (slope / youden) ** 2 * _smoothed(ok.sum(), checkable.sum())
    least_card = (slope / youden) ** 2 * (
        v**2 * _smoothed(tp.sum(), pos.sum()) + (1 - v) ** 2 * _smoothed(tn.sum(), neg.sum())
    )
    parts = max(cluster_variance(of_run), least_run), max(cluster_variance(of_card), least_card)
    total = sum(parts)
    topics = len(of_run), len(of_card)
    degrees = total**2 / sum(x**2 / (n - 1) for x, n in zip(parts, topics, strict=True)) if math.isfinite(total) else 1
    return replace(_clip(value, total, degrees, level), clipped=bool(judged != v))


def prediction_powered(
    topics: Sequence[TopicSums], *, power: float | None = None, level: float = LEVEL
) -> ShareEstimate:
    """Share of supported sentences among those humans find checkable, from labels of some and the judge on all.

    With h = ok - theta * checkable by humans and f the same by the judge, theta solves
    power * mean_rest(f) + mean_labelled(h - power * f) = 0 (PPI++, arXiv 2311.01453, for a ratio). power: trust in the
    judge, 0 (labels alone) to 1; None takes the value of least variance, or 0 for two labelled topics. Interval, on the
    scale of log odds: variance over topics (sentences of a topic may be in both parts), Student's t with as many
    degrees of freedom as there are labelled topics, less one for the mean and one for a power taken from the same
    labels; a judge that never erred on the labelled sentences is not taken for perfect (binomial variance of its errors
    with one right and one wrong added). Raises HarnessError for fewer than two labelled topics and for labels without a
    checkable sentence.
    """
    table = np.array([_SUMS(t) for t in topics], dtype=float).reshape(len(topics), 9)
    labelled, human_ok, human_all, judge_ok, judge_all, disagree, rest, rest_ok, rest_all = table.T
    n, m = labelled.sum(), rest.sum()
    clusters = int((labelled > 0).sum())
    if clusters < 2:
        raise HarnessError(f"human labels for {clusters} topics; an interval needs labels of at least two")
    if not human_all.sum():
        raise HarnessError("humans found nothing to check in the labelled sentences; label more of them")

    def solve(power: float) -> tuple[float, float]:
        """(theta, mean checkable)"""
        ok, checkable = human_ok.sum() / n, human_all.sum() / n
        if m:
            ok += power * (rest_ok.sum() / m - judge_ok.sum() / n)
            checkable += power * (rest_all.sum() / m - judge_all.sum() / n)
        return ok / checkable, checkable

    def influences(theta: float) -> tuple[np.ndarray, np.ndarray]:
        """Of each topic, through the labels and, to be multiplied by the power, through the judge."""
        h, f, g = human_ok - theta * human_all, judge_ok - theta * judge_all, rest_ok - theta * rest_all
        by_humans = (h - labelled * h.sum() / n) / n
        of_labelled = (f - labelled * f.sum() / n) / n
        return by_humans, (g - rest * g.sum() / m) / m - of_labelled if m else np.zeros(len(topics))

    degrees = clusters - 1
    if power is None:
        a, b = influences(solve(0.0)[0])
        power = 0.0
        if clusters > 2 and (b**2).sum() > 0:
            power = float(np.clip(-(a * b).sum() / (b**2).sum(), 0.0, 1.0))
            degrees -= 1
    theta, checkable = solve(power)
    a, b = influences(theta)
    pull = a + power * b
    variance = (pull**2).sum() * clusters / degrees
    errors = _smoothed(disagree.sum(), n) * power**2 + _smoothed(human_ok.sum(), human_all.sum()) * (1 - power) ** 2
    return _on_log_odds(theta, float(max(variance / checkable**2, errors)), degrees, human_all.sum(), level)
