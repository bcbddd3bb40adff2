"""FActScore from counts: pure functions.

A response that states no fact (it abstains, or nothing in it could be checked) has no score. Of every other
one the share of supported facts is taken, times a penalty for short answers, and `score` is the mean over
these responses (macro average). Source: Min et al., EMNLP 2023, and section 4 of the reference facts for the
penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.data.biographies import LabelledBiography
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import NAN, Metric, cluster_bootstrap, f1, interval_ends, ratio

GAMMA = 10.0
K = 35
"""Supported facts an answer should hold, of F1@K: what ChatGPT's biographies state on average (34.6)."""


@dataclass(frozen=True, slots=True)
class FactCounts:
    """Facts of one response.

    responded: it does not abstain. supported, unsupported: verdicts; irrelevant: the human label IR, which
    counts as a fact that is not supported; unparsed: facts without a verdict, in no share. undecided: facts
    whose answer held neither true nor false, with or without a verdict. unparsed_sentences: sentences no fact
    could be read for. skipped: the topic has no page, the response counts nowhere. other_language: than the
    question's.
    """

    topic: str
    responded: bool
    supported: int = 0
    unsupported: int = 0
    irrelevant: int = 0
    unparsed: int = 0
    undecided: int = 0
    sentences: int = 0
    unparsed_sentences: int = 0
    skipped: bool = False
    other_language: bool = False

    @property
    def facts(self) -> int:
        return self.judged + self.unparsed

    @property
    def judged(self) -> int:
        return self.supported + self.unsupported + self.irrelevant

    @property
    def precision(self) -> float:
        """Share of the judged facts that is supported; NaN where none is judged."""
        return ratio(self.supported, self.judged)


def penalty(facts: int, gamma: float = GAMMA) -> float:
    """1 for more than `gamma` facts, else exp(1 - gamma / facts). gamma <= 0: no penalty; no facts: 0."""
    if gamma <= 0 or facts > gamma:
        return 1.0
    return math.exp(1 - gamma / facts) if facts else 0.0


def response_score(row: FactCounts, gamma: float = GAMMA) -> float:
    """Precision times penalty of one response; NaN where no fact of it is judged.

    The penalty is for what the response says, so facts that the judge gave no verdict on count in it.
    """
    return row.precision * penalty(row.facts, gamma)


def _counted(rows: Iterable[FactCounts]) -> list[FactCounts]:
    return [r for r in rows if not r.skipped]


def _scored(rows: Iterable[FactCounts]) -> list[FactCounts]:
    return [r for r in rows if r.responded and r.judged and not r.skipped]


def _with_facts(rows: Iterable[FactCounts]) -> list[FactCounts]:
    return [r for r in rows if r.responded and r.facts and not r.skipped]


def score(rows: Sequence[FactCounts], gamma: float = GAMMA) -> float:
    """Mean of `response_score` over the responses with judged facts; NaN without any."""
    scored = _scored(rows)
    return ratio(math.fsum(response_score(r, gamma) for r in scored), len(scored))


def init_score(rows: Sequence[FactCounts]) -> float:
    """The score without the penalty."""
    return score(rows, gamma=0)


def respond_ratio(rows: Sequence[FactCounts]) -> float:
    """Share of the responses that state a fact, or have a sentence from which none could be read: an extractor that
    fails is no abstention of the model's."""
    told = [r for r in _counted(rows) if r.responded and (r.facts or r.unparsed_sentences)]
    return ratio(len(told), len(_counted(rows)))


def language_mismatch_rate(rows: Sequence[FactCounts]) -> float:
    """Share of the responses in another language than the question's."""
    counted = _counted(rows)
    return ratio(sum(r.other_language for r in counted), len(counted))


def num_facts_per_response(rows: Sequence[FactCounts]) -> float:
    """Mean number of facts of the responses that state one."""
    told = _with_facts(rows)
    return ratio(sum(r.facts for r in told), len(told))


def _f1_values(rows: Iterable[FactCounts], k: int) -> list[tuple[str, float]]:
    """Topic and F1@K of the responses; those of which nothing could be judged are left out, abstentions count 0."""
    counted = [r for r in _counted(rows) if r.judged or not (r.unparsed or r.unparsed_sentences)]
    return [(r.topic, f1(r.supported, r.unsupported + r.irrelevant, k)) for r in counted]


def f1_at(k: int) -> Callable[[Sequence[FactCounts]], float]:
    """Mean F1@K over responses (LongFact, arXiv 2403.18802), in facts."""

    def mean(rows: Sequence[FactCounts]) -> float:
        values = [value for _, value in _f1_values(rows, k)]
        return ratio(math.fsum(values), len(values))

    return mean


def f1_ci95(k: int) -> Callable[[Sequence[FactCounts]], tuple[float, float]]:
    """95 % bootstrap interval of `f1_at` over topics."""

    def interval(rows: Sequence[FactCounts]) -> tuple[float, float]:
        values = _f1_values(rows, k)
        return cluster_bootstrap([topic for topic, _ in values], [value for _, value in values], [1.0] * len(values))

    return interval


