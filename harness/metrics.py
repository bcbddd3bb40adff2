"""Scores over annotations: pure functions of counts.

`factuality` is the score of the Mask-DPO paper's tables: correct / (correct + incorrect) over all sentences of all
responses that hold a checkable fact (micro average). Sentences with no fact and sentences the judge could not label
count in neither. `score_reference` is what the ANAH reference code prints instead: 1 - hallucinated / all sentences.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from factuality_harness.harness.annotation import Annotation, Label

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
_DRAWS_KEPT = 4_000_000  # numbers: 32 MB
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Counts:
    """Sentence counts of one question: all its responses together."""

    topic: str
    responses: int
    ok: int = 0
    contradictory: int = 0
    unverifiable: int = 0
    nofact: int = 0
    unparsed: int = 0
    thinking_cut: int = 0
    """Responses that ended inside their thinking, and so are empty."""
    other_language: int = 0
    """Responses in another language than the question's."""
    each: tuple[tuple[int, int, int], ...] = ()
    """Of each response: correct, incorrect and unparsed sentences. Empty in files older than this field."""

    @property
    def incorrect(self) -> int:
        return self.contradictory + self.unverifiable

    @property
    def checkable(self) -> int:
        return self.ok + self.incorrect

    @property
    def total(self) -> int:
        return self.checkable + self.nofact + self.unparsed


def count(annotations: Sequence[Annotation]) -> Counts:
    """Counts over the annotations of one question (one, or N samples). The topic falls back to the question."""
    if not annotations:
        raise ValueError("no annotations to count")
    labels = {label: sum(a.count(label) for a in annotations) for label in Label}
    return Counts(
        topic=annotations[0].topic or annotations[0].question,
        responses=len(annotations),
        ok=labels[Label.OK],
        contradictory=labels[Label.CONTRADICTORY],
        unverifiable=labels[Label.UNVERIFIABLE],
        nofact=labels[Label.NOFACT],
        unparsed=labels[Label.UNPARSED],
        thinking_cut=sum(bool(a.extra.get("thinking_cut")) for a in annotations),
        other_language=sum("answer_language" in a.extra for a in annotations),
        each=tuple(
            (a.count(Label.OK), a.count(Label.CONTRADICTORY, Label.UNVERIFIABLE), a.count(Label.UNPARSED))
            for a in annotations
        ),
    )


def ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator, NaN when there is nothing to divide by (never a silent 0 or 1)."""
    return numerator / denominator if denominator else NAN


def factuality(rows: Sequence[Counts]) -> float:
    """Micro average, the paper's: e.g. 461 / (461 + 476) = 0.4920."""
    return ratio(sum(r.ok for r in rows), sum(r.checkable for r in rows))


def factuality_macro(rows: Sequence[Counts]) -> float:
    """Mean over questions of their own share; questions without a checkable sentence are left out."""
    shares = [r.ok / r.checkable for r in rows if r.checkable]
    return ratio(sum(shares), len(shares))


def score_reference(rows: Sequence[Counts]) -> float:
    """The reference code's score, 1 - hallucinated / total, with no-fact and unparsed sentences in `total`; NaN where
    nothing was judged at all."""
    judged = sum(r.total - r.unparsed for r in rows)
    return 1 - ratio(sum(r.incorrect for r in rows), sum(r.total for r in rows) if judged else 0)


def correct_per_response(rows: Sequence[Counts]) -> float:
    """Mean number of correct sentences of a response."""
    return ratio(sum(r.ok for r in rows), sum(r.responses for r in rows))


def f1(correct: int, incorrect: int, k: int) -> float:
    """F1@K of one response (LongFact, arXiv 2403.18802): the harmonic mean of precision, correct / (correct +
    incorrect), and recall, min(correct / K, 1); 0 where nothing is correct. k >= 1."""
    if not correct:
        return 0.0
    precision, recall = correct / (correct + incorrect), min(correct / k, 1.0)
    return 2 * precision * recall / (precision + recall)


def f1_at(k: int) -> Callable[[Sequence[Counts]], float]:
    """Mean F1@K over responses; those of which no sentence could be judged are left out, empty ones count 0."""

    def mean(rows: Sequence[Counts]) -> float:
        values = [value for r in rows for value in _f1_values(r, k)]
        return ratio(math.fsum(values), len(values))

    return mean


def _f1_values(row: Counts, k: int) -> list[float]:
    return [f1(ok, wrong, k) for ok, wrong, unparsed in row.each if ok or wrong or not unparsed]


def rate(field: str) -> Callable[[Sequence[Counts]], float]:
    """Share of all sentences that carry the label named `field`."""

    def share(rows: Sequence[Counts]) -> float:
        return ratio(sum(getattr(r, field) for r in rows), sum(r.total for r in rows))

    return share


def sentences_per_response(rows: Sequence[Counts]) -> float:
    return ratio(sum(r.total for r in rows), sum(r.responses for r in rows))


def _draw(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n clusters is drawn, a row a resample, in chunks of bounded size."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_KEPT // n)
    for start in range(0, resamples, chunk):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, resamples - start)).astype(float)


@lru_cache(maxsize=2)
def _kept_draws(n: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw(n, resamples, seed))


