"""The leaderboard: one table an experiment and task, with intervals, judges, and the best of each column.

Factuality is the judge's, and every table says so; with a card of the judge (`factuality judge-card`) the corrected
value stands beside it (`harness.judging.correction`).
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factuality_harness.analysis.intervals import Estimate, of_one_run, over_seeds
from factuality_harness.analysis.output import about_judge
from factuality_harness.analysis.results import ExperimentResult, TaskScore
from factuality_harness.harness import metrics
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.factscore import score as factscore
from factuality_harness.harness.judging.correction import misfit
from factuality_harness.harness.judging.estimators import JudgeCard, rogan_gladen
from factuality_harness.harness.metrics import NAN
from factuality_harness.harness.page.render import format_metric

COLUMNS = {
    "factuality": ("correct_per_response", "f1_at_k", "correct", "incorrect", "nofact_rate", "unparsed_rate"),
    "score": ("init_score", "respond_ratio", "num_facts_per_response", "unparsed_facts"),
}
"""Headline metric of a task -> what stands beside it. Tasks with neither show what they have."""
MOST_COLUMNS = 7
NO_BEST = {"sentences_per_response", "num_facts_per_response", "correct", "incorrect"}  # more is not better by itself
DIRECTIONS = {name: m.higher_is_better for table in (metrics.METRICS, factscore.METRICS) for name, m in table.items()}
HIGHER = re.compile(r"^(acc|exact_match|f1|pass@|best_of_\d+(_macro)?$)")
SAID = {"nofact_rate": "no fact", "unparsed_rate": "unparsed", "sentences_per_response": "sentences a response"}
INTERVALS = {
    "topics": "over topics (bootstrap)",
    "questions": "over questions (lm_eval's standard error)",
    "seeds": "over {n} seeds (Student's t)",
}
"""What a headline's interval is taken over, in words."""


@dataclass(frozen=True, slots=True)
class Value:
    """A metric of one row, as shown and as a number. low, high: 95 % interval, NaN where there is none."""

    metric: str
    value: float
    low: float = NAN
    high: float = NAN
    best: bool = False

    @property
    def shown(self) -> str:
        return _shown(self.metric, self.value, mean=not math.isnan(self.low))

    def at(self, value: float) -> str:
        """Another value of this metric, as shown."""
        return _shown(self.metric, value)

    @property
    def interval(self) -> str:
        """`low to high`, or nothing."""
        if math.isnan(self.low):
            return ""
        return f"{_shown(self.metric, self.low).removesuffix(' %')} to {_shown(self.metric, self.high)}"


