"""How far a judge agrees with humans: confusion, and what follows from it, with intervals.

Everything is a function of confusion matrices with the human labels as rows and the judge's as columns (`unparsed` and
`nofact` are columns like the others: nothing is dropped). The functions take stacks of matrices, shape
(..., rows, columns), so that one call gives all resamples of a bootstrap over topics. Values are NaN, never 0 or 1,
where there is nothing to divide by. The tests hold accuracy, F1 and kappa against scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import binomtest

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.data.biographies import FACT_LABELS
from factuality_harness.harness.judging.labels import TYPES, LabelledClaim
from factuality_harness.harness.metrics import NAN, cluster_bootstrap, cluster_resamples
from factuality_harness.harness.words import WORD

Statistic = Callable[[np.ndarray], np.ndarray]
"""Confusion matrices (..., human labels, judge labels) -> values (...)."""

HUMAN = (*TYPES, *FACT_LABELS)
JUDGE = tuple(label.value for label in Label)
SUPPORTED, WRONG, NOTHING = ("ok", "S"), ("contradictory", "unverifiable", "NS", "IR"), ("nofact",)
"""Binary reading of human and judge labels. FActScore counts irrelevant facts (IR) as not supported."""
NGRAMS = (1, 4)


@dataclass(frozen=True, slots=True)
class JudgedUnit:
    """One unit: what the human said and what the judge said.

    human: a label of HUMAN, anything else marks a malformed row, which counts in no matrix. overlap: for each n of
    NGRAMS, (n-grams of the judge's evidence that the human's holds, n-grams of the judge's evidence).
    """

    topic: str
    human: str
    judge: str
    language: str
    overlap: tuple[tuple[int, int], ...] = ((0, 0),) * len(NGRAMS)
    groups: dict[str, str] = field(default_factory=dict)


def judged_unit(row: LabelledClaim, judgement: Judgement) -> JudgedUnit:
    """The human's label of a claim beside a judge's."""
    overlap = tuple(ngram_overlap(judgement.evidence, row.evidence, n) if row.evidence else (0, 0) for n in NGRAMS)
    groups = {"language": row.claim.language, **row.groups}
    return JudgedUnit(row.topic, row.label, judgement.label.value, row.claim.language, overlap, groups)


def ngram_overlap(said: Iterable[str], reference: Iterable[str], n: int) -> tuple[int, int]:
    """(n-grams of `said` found in `reference`, each as often as it stands there; n-grams of `said`).

    Tokens are lower-case words; every Chinese character is one. N-grams do not reach over passages.
    """
    mine, theirs = _ngrams(said, n), _ngrams(reference, n)
    return (mine & theirs).total(), mine.total()


def _ngrams(texts: Iterable[str], n: int) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = WORD.findall(text.lower())
        found.update(zip(*(words[i:] for i in range(n)), strict=False))
    return found


def tables(verdicts: Iterable[JudgedUnit]) -> tuple[list[str], np.ndarray]:
    """Topics in order and their confusion matrices, shape (topics, HUMAN, JUDGE), float."""
    counts = Counter((v.topic, v.human, v.judge) for v in verdicts if v.human in HUMAN)
    topics = sorted({topic for topic, _, _ in counts})
    place = {topic: i for i, topic in enumerate(topics)}
    table = np.zeros((len(topics), len(HUMAN), len(JUDGE)))
    for (topic, human, judge), n in counts.items():
        table[place[topic], HUMAN.index(human), JUDGE.index(judge)] = n
    return topics, table


def types(table: np.ndarray) -> np.ndarray:
    """The part of the matrices with ANAH's types as rows: shape (..., 4, 5)."""
    return table[..., : len(TYPES), :]


def binary(table: np.ndarray) -> np.ndarray:
    """Rows supported, not supported, no fact; columns the same and unparsed: shape (..., 3, 4)."""
    parts = (SUPPORTED, WRONG, NOTHING)
    by_human = np.stack([_part(table, HUMAN, names, -2) for names in parts], axis=-2)
    return np.stack(
        [_part(by_human, JUDGE, names, -1) for names in (SUPPORTED, WRONG, NOTHING, ("unparsed",))], axis=-1
    )


def _part(table: np.ndarray, names: Sequence[str], wanted: Sequence[str], axis: int) -> np.ndarray:
    return table.take([i for i, name in enumerate(names) if name in wanted], axis=axis).sum(axis=axis)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b == 0, NAN, a / b)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of all units that lie on the diagonal."""
    return _divide(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def f1(confusion: np.ndarray) -> np.ndarray:
    """F1 of every row's class, shape (..., rows); NaN for a class the humans never gave."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    human = confusion.sum(-1)
    judge = confusion.sum(-2)[..., : human.shape[-1]]
    return _divide(np.where(human > 0, 2 * right, NAN), human + judge)