def unjudged_share(rows: Iterable[FactCounts]) -> float:
    """Share of facts without a verdict, a sentence from which no fact could be read counting as one."""
    counted = _counted(rows)
    lost = sum(r.unparsed + r.unparsed_sentences for r in counted)
    return ratio(lost, lost + sum(r.judged for r in counted))


def score_ci95(rows: Sequence[FactCounts], gamma: float = GAMMA) -> tuple[float, float]:
    """95 % bootstrap interval of `score` over topics (see `harness.metrics.cluster_bootstrap`)."""
    scored = _scored(rows)
    if not scored:
        return NAN, NAN
    return cluster_bootstrap([r.topic for r in scored], [response_score(r, gamma) for r in scored], [1.0] * len(scored))


def _total(pick: Callable[[FactCounts], int | bool]) -> Callable[[Sequence[FactCounts]], float]:
    return lambda rows: sum(int(pick(r)) for r in _counted(rows))


METRICS = {
    "score": Metric(score, True, "FActScore: mean over answers of the share of supported facts, times the penalty."),
    "init_score": Metric(init_score, True, "Mean over answers of the share of supported facts, without the penalty."),
    "respond_ratio": Metric(respond_ratio, True, "Share of the answers that state a fact."),
    "num_facts_per_response": Metric(num_facts_per_response, True, "Mean number of facts of the answers with facts."),
    **interval_ends("score", score_ci95),
    "responses": Metric(_total(lambda r: True), True, "Number of answers whose topic has a page."),
    "abstained": Metric(_total(lambda r: not r.responded), False, "Number of answers that decline to answer."),
    "without_facts": Metric(
        _total(lambda r: r.responded and not r.facts), False, "Number of answers that respond but state no fact."
    ),
    "facts": Metric(_total(lambda r: r.facts), True, "Number of facts."),
    "supported": Metric(_total(lambda r: r.supported), True, "Number of supported facts."),
    "unsupported": Metric(_total(lambda r: r.unsupported + r.irrelevant), False, "Number of facts not supported."),
    "unparsed_facts": Metric(_total(lambda r: r.unparsed), False, "Number of facts without a verdict."),
    "undecided_facts": Metric(
        _total(lambda r: r.undecided), False, "Number of facts whose verdict held neither true nor false."
    ),
    "sentences": Metric(_total(lambda r: r.sentences), True, "Number of sentences."),
    "unparsed_sentences": Metric(
        _total(lambda r: r.unparsed_sentences), False, "Number of sentences from which no fact could be read."
    ),
    "language_mismatch_rate": Metric(
        language_mismatch_rate, False, "Share of the answers in another language than the question's."
    ),
    "skipped": Metric(lambda rows: sum(r.skipped for r in rows), False, "Number of answers whose topic has no page."),
}
"""Metrics over the answers' counts, with gamma 10."""


def summarise_facts(rows: Sequence[FactCounts], gamma: float = GAMMA) -> dict[str, float]:
    """All metrics, and the gamma they were computed with.

    `score`, `init_score`, `respond_ratio` and `num_facts_per_response` are FActScore's own names; the rest
    are totals and the interval of `score`.
    """
    values = {name: metric.aggregation(rows) for name, metric in METRICS.items()}
    values["score"] = score(rows, gamma)
    values["score_ci95_low"], values["score_ci95_high"] = score_ci95(rows, gamma)
    return {**values, "gamma": gamma}


def counts_of_labels(row: LabelledBiography) -> FactCounts:
    """Counts of a human-labelled answer: S is supported; NS, and IR too, are facts that are not."""
    labels = [f.label for f in row.facts]
    return FactCounts(
        topic=row.topic,
        responded=row.sentences is not None,
        supported=labels.count("S"),
        unsupported=labels.count("NS"),
        irrelevant=labels.count("IR"),
        sentences=len(row.sentences or ()),
    )


def counts_of_annotation(annotation: Annotation) -> FactCounts:
    """Counts of an annotation that a FactScorer made: it reads `extra["facts"]` and the labels, and nothing
    else.

    Raises HarnessError for an annotation of another kind.
    """
    try:
        facts = [fact for of_sentence in annotation.extra["facts"] for fact in of_sentence]
        return FactCounts(
            topic=annotation.topic or annotation.question,
            responded=not annotation.extra["abstained"],
            supported=sum(f["supported"] is True for f in facts),
            unsupported=sum(f["supported"] is False for f in facts),
            unparsed=sum(f["supported"] is None for f in facts),
            undecided=sum(f.get("undecided", False) for f in facts),
            sentences=len(annotation.sentences),
            unparsed_sentences=sum(
                j.label is Label.UNPARSED and not of_sentence
                for j, of_sentence in zip(annotation.judgements, annotation.extra["facts"], strict=True)
            ),
            skipped=bool(annotation.extra.get("skipped", False)),
            other_language="answer_language" in annotation.extra,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HarnessError(
            f"the annotation of {annotation.topic or annotation.question!r} holds no atomic facts "
            f"({type(error).__name__}: {error}); it was not made by a FActScore judge"
        ) from error