def cluster_resamples(
    sums: np.ndarray, resamples: int = BOOTSTRAP_RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> Iterator[np.ndarray]:
    """Sums over whole clusters drawn with replacement, from each cluster's sums, shape (clusters, values): arrays
    (resamples in this chunk, values). Draws are remembered: they are most of an interval's time, and the same for every
    score on as many topics."""
    n = len(sums)
    for drawn in (_kept_draws if n * resamples <= _DRAWS_KEPT else _draw)(n, resamples, seed):
        yield drawn @ sums


def cluster_variance(influence: np.ndarray) -> float:
    """Variance of an estimator from the influence of each cluster (they add up to its error); inf for one cluster."""
    n = len(influence)
    return float((influence**2).sum() * n / (n - 1)) if n > 1 else math.inf


def cluster_bootstrap(
    clusters: Iterable[str],
    numerators: Iterable[float],
    denominators: Iterable[float],
    *,
    level: float = 0.95,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Percentile interval of sum(numerators) / sum(denominators), resampling whole clusters (topics).

    Questions of one topic share a document and often an error, so they are drawn together. Deterministic for a seed
    and independent of the order of the rows. Returns (NaN, NaN) when fewer than two clusters have a denominator: one
    topic says nothing of how topics differ.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cluster, numerator, denominator in zip(clusters, numerators, denominators, strict=True):
        sums[cluster][0] += numerator
        sums[cluster][1] += denominator
    if sum(d != 0 for _, d in sums.values()) < 2:
        return NAN, NAN
    table = np.array([sums[c] for c in sorted(sums)])
    ratios: list[np.ndarray] = []
    for draws in cluster_resamples(table, resamples, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append(draws[:, 0] / draws[:, 1])
    low, high = np.nanquantile(np.concatenate(ratios), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def factuality_ci95(rows: Sequence[Counts]) -> tuple[float, float]:
    """95 % bootstrap interval of `factuality` over topics."""
    return cluster_bootstrap([r.topic for r in rows], [r.ok for r in rows], [r.checkable for r in rows])


def f1_ci95(k: int) -> Callable[[Sequence[Counts]], tuple[float, float]]:
    """95 % bootstrap interval of `f1_at` over topics."""

    def interval(rows: Sequence[Counts]) -> tuple[float, float]:
        values = [_f1_values(r, k) for r in rows]
        return cluster_bootstrap([r.topic for r in rows], map(math.fsum, values), map(len, values))

    return interval


def correct_ci95(rows: Sequence[Counts]) -> tuple[float, float]:
    """95 % bootstrap interval of `correct_per_response` over topics."""
    return cluster_bootstrap([r.topic for r in rows], [r.ok for r in rows], [r.responses for r in rows])


@dataclass(frozen=True, slots=True)
class Metric:
    """A number over rows of counts. about: one sentence on what it measures."""

    aggregation: Callable[[Sequence[Any]], float]
    higher_is_better: bool
    about: str


def interval_ends(name: str, interval: Callable[[Sequence[Any]], tuple[float, float]]) -> dict[str, Metric]:
    """`NAME_ci95_low` and `NAME_ci95_high`: the ends of the interval of the metric `name`."""
    about = f"end of the 95 % interval of `{name}`, by a bootstrap over topics."
    return {
        f"{name}_ci95_low": Metric(lambda rows: interval(rows)[0], True, f"Lower {about}"),
        f"{name}_ci95_high": Metric(lambda rows: interval(rows)[1], True, f"Upper {about}"),
    }


def thinking_cut_rate(rows: Sequence[Counts]) -> float:
    return ratio(sum(r.thinking_cut for r in rows), sum(r.responses for r in rows))


def language_mismatch_rate(rows: Sequence[Counts]) -> float:
    return ratio(sum(r.other_language for r in rows), sum(r.responses for r in rows))


K = 5
"""Correct sentences an answer should hold, of F1@K: the median number of checkable ones of the paper's base model."""


def anah_metrics(k: int = K) -> dict[str, Metric]:
    """The metrics of the ANAH tasks, over the questions' `Counts`; k: of F1@K."""
    return {**_PLAIN, "f1_at_k": Metric(f1_at(k), True, _F1.format(k=k)), **interval_ends("f1_at_k", f1_ci95(k))}


_F1 = "Mean over answers of F1@K, K = {k}: precision, and recall up to K correct ones."
_PLAIN = {
    "factuality": Metric(factuality, True, "Share of correct among the checkable sentences of all answers together."),
    "factuality_macro": Metric(factuality_macro, True, "Mean over questions of the share of correct sentences."),
    **interval_ends("factuality", factuality_ci95),
    "correct_per_response": Metric(
        correct_per_response, True, "Mean number of correct sentences per answer: precision alone rewards saying less."
    ),
    **interval_ends("correct_per_response", correct_ci95),
    "correct": Metric(lambda rows: sum(r.ok for r in rows), True, "Number of sentences that the document supports."),
    "incorrect": Metric(
        lambda rows: sum(r.incorrect for r in rows), False, "Number of contradictory and unverifiable sentences."
    ),
    "contradictory_rate": Metric(rate("contradictory"), False, "Share of all sentences that contradict the document."),
    "unverifiable_rate": Metric(
        rate("unverifiable"), False, "Share of all sentences on which the document says nothing."
    ),
    "nofact_rate": Metric(rate("nofact"), False, "Share of all sentences that state no checkable fact."),
    "unparsed_rate": Metric(rate("unparsed"), False, "Share of all sentences that the judge could not label."),
    "sentences_per_response": Metric(sentences_per_response, True, "Mean number of sentences per answer."),
    "thinking_cut_rate": Metric(thinking_cut_rate, False, "Share of answers that end inside their thinking: empty."),
    "language_mismatch_rate": Metric(
        language_mismatch_rate, False, "Share of answers in another language than the question's."
    ),
    "score_reference": Metric(
        score_reference, True, "The ANAH reference code's score: one minus the share of incorrect among all sentences."
    ),
}
METRICS = anah_metrics()


def summarise(rows: Sequence[Counts]) -> dict[str, float]:
    """All metrics of the ANAH tasks over per-question counts."""
    return {name: metric.aggregation(rows) for name, metric in METRICS.items()}


def is_missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