def f1_weighted(confusion: np.ndarray) -> np.ndarray:
    """Mean of the classes' F1, weighted by how often humans gave the class."""
    return _divide(np.nansum(f1(confusion) * confusion.sum(-1), axis=-1), confusion.sum((-2, -1)))


def f1_macro(confusion: np.ndarray) -> np.ndarray:
    """Plain mean of the F1 of the classes that humans gave."""
    values = f1(confusion)
    return _divide(np.nansum(values, axis=-1), (~np.isnan(values)).sum(-1))


def kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa. A column without a row (`unparsed`) is a class of its own, so it counts as disagreement."""
    n = confusion.sum((-2, -1))
    human = confusion.sum(-1)
    chance = _divide((human * confusion.sum(-2)[..., : human.shape[-1]]).sum(-1), n * n)
    return _divide(accuracy(confusion) - chance, 1 - chance)


def sensitivity(table: np.ndarray) -> np.ndarray:
    """Of the supported units that the judge called supported or not, the share it called supported."""
    row = binary(table)[..., 0, :2]
    return _divide(row[..., 0], row.sum(-1))


def specificity(table: np.ndarray) -> np.ndarray:
    """Of the unsupported units that the judge called supported or not, the share it called not supported."""
    row = binary(table)[..., 1, :2]
    return _divide(row[..., 1], row.sum(-1))


def balanced_accuracy(table: np.ndarray) -> np.ndarray:
    """Mean of sensitivity and specificity: 0.5 for a judge that guesses, whatever the classes' sizes."""
    return (sensitivity(table) + specificity(table)) / 2


def judged_as(name: str) -> Statistic:
    """Share of all units to which the judge gave the label `name`."""
    return lambda table: _divide(table[..., JUDGE.index(name)].sum(-1), table.sum((-2, -1)))


def of_types(statistic: Statistic) -> Statistic:
    """A statistic of the matrix of ANAH's types."""
    return lambda table: statistic(types(table))


def of_binary(statistic: Statistic) -> Statistic:
    """A statistic of the matrix supported, not supported, no fact."""
    return lambda table: statistic(binary(table))


def class_f1(name: str) -> Statistic:
    """F1 of one of ANAH's types."""
    return lambda table: f1(types(table))[..., TYPES.index(name)]


class UnitSample:
    """Verdicts, counted once and resampled once, for any number of statistics. n: units that count."""

    def __init__(self, verdicts: Iterable[JudgedUnit]) -> None:
        self.topics, self.tables = tables(verdicts)
        self.n = int(self.tables.sum())

    @cached_property
    def _resamples(self) -> np.ndarray:
        sums = self.tables.reshape(len(self.tables), -1)
        return np.concatenate([*cluster_resamples(sums)]).reshape(-1, *self.tables.shape[1:])

    def value(self, statistic: Statistic) -> float:
        """The statistic over all units; NaN without any."""
        return float(statistic(self.tables.sum(0)))

    def ci95(self, statistic: Statistic) -> tuple[float, float]:
        """95 % percentile interval, resampling whole topics as `harness.metrics.cluster_bootstrap` does.

        Resamples in which the statistic has no value are left out. (NaN, NaN) where it rests on a single topic, without
        which it has no value: one topic says nothing of how topics differ.
        """
        if not self.n or np.isnan(statistic(self.tables.sum(0) - self.tables)).any():
            return NAN, NAN
        low, high = np.nanquantile(statistic(self._resamples), [0.025, 0.975])
        return float(low), float(high)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % Wilson interval of a share whose units are independent; (NaN, NaN) for no unit."""
    if not total:
        return NAN, NAN
    interval = binomtest(hits, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def evidence_precision(verdicts: Iterable[JudgedUnit], n: int) -> float:
    """Share of the n-grams (n of NGRAMS) of the judge's evidence that stand in the human's, where the human has any."""
    overlaps = [v.overlap[NGRAMS.index(n)] for v in verdicts]
    total = sum(t for _, t in overlaps)
    return sum(m for m, _ in overlaps) / total if total else NAN


def evidence_precision_ci95(verdicts: Sequence[JudgedUnit], n: int) -> tuple[float, float]:
    """95 % bootstrap interval of `evidence_precision` over topics."""
    overlaps = [v.overlap[NGRAMS.index(n)] for v in verdicts]
    return cluster_bootstrap([v.topic for v in verdicts], [m for m, _ in overlaps], [t for _, t in overlaps])