@dataclass(frozen=True, slots=True)
class Standing:
    """One model (a cell over its seeds). run: its name in the browser of responses, or "". corrected: the headline
    corrected by a card, its seeds pooled; None without a card of the row's judge."""

    labels: tuple[str, ...]
    seeds: int
    judge: str
    version: str
    questions: int
    values: tuple[Value, ...]
    run: str = ""
    corrected: Value | None = None

    @property
    def alike(self) -> tuple[str, str, int]:
        """What two rows must share for one to be better than the other."""
        return self.judge, self.version, self.questions


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models on one task. axes: headings of `Standing.labels`. missing: cells without a result. interval: what the
    intervals are, in words. scale: ends of the axis that the headline's intervals are drawn on. notes: what the scores
    are worth, by judge. misfits: rows that a card does not fit."""

    task: str
    axes: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[Standing, ...]
    missing: int
    interval: str
    scale: tuple[float, float]
    notes: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    @property
    def corrected(self) -> bool:
        """Whether a row has a corrected value."""
        return any(row.corrected for row in self.rows)

    @property
    def differ(self) -> list[str]:
        """In what its rows are not alike."""
        names = "judge", "task version", "number of questions"
        return [name for i, name in enumerate(names) if len({row.alike[i] for row in self.rows}) > 1]

    @property
    def judges(self) -> list[str]:
        return sorted({row.judge for row in self.rows})

    @property
    def versions(self) -> list[str]:
        return sorted({row.version for row in self.rows})

    def place(self, value: float) -> float:
        """A number on the drawn axis, in percent of its width."""
        low, high = self.scale
        return round(100 * (value - low) / (high - low), 2) if high > low else 50.0


def leaderboards(
    experiment: ExperimentResult,
    runs: dict[tuple[tuple[str, ...], int], str],
    cards: Mapping[str, JudgeCard] | None = None,
) -> list[Leaderboard]:
    """Tables of an experiment, one a task, in the order in which tasks first appear.

    runs: name in the browser of responses by labels and seed. cards: by `judge_of`. Raises HarnessError for a card
    of a judge that is no better than a coin.
    """
    tasks = dict.fromkeys(task for cell in experiment.cells for task in cell.scores)
    axes = tuple(dict.fromkeys(axis for cell in experiment.cells for axis in cell.labels))
    found = [_leaderboard(experiment, task, axes, runs, cards or {}) for task in tasks]
    return [one for one in found if one.headings]


def _leaderboard(
    experiment: ExperimentResult,
    task: str,
    axes: tuple[str, ...],
    runs: dict[tuple[tuple[str, ...], int], str],
    cards: Mapping[str, JudgeCard],
) -> Leaderboard:
    groups: dict[tuple[str, ...], list[TaskScore]] = {}
    shown: dict[tuple[str, ...], str] = {}
    for cell in experiment.cells:
        labels = tuple(cell.labels.get(axis, "") for axis in axes)
        group = groups.setdefault(labels, [])
        if task in cell.scores:
            group.append(cell.scores[task])
            if name := runs.get((labels, cell.seed)):
                shown.setdefault(labels, name)
    scores = [score for group in groups.values() for score in group]
    names = _columns(scores)
    correctable = cards if names[:1] == ["factuality"] else {}
    groups_run = {labels: group for labels, group in groups.items() if group}
    fixed = {labels: _corrected(group, correctable) for labels, group in groups_run.items()}
    found = {
        labels: [_estimate(name, [score.metrics for score in group]) for name in names]
        for labels, group in groups_run.items()
    }
    rows = [
        Standing(
            labels,
            len(group),
            " and ".join(sorted({score.judge or "no judge" for score in group})),
            " and ".join(sorted({score.version for score in group})),
            max(len(score.questions) for score in group),
            tuple(Value(name, e.mean, e.low, e.high) for name, e in zip(names, found[labels], strict=True)),
            shown.get(labels, ""),
            fixed[labels][0],
        )
        for labels, group in groups_run.items()
    ]
    kinds = {INTERVALS[e.over].format(n=e.n) for estimates in found.values() for e in estimates[:1] if e.over}
    ends = [e for row in rows for v in row.values[:1] for e in (v.value, v.low, v.high) if not math.isnan(e)]
    margin = 0.04 * (max(ends) - min(ends)) if ends else 0.0
    scale = (min(ends) - margin, max(ends) + margin) if ends else (0.0, 1.0)
    if ends and min(ends) >= 0 and max(ends) <= 1:
        scale = max(0.0, scale[0]), min(1.0, scale[1])
    return Leaderboard(
        task=task,
        axes=axes,
        headings=tuple(SAID.get(name, name.replace("_", " ")) for name in names),
        rows=tuple(_with_best(rows)),
        missing=sum(not group for group in groups.values()),
        interval="95 % interval " + " or ".join(sorted(kinds)) if kinds else "",
        scale=scale,
        notes=tuple(_judge_note(judge, correctable) for judge in sorted({s.judge for s in scores if s.judge})),
        misfits=tuple(f"{', '.join(labels)}: {why}" for labels, (_, why) in fixed.items() if why),
    )


def judge_of(of: JudgeCard | str) -> str:
    """What a card and a `TaskScore.judge` share when they are of one judge with the same options that move labels."""
    name, options = (of.judge, of.judge_args or {}) if isinstance(of, JudgeCard) else _split_judge(of)
    return f"{name} {json.dumps(JudgeSpec.from_results(name).label_options(options), sort_keys=True)}"


def _split_judge(judge: str) -> tuple[str, dict[str, Any]]:
    name, brace, rest = judge.partition(" {")
    try:
        return name, json.loads("{" + rest) if brace else {}
    except ValueError:
        return judge, {}


def _judge_note(judge: str, cards: Mapping[str, JudgeCard]) -> str:
    card = cards.get(judge_of(judge))
    if card is None:
        return about_judge(judge)
    moved, verdicts = card.nofact
    return (
        f"corrected for judge {judge} by {card.n} human labels of {card.dataset} (Rogan-Gladen, 95 % interval over the "
        "topics of run and card, seeds pooled); assumes that the judge errs here as there"
        + (f"; the card was measured on {card.unit}s, the runs are judged by sentences" * (card.unit != "sentence"))
        + ("; the card does not say with which options its judge ran" * (card.judge_args is None))
        + (f"; on the card {moved} of {verdicts} verdicts fell on units in which humans see no fact" * bool(moved))
    )


def _corrected(group: Sequence[TaskScore], cards: Mapping[str, JudgeCard]) -> tuple[Value | None, str]:
    """Corrected factuality of a row, and why its card does not fit (or "")."""
    card = cards.get(judge_of(group[0].judge))
    if card is None or len({score.judge for score in group}) > 1:
        return None, ""
    rows = [counts for score in group for counts in score.questions]
    if not any(row.checkable for row in rows):
        return Value("factuality", NAN), ""
    found = rogan_gladen(rows, card)
    return Value("factuality", found.value, found.low, found.high), misfit(rows, card) if found.clipped else ""


def _columns(scores: Sequence[TaskScore]) -> list[str]:
    known = dict.fromkeys(name for score in scores for name in score.metrics)
    for headline, others in COLUMNS.items():
        if headline in known:
            return [headline, *(name for name in others if name in known)]
    plain = [name for name in known if not re.search(r"_ci95_(low|high)|_stderr", name)]
    return sorted(plain, key=lambda name: f"{name}_ci95_low" not in known)[:MOST_COLUMNS]


def _estimate(name: str, runs: Sequence[dict[str, float]]) -> Estimate:
    """Of one run as its file has it, of several over their seeds."""
    return of_one_run(runs[0], name) if len(runs) == 1 else over_seeds(run.get(name, NAN) for run in runs)


def _with_best(rows: Sequence[Standing]) -> Iterable[Standing]:
    """Rows with the best value of each column marked, among rows that are alike only."""
    columns: dict[tuple[tuple[str, str, int], int], set[float]] = defaultdict(set)
    for row in rows:
        for i, v in enumerate(row.values):
            if not math.isnan(v.value):
                columns[row.alike, i].add(v.value)

    def is_best(v: Value, found: set[float]) -> bool:
        better = DIRECTIONS.get(v.metric, True if HIGHER.match(v.metric) else None)
        if better is None or v.metric in NO_BEST or len(found) < 2:  # all alike: none is best
            return False
        return v.value == (max if better else min)(found)

    for row in rows:
        values = (replace(v, best=is_best(v, columns[row.alike, i])) for i, v in enumerate(row.values))
        yield replace(row, values=tuple(values))


def _shown(name: str, value: float, mean: bool = False) -> str:
    if math.isnan(value):
        return "n/a"
    if name in ("correct", "incorrect"):
        return f"{value:,.1f}" if mean else f"{value:,.0f}"
    if name in metrics.METRICS:
        return format_metric(name, value)
    counted = name.startswith("num_") or "kappa" in name or name.endswith("facts") or DIRECTIONS.get(name) is False
    return f"{100 * value:.1f} %" if -1 <= value <= 1 and not counted else f"{value:,.2f}".removesuffix(".00")
