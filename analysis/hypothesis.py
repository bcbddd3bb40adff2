"""Does alignment help a topic more, the nearer it lies to the topics trained on? A direct test, topic by topic.

    python -m analysis.hypothesis --results DIR --experiment NAME --cell LABEL=VALUE … --baseline LABEL=VALUE …
        --embedding SPEC [--text TEXT] [--template TEXT] [--k 1] [--task TASK] --out gain.csv

For every test topic: the gain of factuality (cell minus baseline, same task, same seed) and the distance to the nearest
k training topics (topics of the cell's own preference pairs). SPEC is one of `harness.embeddings`; `hidden:policy` is
the model the cell's training started from, seed by seed. In a fact world `--text "Entry: {topic}, {kind} of"` lets that
model show where it thinks the topic belongs, without being told (`{kind}`: "a painter"). `gain.csv` holds the points,
`gain.json` slope and rank correlation with their intervals, `gain.manifest.json` how they were made.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factuality_harness.analysis.cells import find_cells, parse_labels
from factuality_harness.analysis.output import writing
from factuality_harness.analysis.results import CellResult, Results, TaskScore, load_results
from factuality_harness.harness.embeddings.models import Embedding, embed_groups, open_embedding
from factuality_harness.harness.embeddings.neighbours import centred, nearest_distance
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.metrics import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED
from factuality_harness.harness.world import World, WorldConfig
from factuality_harness.harness.world.generate import question_pieces

POLICY = "hidden:policy"
CHUNK = 500  # resamples at a time


@dataclass(frozen=True, slots=True)
class Point:
    """A test topic under one seed. distance: mean cosine distance to the k nearest training topics. baseline, aligned:
    correct / checkable over the topic's questions; gain is their difference. unit: what is resampled, the topic or a
    group of topics that share their fate (a world's cluster); the same name in two seeds is the same unit.
    """

    topic: str
    seed: int
    distance: float
    baseline: float
    aligned: float
    gain: float
    checkable_baseline: int
    checkable_aligned: int
    unit: str


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
    sample = _Sample(points)
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


class _Sample:
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
            ranked += _products(w, _ranks(x, w) / size, _ranks(y, w) / size)
        # Below this the differences are rounding, not data.
        plain[1:][plain[1:] < 1e-18] = np.nan
        ranked[1:][ranked[1:] < 1e-18] = np.nan
        return np.stack([plain[0] / plain[1], ranked[0] / np.sqrt(ranked[1] * ranked[2]), gains / total], axis=1)


def _products(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([(w * x * y).sum(axis=1), (w * x * x).sum(axis=1), (w * y * y).sum(axis=1)])


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks, less their mean, of `values` each repeated `weights` times, ties sharing the mean of their ranks; shape of
    weights (n, len(values))."""
    different, group = np.unique(values.round(12), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(different)))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    return middle[:, group] - (weights.sum(axis=1, keepdims=True) + 1) / 2


