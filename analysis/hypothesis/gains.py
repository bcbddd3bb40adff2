"""Points from results: what a cell gained over another, topic by topic, and how far each topic lay from training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from factuality_harness.analysis.cells import find_cells
from factuality_harness.analysis.hypothesis.points import Point
from factuality_harness.analysis.results import CellResult, Results, TaskScore
from factuality_harness.harness.embeddings.distances import DISTANCES, TopicDistances, read_distances
from factuality_harness.harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class TopicGains:
    """points: one per topic and seed. distances: how they were measured, the same for every seed. left_out: seed to
    topics without a checkable sentence on one side. missing: seeds without a score. scores: what the points were
    computed from. clustered: what is resampled, in words."""

    task: str
    points: list[Point]
    distances: TopicDistances
    left_out: dict[int, list[str]]
    missing: list[int]
    scores: list[TaskScore]
    clustered: str


def topic_gains(
    results: Results, experiment: str, cell: Mapping[str, str], baseline: Mapping[str, str], task: str | None = None
) -> TopicGains:
    """Gain and distance of every test topic under every seed that both cells have a score for.

    cell, baseline: axis to value, enough to name one cell a seed. Raises HarnessError for cells that are not there or
    not one a seed, a task that was not judged, two judges, versions or sets of questions, and a cell without distances,
    with other ones under another seed, or without one of its test topics.
    """
    aligned, before = (
        {c.seed: c for c in find_cells(results, experiment, labels, option, single=True)}
        for labels, option in ((cell, "--cell"), (baseline, "--baseline"))
    )
    task = task or _only_task(aligned, before)
    seeds = [seed for seed in aligned if seed in before and all(task in c[seed].scores for c in (aligned, before))]
    if not seeds:
        raise HarnessError(f"experiment {experiment}: no seed has {task} scored in both cells; run the sweep")
    distances = {seed: _distances(results, aligned[seed]) for seed in seeds}
    points: list[Point] = []
    left_out: dict[int, list[str]] = {}
    for seed in seeds:
        found, silent = _points(seed, aligned[seed].scores[task], before[seed].scores[task], distances[seed])
        points += found
        left_out |= {seed: silent} if silent else {}
    clusters = any(point.unit != point.topic for point in points)
    return TopicGains(
        task=task,
        points=points,
        distances=_of_all(experiment, distances),
        left_out=left_out,
        missing=sorted((aligned.keys() | before.keys()) - {*seeds}),
        scores=[side[seed].scores[task] for seed in seeds for side in (aligned, before)],
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


def _distances(results: Results, cell: CellResult) -> TopicDistances:
    if "pair" not in cell.stages:
        raise HarnessError(
            f"experiment {cell.experiment}: the cell {cell.labels} was not trained on pairs; name another"
        )
    if "distances" not in cell.stages:
        raise HarnessError(
            f"experiment {cell.experiment}: no distances were measured for the cell {cell.labels}; add `distances` to "
            "the experiment (training/experiments/README.md) and run the sweep"
        )
    return read_distances(results.root / "stages" / cell.stages["distances"] / DISTANCES)


def _of_all(experiment: str, distances: Mapping[int, TopicDistances]) -> TopicDistances:
    """The first seed's. Raises HarnessError when another seed's were measured in another way."""
    (first, one), *others = distances.items()
    for seed, other in others:
        for name in ("embedding", "text", "template", "k", "centre"):
            if getattr(one, name) != getattr(other, name):
                raise HarnessError(
                    f"experiment {experiment}: distances with {name} {getattr(one, name)!r} under seed {first} and "
                    f"{getattr(other, name)!r} under seed {seed}; run the sweep again"
                )
    return one


def _points(seed: int, after: TaskScore, before: TaskScore, distances: TopicDistances) -> tuple[list[Point], list[str]]:
    """A seed's points, and its topics without a checkable sentence on one side."""
    _check_alike(after, before)
    points, silent = [], []
    for (topic, (ok_a, all_a)), (_, (ok_b, all_b)) in zip(_by_topic(after), _by_topic(before), strict=True):
        if not all_a or not all_b:
            silent.append(topic)
            continue
        if topic not in distances.distance:
            raise HarnessError(
                f"{after.file}: no distance of the test topic {topic!r}; measure them for the questions of {after.task}"
            )
        a, b, unit = ok_a / all_a, ok_b / all_b, distances.unit.get(topic, topic)
        points.append(Point(topic, seed, distances.distance[topic], b, a, a - b, all_b, all_a, unit))
    return points, sorted(silent)


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
