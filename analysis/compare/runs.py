"""The runs to compare, question by question, from lm_eval's files and from cells of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from factuality_harness.analysis.cells import find_cells, shown
from factuality_harness.analysis.results import (
    COLLECTED,
    CellResult,
    TaskScore,
    load_results,
    load_run,
    samples_of,
)
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.abstain import abstains
from factuality_harness.harness.io.samples import judged_rows
from factuality_harness.harness.metrics import Counts

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
class JudgedRun:
    """A checkpoint on a task. answers: by the question's key (hash of lm_eval's doc, or place within its topic)."""

    name: str
    task: str
    version: str
    judge: str
    answers: dict[Key, Answer]
    files: tuple[Path, ...] = ()


def check_alike(runs: Sequence[JudgedRun], *, common: bool = False) -> list[JudgedRun]:
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


def open_run(path: str | Path, task: str | None = None) -> JudgedRun:
    """A task of an lm_eval output folder. Raises HarnessError as `load_run`, and when the task is not a judged one."""
    path = Path(path)
    scores = load_run(path)
    score = _chosen(scores, task, str(path))
    return _run(str(path), score, path)


def open_cell(results: str | Path, experiment: str, labels: dict[str, str], task: str | None = None) -> JudgedRun:
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


def _run(name: str, score: TaskScore, root: Path, seed: int | None = None, prefix: str = "") -> JudgedRun:
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
    return JudgedRun(name, score.task, score.version, score.judge, answers, tuple(files[:1]))


def _samples(file: Path) -> list[tuple[str, int | None]]:
    """(key or "", responses that decline) for each question, in doc order."""
    rows = []
    for doc_id, row in judged_rows(file):
        key = row.data.get("doc_hash") or row.doc.get("question") or ""
        rows.append((doc_id, str(key), sum(abstains(a.response) for a in row.annotations())))
    return [(key, declined) for _, key, declined in sorted(rows)]