# ---------------------------------------------------------------- points from results


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the results. cell, baseline: axis to value, enough to name one cell a seed. text: what is
    embedded for a topic, with `{topic}` and in a fact world `{kind}`. template: of `harness.embeddings.HiddenStates`.
    k: how many nearest training topics. centre: subtract the mean embedding first.
    """

    experiment: str
    cell: Mapping[str, str]
    baseline: Mapping[str, str]
    embedding: str
    task: str | None = None
    text: str = "{topic}"
    template: str | None = None
    k: int = 1
    centre: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """points: one a topic and seed. left_out: seed to topics without a checkable sentence on one side. missing: seeds
    without a score. scores: what the points were computed from. clustered: what is resampled, in words."""

    task: str
    points: list[Point]
    left_out: dict[int, list[str]]
    missing: list[int]
    scores: list[TaskScore]
    clustered: str


def measure(results: Results, question: Question) -> Answer:
    """Gain and distance of every test topic under every seed that both cells have a score for.

    Raises HarnessError for cells that are not there or not one a seed, a task that was not judged, two judges, versions
    or sets of questions, a cell that was not trained on pairs, missing files, and whatever the embedding refuses.
    """
    sides = ((question.cell, "--cell"), (question.baseline, "--baseline"))
    aligned, baseline = (
        {c.seed: c for c in find_cells(results, question.experiment, labels, option, single=True)}
        for labels, option in sides
    )
    task = question.task or _only_task(aligned, baseline)
    points: list[Point] = []
    scores: list[TaskScore] = []
    left_out: dict[int, list[str]] = {}
    both = [
        seed for seed in aligned if seed in baseline and task in aligned[seed].scores and task in baseline[seed].scores
    ]
    for seed in both:
        after, before = aligned[seed].scores[task], baseline[seed].scores[task]
        _check_alike(after, before)
        counts = {topic: (a, b) for (topic, a), (_, b) in zip(_by_topic(after), _by_topic(before), strict=True)}
        usable = {topic: pair for topic, pair in counts.items() if all(checkable for _, checkable in pair)}
        left_out |= {seed: sorted(counts.keys() - usable.keys())} if len(usable) < len(counts) else {}
        distance = _distances(results, aligned[seed], list(usable), question)
        unit = _units(results, aligned[seed])
        for (topic, ((ok_a, all_a), (ok_b, all_b))), d in zip(usable.items(), distance, strict=True):
            gain = ok_a / all_a - ok_b / all_b
            points.append(Point(topic, seed, d, ok_b / all_b, ok_a / all_a, gain, all_b, all_a, unit.get(topic, topic)))
        scores += [after, before]
    if not both:
        raise HarnessError(f"experiment {question.experiment}: no seed has {task} scored in both cells; run the sweep")
    clusters = any(point.unit != point.topic for point in points)
    return Answer(
        task=task,
        points=points,
        left_out=left_out,
        missing=sorted((aligned.keys() | baseline.keys()) - {*both}),
        scores=scores,
        clustered="clusters of the fact world, within a seed" if clusters else "topics, over all seeds they occur in",
    )


def _only_task(*sides: dict[int, CellResult]) -> str:
    tasks = [{t for c in cells.values() for t, score in c.scores.items() if score.questions} for cells in sides]
    common = sorted(set.intersection(*tasks))
    if len(common) != 1:
        raise HarnessError(
            f"both cells have {len(common)} judged tasks; choose with --task: {', '.join(common) or 'none'}"
        )
    return common[0]


def _check_alike(after: TaskScore, before: TaskScore) -> None:
    where = f"{after.file} and {before.file}"
    for what in ("judge", "version"):
        if getattr(after, what) != getattr(before, what):
            raise HarnessError(
                f"{where}: {what} {getattr(after, what)!r} and {getattr(before, what)!r}; compare like with like"
            )
    if not after.questions or not before.questions:
        raise HarnessError(
            f"{where}: no judged questions; score {after.task} with its samples logged, and with a judge"
        )
    if [q.topic for q in after.questions] != [q.topic for q in before.questions]:
        raise HarnessError(f"{where}: not the same questions in the same order")


def _by_topic(score: TaskScore) -> list[tuple[str, tuple[int, int]]]:
    sums: dict[str, tuple[int, int]] = {}
    for q in score.questions:
        ok, checkable = sums.get(q.topic, (0, 0))
        sums[q.topic] = ok + q.ok, checkable + q.checkable
    return list(sums.items())


def _distances(results: Results, cell: CellResult, topics: list[str], question: Question) -> list[float]:
    spec = question.embedding
    if spec == POLICY or spec.startswith(f"{POLICY}@"):
        spec = f"hidden:{_policy(results, cell)}{spec.removeprefix(POLICY)}"
    groups = [_texts(results, cell, names, question.text) for names in (training_topics(results, cell), topics)]
    train, test = embed_groups(_opened(spec, question.template), *groups)
    if question.centre:
        train, test = centred(train, test)
    return [float(d) for d in nearest_distance(train, test, question.k)]


@cache
def _opened(spec: str, template: str | None) -> Embedding:
    return open_embedding(spec, **({} if template is None else {"template": template}))


def training_topics(results: Results, cell: CellResult) -> list[str]:
    """Topics of the cell's preference pairs, in order. Raises HarnessError when it was trained on none or they are not
    here (collected results hold no pairs), and for pairs without a topic."""
    stage = cell.stages.get("pair")
    if stage is None:
        raise HarnessError(
            f"experiment {cell.experiment}: the cell {cell.labels} was not trained on pairs; name another"
        )
    file = results.root / "stages" / stage / "pairs.jsonl"
    if not file.is_file():
        raise HarnessError(f"{file}: no such file; give the sweep's store, which holds the pairs")
    topics: dict[str, None] = {}
    for number, row in read_jsonl(file):
        topic = row.get("topic")
        if not topic or re.fullmatch(r"document-[0-9a-f]{12}", topic):
            raise HarnessError(f"{file}, row {number}: its topic has no name, so there is nothing to embed")
        topics[topic] = None
    return list(topics)


def _policy(results: Results, cell: CellResult) -> str:
    """Folder or hub name of the model the cell's training started from."""
    stage = cell.stages.get("base") or cell.stages.get("train", "")
    while (record := results.stages.get(stage, {})).get("kind") == "train":
        stage = record["needs"]["model"]
    if stage.startswith("model:"):
        return stage.removeprefix("model:")
    folder = results.root / "stages" / stage
    if not stage or not (folder / "config.json").is_file():
        raise HarnessError(f"{folder}: no checkpoint of the cell's base model; give the sweep's store, which holds it")
    return str(folder)


def _world(results: Results, cell: CellResult) -> World | None:
    world = results.stages.get(cell.stages.get("base", ""), {}).get("settings", {}).get("world")
    return None if world is None else World(WorldConfig.from_dict(world))


