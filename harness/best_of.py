"""Best-of-N from one pool: the exact expectation of the score when a judge picks the best of n sampled responses.

A pool holds the m responses to one question. Of n of them, drawn without replacement, the one with the highest share
of correct sentences is taken; a response without a checkable sentence ranks below every other, and responses with the
same share are taken with equal chance. All (m choose n) draws are averaged in closed form: the response of rank i is
the best of a draw with probability C(m-i, n-1) / C(m, n). So one pool of 256 serves every n up to 256, and no draw of
its own adds noise to the curve. At n = 1 the score is the pool's `factuality`, at n = m that of each question's best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import Counts, Metric, cluster_bootstrap, interval_ends, ratio

SIZES = (1, 16, 32, 64, 128, 256)
"""The n of the paper's table 6."""


@dataclass(frozen=True, slots=True)
class Best:
    """Expectations over the best of n responses to one question: its correct and its checkable sentences, and its
    share of correct ones where it has a checkable one at all (NaN when no response of the pool has)."""

    topic: str
    ok: float
    checkable: float
    share: float


@lru_cache(maxsize=64)
def rank_weights(pool: int, n: int) -> np.ndarray:
    """Probability that rank 1, 2, … of `pool` responses is the best of n drawn without replacement; sums to 1.

    By the recursion w(1) = n / m, w(i+1) = w(i) (m-i-n+1) / (m-i): no binomial coefficient is ever formed. Raises
    HarnessError unless 1 <= n <= pool.
    """
    if not 1 <= n <= pool:
        raise HarnessError(
            f"best of {n} needs a pool of at least {max(n, 1)} responses a question; this one has {pool}"
        )
    rest = np.arange(pool - 1, 0, -1, dtype=float)  # m - i: the responses of a worse rank
    weights = n / pool * np.cumprod(np.concatenate([[1.0], np.maximum(rest - n + 1, 0) / rest]))
    weights.flags.writeable = False
    return weights


def best_of(pool: Sequence[Counts], sizes: Sequence[int]) -> dict[int, Best]:
    """Expectations for the best of n, for each n of `sizes`, from the counts of each response to one question.

    Raises HarnessError when an n is below 1 or exceeds the pool.
    """
    weights = np.array([rank_weights(len(pool), n) for n in sizes])
    ok, checkable = np.array([(r.ok, r.checkable) for r in pool], dtype=float).T
    share = np.divide(ok, checkable, out=np.full(len(pool), -1.0), where=checkable > 0)
    # Tied responses are one group; the best group comes first.
    _, group, size = np.unique(-share, return_inverse=True, return_counts=True)
    of_rank = np.repeat(np.arange(len(size)), size)  # the tie group that each rank falls into
    means = np.zeros((len(size), 4))
    for column, values in enumerate((ok, checkable, np.where(checkable > 0, share, 0.0), checkable > 0)):
        means[:, column] = np.bincount(group, values) / size
    expected = weights @ means[of_rank]
    return {
        n: Best(pool[0].topic, row[0], row[1], ratio(row[2], row[3]))
        for n, row in zip(sizes, expected.tolist(), strict=True)
    }


def score(rows: Sequence[Best]) -> float:
    """The paper's micro average over questions: expected correct / expected checkable sentences of what is taken."""
    return ratio(sum(r.ok for r in rows), sum(r.checkable for r in rows))


def score_macro(rows: Sequence[Best]) -> float:
    """Mean over questions of the expected share; questions without a checkable sentence are left out."""
    shares = [r.share for r in rows if not math.isnan(r.share)]
    return ratio(sum(shares), len(shares))


def score_ci95(rows: Sequence[Best]) -> tuple[float, float]:
    """95 % bootstrap interval of `score` over topics, the pools taken as given."""
    return cluster_bootstrap([r.topic for r in rows], [r.ok for r in rows], [r.checkable for r in rows])


def facts(rows: Sequence[Best]) -> float:
    """Mean number of checkable sentences of the response taken: a choice by share may be one for brevity."""
    return ratio(sum(r.checkable for r in rows), len(rows))


def correct(rows: Sequence[Best]) -> float:
    """Mean number of correct sentences of the response taken."""
    return ratio(sum(r.ok for r in rows), len(rows))


def metrics(sizes: Sequence[int]) -> dict[str, Metric]:
    """Metrics over what `best_of` gives for the questions: for each N of `sizes` `best_of_N` (micro, comparable with
    `factuality`), its interval, `best_of_N_macro`, `best_of_N_facts` and `best_of_N_correct`."""

    def of(n: int, value: Callable[[Sequence[Best]], Any]) -> Callable[[Sequence[dict[int, Best]]], Any]:
        return lambda questions: value([question[n] for question in questions])

    found: dict[str, Metric] = {}
    for n in sizes:
        name, taken = f"best_of_{n}", f"when the best of {n} answers is taken."
        found |= {
            name: Metric(of(n, score), True, f"Share of correct among the checkable sentences {taken}"),
            **interval_ends(name, of(n, score_ci95)),
            f"{name}_macro": Metric(of(n, score_macro), True, f"Mean over questions of the share of correct {taken}"),
            f"{name}_facts": Metric(of(n, facts), True, f"Mean number of checkable sentences {taken}"),
            f"{name}_correct": Metric(of(n, correct), True, f"Mean number of correct sentences {taken}"),
        }
    return found


def summarise_pools(pools: Sequence[Sequence[Counts]], sizes: Sequence[int]) -> dict[str, float]:
    """All `metrics` of the questions' pools, each given by the counts of each of its responses.

    Raises HarnessError when an n of `sizes` is below 1 or exceeds a pool.
    """
    questions = [best_of(pool, sizes) for pool in pools]
    return {name: metric.aggregation(questions) for name, metric in metrics(sizes).items()}
