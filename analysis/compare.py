"""Is one checkpoint more factual than another? Paired by question, clustered by topic, with what can fake a gain.

    python -m analysis.compare BASELINE RUN_B [RUN_C …] [--task T] [--detect 0.03] [--out FILE.json]
    python -m analysis.compare --results DIR --experiment NAME [--task T] --cell LABEL=VALUE[,LABEL=VALUE] --cell …

Runs are lm_eval output folders; the first is the baseline. A cell of a sweep is the pool of its seeds; a topic within a
seed is the cluster, or the topic with all its seeds where every seed answers about the same topics. Every run must have
answered the same questions (`--common`: those they share), in the same version of the task, labelled by the same judge.

Interval: bootstrap over topics, which draws a topic's answers of both checkpoints together. p-value: the two
checkpoints' answers to a topic are swapped at random, 10 000 times, and the difference over its own standard error is
compared, which is right also for checkpoints with unlike numbers of facts. Holm's correction over the runs. The judge's
own error is in none of this: both checkpoints share the judge, and `python -m harness.correction` deals with it.

Interval and p-value are about these checkpoints: they know nothing of how the training seed moves a recipe's result, so
a recipe without effect can look certain within its seeds. For cells the difference paired by seed, with its t interval
over the seeds, stands beside, and the verdict is careful where that interval holds 0.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from factuality_harness.analysis.cells import find_cells, parse_labels, shown
from factuality_harness.analysis.intervals import Estimate, paired_difference
from factuality_harness.analysis.output import about_judge, check_out
from factuality_harness.analysis.results import (
    ANNOTATED,
    COLLECTED,
    CellResult,
    TaskScore,
    load_results,
    load_run,
    samples_of,
)
from factuality_harness.harness.annotation import load_annotations
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.factscore.abstain import abstains
from factuality_harness.harness.io.jsonl import json_safe, read_jsonl
from factuality_harness.harness.io.manifest import manifest, sha256, write_manifest
from factuality_harness.harness.metrics import (
    BOOTSTRAP_RESAMPLES,
    BOOTSTRAP_SEED,
    NAN,
    Counts,
    cluster_resamples,
    cluster_variance,
    factuality,
    ratio,
)

LEVEL, POWER = 0.95, 0.8

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One question of a run. cluster: the topic (with the seed, for cells). declined: responses that are empty or
    abstain, None where the responses are not at hand (collected results). seed: the training seed, for cells."""

    cluster: str
    counts: Counts
    declined: int | None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A checkpoint on a task. answers: by the question's key (hash of lm_eval's doc, or place within its topic)."""

    name: str
    task: str
    version: str
    judge: str
    answers: dict[Key, Answer]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """A ratio of sums over questions. bad: the direction (+1 more, -1 less) in which a change can fake a gain; 0 for
    the score itself and for what only explains it."""

    name: str
    numerator: str
    denominator: str
    bad: int = 0


SCORE = Measure("factuality", "ok", "checkable")
MEASURES = (
    SCORE,
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
class Difference:
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
    score: Difference
    p_value: float
    p_holm: float
    unpaired: tuple[float, float]
    tighter: float
    detect: float
    needed: int | None
    needed_unpaired: int | None
    over_seeds: Estimate | None = None
    checks: tuple[Difference, ...] = field(default=())
    verdict: str = ""


# Statistics: arrays (clusters, ...) in, numbers out.


def _resampled(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Ratios (resamples, ...) over resampled clusters, of (clusters, ..., 2) numerators and denominators."""
    drawn = np.concatenate([*cluster_resamples(sums.reshape(len(sums), -1), resamples, seed)])
    drawn = drawn.reshape(len(drawn), *sums.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        return drawn[..., 0] / drawn[..., 1]


def _interval(values: np.ndarray) -> tuple[float, float]:
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


def _value(answer: Answer, name: str) -> float:
    if name == "declined":
        return NAN if answer.declined is None else answer.declined
    if name == "hidden":
        return answer.counts.checkable + answer.counts.unparsed
    return float(getattr(answer.counts, name))


def _table(run: Run, keys: Sequence[Key], clusters: dict[str, int], measure: Measure) -> np.ndarray:
    sums = np.zeros((len(clusters), 2))
    for key in keys:
        answer = run.answers[key]
        sums[clusters[answer.cluster]] += _value(answer, measure.numerator), _value(answer, measure.denominator)
    return sums


def _over_seeds(baseline: Run, run: Run, keys: Sequence[Key]) -> Estimate | None:
    scores = []
    for one in (baseline, run):
        by_seed: dict[int, list[Counts]] = {}
        for answer in (one.answers[key] for key in keys):
            if answer.seed is not None:
                by_seed.setdefault(answer.seed, []).append(answer.counts)
        scores.append({seed: factuality(rows) for seed, rows in by_seed.items()})
    return paired_difference(scores[1], scores[0]) if all(scores) else None


def compare(
    baseline: Run,
    run: Run,
    *,
    detect: float = 0.03,
    seed: int = BOOTSTRAP_SEED,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Comparison:
    """One run against the baseline, over the questions of the baseline, which `run` must have (see `check`)."""
    keys = sorted(baseline.answers)
    clusters = {c: i for i, c in enumerate(sorted({baseline.answers[k].cluster for k in keys}))}
    tables = [np.stack([_table(r, keys, clusters, m) for m in MEASURES], axis=1) for r in (baseline, run)]
    resampled = [_resampled(table, resamples, seed) for table in tables]  # the same clusters for both
    differences = []
    for i, measure in enumerate(MEASURES):
        before, after = (ratio(*table[:, i].sum(0).tolist()) for table in tables)
        low, high = _interval(resampled[1][:, i] - resampled[0][:, i])
        differences.append(Difference(measure.name, before, after, after - before, low, high))
    a, b = (table[:, 0] for table in tables)
    unpaired = _interval(_resampled(b, resamples, seed + 1) - resampled[0][:, 0])
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


def compare_all(runs: Sequence[Run], *, detect: float = 0.03, seed: int = BOOTSTRAP_SEED) -> list[Comparison]:
    """Every run against the first, with Holm's correction over them and a verdict each."""
    found = [compare(runs[0], run, detect=detect, seed=seed) for run in runs[1:]]
    adjusted = holm([c.p_value for c in found])
    return [
        replace(done, verdict=verdict(done))
        for done in (replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True))
    ]


def verdict(c: Comparison) -> str:
    """The comparison in one plain sentence."""
    score = c.score
    if math.isnan(score.difference) or math.isnan(c.p_holm):
        return f"Nothing can be said about {c.run} against {c.baseline}: one of them has no checkable sentence."
    if score.difference == score.low == score.high == 0:
        return f"{c.run} and {c.baseline} do not differ: they have the same factuality on every topic."
    numbers = f"{score.difference:+.4f} [{score.low:+.4f}, {score.high:+.4f}], p = {c.p_holm:.4f}"
    checks = {d.measure: d for d in c.checks}
    watched = [(m, f"{'more' if m.bad > 0 else 'fewer'} {m.name}", checks[m.name]) for m in MEASURES if m.bad]
    warnings = [f"{what} ({d.difference:+.3f})" for m, what, d in watched if d.sign == m.bad]
    if c.p_holm >= 1 - LEVEL:
        planned = (
            f": about {c.needed} questions would be needed to detect {c.detect:g}, and there are {c.questions}"
            if c.needed is not None
            else ""
        )
        return f"No difference in factuality between {c.run} and {c.baseline} can be told from noise ({numbers})" + (
            f"{planned}; note {_listed(warnings)}." if warnings else f"{planned}."
        )
    end = _beyond_the_seeds(c) + "."
    if score.difference < 0:
        return (
            f"{c.run} is less factual than {c.baseline} ({numbers})"
            + (f", with {_listed(warnings)} on top" if warnings else "")
            + end
        )
    if unknown := [what for _, what, d in watched if not d.known]:
        end = f"; whether it has {_listed(unknown)} could not be checked{end}"
    if not warnings:
        clear = _listed([what for _, what, d in watched if d.known], "or")
        signs = f", without a sign of {clear}" if clear else ""
        return f"{c.run} is more factual than {c.baseline} ({numbers}){signs}{end}"
    strict, right = checks["factuality, unparsed as wrong"], checks["correct facts per response"]
    doubts = []
    if checks["unparsed sentences"].sign > 0:
        held = "remains" if strict.sign > 0 else "is not certain"
        doubts.append(f"it {held} if unparsed sentences count as wrong ({strict.difference:+.4f})")
    if right.sign > 0:
        return (
            f"{c.run} scores higher than {c.baseline} ({numbers}) and gives more correct facts per response "
            f"({right.difference:+.3f}), so the gain is not bought by saying less, though it has {_listed(warnings)}"
            + "".join(f", and {doubt}" for doubt in doubts)
            + end
        )
    if right.sign < 0:
        doubts.append(f"it gives fewer correct facts per response ({right.difference:+.3f})")
    elif checks["facts per response"].sign < 0:
        doubts.append(f"it does not give fewer correct facts per response beyond noise ({right.difference:+.3f})")
    return (
        f"{c.run} scores higher than {c.baseline} ({numbers}), but the gain may be bought by saying less: it has "
        f"{_listed(warnings)}" + (f", and {_listed(doubts)}" if doubts else "") + end
    )


def _beyond_the_seeds(c: Comparison) -> str:
    """What a verdict must add where the seeds do not carry it from these checkpoints to the recipe."""
    seeds = c.over_seeds
    if seeds is None or (seeds.low > 0) - (seeds.high < 0) == (c.score.difference > 0) - (c.score.difference < 0):
        return ""
    if math.isnan(seeds.low):
        return "; of one training seed, so this is about these checkpoints and not about the recipe"
    return (
        f"; this is about these checkpoints and may not hold for the recipe, since over its {seeds.n} training seeds "
        f"the difference is {seeds.mean:+.4f} [{seeds.low:+.4f}, {seeds.high:+.4f}]"
    )


def _listed(parts: Sequence[str], last: str = "and") -> str:
    return ", ".join(parts[:-1]) + (f" {last} " if len(parts) > 1 else "") + (parts[-1] if parts else "")


# Reading runs.


def check(runs: Sequence[Run], *, common: bool = False) -> list[Run]:
    """The runs, restricted to their common questions with `common`.

    Raises HarnessError for one of each: different tasks, versions, judges, question sets (without `common`), topics of
    a question, and for fewer than two topics in common.
    """
    first = runs[0]
    for run in runs[1:]:
        for what, mine, theirs in (
            ("task", first.task, run.task),
            ("task version", first.version, run.version),
            ("judge", first.judge, run.judge),
        ):
            if mine != theirs:
                raise HarnessError(
                    f"different {what}s: {first.name} has {mine or 'none'}, {run.name} has {theirs or 'none'}; scores "
                    "can only be compared with the same one (re-score stored answers with --model replay)"
                )
        missing, extra = len(first.answers.keys() - run.answers.keys()), len(run.answers.keys() - first.answers.keys())
        if (missing or extra) and not common:
            raise HarnessError(
                f"different questions: {missing} of {first.name}'s are not in {run.name}, {extra} the other way round; "
                "--common compares those they share"
            )
    shared = set.intersection(*(set(run.answers) for run in runs))
    for key in sorted(shared):
        if len({run.answers[key].cluster for run in runs}) > 1:
            raise HarnessError(f"question {key[-1]}: its topic is {' and '.join(r.answers[key].cluster for r in runs)}")
    if len({first.answers[key].cluster for key in shared}) < 2:
        raise HarnessError(
            f"{len(shared)} questions in common, of fewer than two topics: nothing to estimate noise from"
        )
    return [replace(run, answers={k: run.answers[k] for k in sorted(shared)}) for run in runs]


def open_run(path: str | Path, task: str | None = None) -> Run:
    """A task of an lm_eval output folder. Raises HarnessError as `load_run`, and when the task is not a judged one."""
    path = Path(path)
    scores = load_run(path)
    score = _chosen(scores, task, str(path))
    return _run(str(path), score, path)


def open_cell(results: str | Path, experiment: str, labels: dict[str, str], task: str | None = None) -> Run:
    """A cell of a sweep, all its seeds together. labels: as many of the cell's labels as tell it from the others.

    Raises HarnessError for an unknown experiment, labels that fit no cell or several, and seeds that have not run.
    """
    loaded = load_results(results)
    fitting = find_cells(loaded, experiment, labels, "--cell", single=True)
    name = shown(labels)
    scores = {cell.seed: _score(cell, task, loaded.root, name) for cell in fitting}
    same = len({tuple(q.topic for q in score.questions) for score in scores.values()}) == 1
    parts = [
        _run(name, score, loaded.root, seed, "" if same else f"seed {seed}, ") for seed, score in sorted(scores.items())
    ]
    for part in parts[1:]:
        check_same = {(p.task, p.version, p.judge) for p in (parts[0], part)}
        if len(check_same) > 1:
            raise HarnessError(f"{name}: its seeds differ in task, version or judge: {sorted(check_same)}")
    answers = {key: answer for part in parts for key, answer in part.answers.items()}
    return replace(parts[0], name=name, answers=answers, files=tuple(dict.fromkeys(f for p in parts for f in p.files)))


def _score(cell: CellResult, task: str | None, root: Path, name: str) -> TaskScore:
    if not cell.scores:
        raise HarnessError(f"{root}: cell {name}, seed {cell.seed} has not run; run the sweep first")
    return _chosen(cell.scores, task, f"{name}, seed {cell.seed}")


def _chosen(scores: dict[str, TaskScore], task: str | None, where: str) -> TaskScore:
    judged = [name for name, score in scores.items() if score.questions]
    if task is None and len(judged) == 1:
        task = judged[0]
    if task not in judged:
        wanted = f"task {task} is not among them" if task else "name one with --task"
        listed = ", ".join(judged) or "none (was --log_samples given?)"
        raise HarnessError(f"{where}: judged tasks with samples: {listed}; {wanted}")
    return scores[task]


def _run(name: str, score: TaskScore, root: Path, seed: int | None = None, prefix: str = "") -> Run:
    """seed: of a cell, part of the questions' keys. prefix: of the clusters' names. Questions are known by lm_eval's
    hash of their doc where the samples file is at hand, else by their place within the topic (collected results)."""
    samples = samples_of(root / score.file, score.task)
    known = _samples(samples) if samples.is_file() else [("", None)] * len(score.questions)
    if len(known) != len(score.questions):
        raise HarnessError(f"{samples}: {len(known)} questions, but {len(score.questions)} when it was first read")
    seen: Counter[str] = Counter()
    answers: dict[Key, Answer] = {}
    for (key, declined), counts in zip(known, score.questions, strict=True):
        question = key or counts.topic
        seen[question] += 1
        of = "" if seed is None else f"seed {seed}"
        answers[of, question, str(seen[question])] = Answer(prefix + counts.topic, counts, declined, seed)
    files = [file for file in (samples, root / COLLECTED) if file.is_file()]
    return Run(name, score.task, score.version, score.judge, answers, tuple(files[:1]))


def _samples(file: Path) -> list[tuple[str, int | None]]:
    """(key or "", responses that decline) for each question, in doc order."""
    rows = []
    for number, row in read_jsonl(file, required=("doc_id", "filter", "filtered_resps")):
        if row["filter"] != ANNOTATED:
            continue
        try:
            responses = [a.response for text in row["filtered_resps"] for a in load_annotations(text)]
        except (HarnessError, TypeError) as error:
            raise HarnessError(f"{file}, row {number}: {error}") from error
        key = row.get("doc_hash") or (row.get("doc") or {}).get("question") or ""
        rows.append((row["doc_id"], str(key), sum(map(abstains, responses))))
    return [(key, declined) for _, key, declined in sorted(rows)]


# Output.


def report(found: Sequence[Comparison]) -> str:
    """Text for the terminal."""
    lines = []
    for c in found:
        lines += [
            f"{c.run}  against  {c.baseline}: {c.questions} questions, {c.clusters} topics",
            f"  {'':30}{'baseline':>10}{'run':>10}{'difference':>12}   95 % interval, paired",
        ]
        for d in (c.score, *c.checks):
            values = f"{_number(d.baseline):>10}{_number(d.run):>10}{_number(d.difference, '+.4f'):>12}"
            lines.append(f"  {d.measure:30}{values}   [{_number(d.low, '+.4f')}, {_number(d.high, '+.4f')}]")
        lines += [
            f"  p = {_number(c.p_value)}"
            + (f", {_number(c.p_holm)} after Holm over {len(found)} runs" if len(found) > 1 else ""),
            f"  unpaired interval [{_number(c.unpaired[0], '+.4f')}, {_number(c.unpaired[1], '+.4f')}], "
            f"{_number(c.tighter, '.2f')} times as wide",
            f"  to detect {c.detect:g} (power {POWER}): {_planned(c.needed)} questions paired, "
            f"{_planned(c.needed_unpaired)} unpaired",
            "  p and intervals are about these checkpoints, not the recipe: how training seeds vary is not in them",
        ]
        if (seeds := c.over_seeds) is not None:
            interval = f"[{_number(seeds.low, '+.4f')}, {_number(seeds.high, '+.4f')}] (Student's t)"
            lines.append(
                f"  factuality over {seeds.n} training seeds, paired: {_number(seeds.mean, '+.4f')} {interval}"
            )
        lines += [f"  {c.verdict}", ""]
    return "\n".join(lines)


def _planned(questions: int | None) -> str:
    return "n/a" if questions is None else str(questions)


def _number(value: float, form: str = ".4f") -> str:
    return "n/a" if math.isnan(value) else format(value, form)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help="lm_eval output folders, the baseline first")
    parser.add_argument("--results", type=Path, help="a sweep's store, or its collected files")
    parser.add_argument("--experiment", help="of the sweep")
    parser.add_argument("--cell", action="append", default=[], help="LABEL=VALUE[,LABEL=VALUE]; the baseline first")
    parser.add_argument("--task", help="where a run holds several judged tasks")
    parser.add_argument("--common", action="store_true", help="compare the questions that all runs share")
    parser.add_argument("--detect", type=float, default=0.03, help="difference to plan for (default 0.03)")
    parser.add_argument("--seed", type=int, default=BOOTSTRAP_SEED, help="of resampling")
    parser.add_argument("--out", type=Path, help="write the comparison as JSON, with its manifest")
    args = parser.parse_args(argv)
    if bool(args.runs) == bool(args.cell) or len(args.runs) + len(args.cell) < 2:
        raise HarnessError("give two or more runs, or --results, --experiment and two or more --cell")
    if args.cell and not (args.results and args.experiment):
        raise HarnessError("--cell needs --results and --experiment")
    if not args.detect > 0:
        raise HarnessError(f"--detect {args.detect:g}: must be above 0")
    if args.seed < 0:
        raise HarnessError(f"--seed {args.seed}: must be 0 or above")
    check_out(args.out)
    if args.cell:
        runs = [open_cell(args.results, args.experiment, parse_labels(cell, "--cell"), args.task) for cell in args.cell]
    else:
        runs = [open_run(path, args.task) for path in args.runs]
    found = compare_all(check(runs, common=args.common), detect=args.detect, seed=args.seed)
    print(f"task {runs[0].task}, version {runs[0].version}, judge {runs[0].judge}")
    print(f"{about_judge(runs[0].judge)}\n")
    print(report(found))
    if args.out:
        files = {str(f): sha256(f) for run in runs for f in run.files}
        data: dict[str, Any] = {"task": runs[0].task, "version": runs[0].version, "judge": runs[0].judge}
        data |= {"about_judge": about_judge(runs[0].judge)}
        data |= {"comparisons": [json_safe(asdict(c)) for c in found], "manifest": manifest(files=files)}
        write_manifest(args.out, data)


if __name__ == "__main__":
    sys.exit(main())