def _texts(results: Results, cell: CellResult, topics: Sequence[str], text: str) -> list[str]:
    """What is embedded for each topic."""
    if "{topic}" not in text:
        raise HarnessError(f"--text {text!r}: must hold {{topic}}, or all topics are one")
    kinds: dict[str, str] = {}
    if "{kind}" in text:
        world = _world(results, cell)
        # A question is put together of its words, the name, ", a KIND of", and the cluster.
        kinds = (
            {t.name: question_pieces(t)[0][2].strip(", ").removesuffix(" of") for t in world.topics} if world else {}
        )
        if unknown := next((topic for topic in topics if topic not in kinds), None):
            raise HarnessError(
                f"--text {text!r}: the kind of {unknown!r} is not known; only a fact world's topics have one"
            )
    return [text.replace("{kind}", kinds.get(topic, "")).replace("{topic}", topic) for topic in topics]


def _units(results: Results, cell: CellResult) -> dict[str, str]:
    """Topic to the name of its cluster where the cell lives in a fact world; else nothing."""
    world = _world(results, cell)
    return {t.name: f"world {world.config.seed}, {t.cluster}" for t in world.topics} if world else {}


# ---------------------------------------------------------------- files


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Points as CSV, one row each, columns as in `Point`."""
    pd.DataFrame([asdict(p) for p in points]).to_csv(path, index=False, float_format="%.6f", lineterminator="\n")


def read_points(path: str | Path) -> list[Point]:
    """Inverse of `write_points` (six digits). Raises HarnessError for a missing file or column."""
    columns = [f.name for f in fields(Point)]
    try:
        table = pd.read_csv(path, dtype={"topic": str, "unit": str}, keep_default_na=False)[columns]
    except (OSError, KeyError, ValueError) as error:
        raise HarnessError(f"{path}: no table of {', '.join(columns)} ({error})") from error
    return [Point(**{str(key): value for key, value in row.items()}) for row in table.to_dict("records")]


def summary(question: Question, answer: Answer, fit: Fit) -> dict[str, Any]:
    """What `gain.json` holds."""
    per_sd, low, high = fit.per_sd
    return {
        **asdict(question),
        "task": answer.task,
        "judge": answer.scores[0].judge,
        "clustered_on": answer.clustered,
        "fit": asdict(fit) | {"slope_per_sd": per_sd, "slope_per_sd_ci95": (low, high)},
        "seeds_missing": answer.missing,
        "topics_without_checkable_sentences": answer.left_out,
        "files": {score.file: score.sha256 for score in answer.scores},
    }


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.hypothesis", description=str(__doc__).split("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="a sweep's store")
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--cell", nargs="+", required=True, metavar="LABEL=VALUE", help="the aligned cell")
    parser.add_argument("--baseline", nargs="+", required=True, metavar="LABEL=VALUE", help="what it is held against")
    parser.add_argument(
        "--embedding", required=True, help="see harness.embeddings; hidden:policy[@LAYER] is the base model"
    )
    parser.add_argument("--text", default="{topic}", help="what is embedded, with {topic}; {kind} too in a fact world")
    parser.add_argument("--template", help="text around the topic, with {topic} (hidden states only)")
    parser.add_argument("--task", help="needed where both cells have several judged tasks")
    parser.add_argument("--k", type=int, default=1, help="nearest training topics to average over (default 1)")
    parser.add_argument("--no-centre", dest="centre", action="store_false", help="do not subtract the mean embedding")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    args = parser.parse_args(argv)
    if args.out.suffix != ".csv":
        raise HarnessError(f"{args.out}: --out names the CSV file of points; the summary goes beside it as .json")
    question = Question(
        experiment=args.experiment,
        cell=parse_labels(args.cell, "--cell"),
        baseline=parse_labels(args.baseline, "--baseline"),
        embedding=args.embedding,
        task=args.task,
        text=args.text,
        template=args.template,
        k=args.k,
        centre=args.centre,
    )
    with writing(args.out):
        args.out.parent.mkdir(parents=True, exist_ok=True)  # before the work
    answer = measure(load_results(args.results), question)
    fit = gain_against_distance(answer.points)
    text = json.dumps(summary(question, answer, fit), indent=2, ensure_ascii=False)
    made_with = manifest(resamples=BOOTSTRAP_RESAMPLES, seed=BOOTSTRAP_SEED)
    with writing(args.out):
        write_points(args.out, answer.points)
        args.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        write_manifest(args.out.with_suffix(".manifest.json"), made_with)
    for seed in answer.missing:
        print(f"seed {seed}: not scored in both cells, left out", file=sys.stderr)
    (low, high), (rho_low, rho_high) = fit.slope_ci95, fit.rho_ci95
    print(
        f"{fit.points} topics, {fit.seeds} seeds: gain per unit of distance {fit.slope:+.3f} "
        f"[{low:+.3f}, {high:+.3f}], Spearman's rho {fit.rho:+.3f} [{rho_low:+.3f}, {rho_high:+.3f}], "
        f"clustered on {answer.clustered}"
    )


if __name__ == "__main__":
    sys.exit(main())
