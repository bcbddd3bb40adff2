"""What a table has to say about its own sources: versions, judges, missing runs, unparsed sentences."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from factuality_harness.analysis.results import CellResult, Results, TaskScore
from factuality_harness.analysis.tables.differences import half_differences
from factuality_harness.analysis.tables.model import Table, scores
from factuality_harness.harness.errors import HarnessError

MOST_UNPARSED = 0.02  # share of sentences from which a row gets a note


def check_sources(table: Table, mixed_judges: bool) -> list[str]:
    """The judges as a note. Raises HarnessError for two versions of a task, and for two judges."""
    versions: dict[str, TaskScore] = {}
    judges: dict[str, dict[str, TaskScore]] = defaultdict(dict)
    for column, _, score in scores(table):
        first = versions.setdefault(score.task, score)
        if first.version != score.version:
            raise HarnessError(
                f"{table.name}: task {score.task} in two versions: {first.version} in {first.file}, {score.version} in "
                f"{score.file}; score all cells with one version"
            )
        if score.judge:
            judges[column.kind].setdefault(score.judge, score)
    for found in judges.values():
        if len(found) > 1 and not mixed_judges:
            (one, a), (other, b) = list(found.items())[:2]
            raise HarnessError(
                f"{table.name}: two judges in one table: {one} in {a.file}, {other} in {b.file}; their scores "
                "cannot be compared (--mixed-judges shows them all the same)"
            )
    return [
        f"Judge of {kind}: {' and '.join(sorted(found))}" + (" (MIXED: not comparable)." if len(found) > 1 else ".")
        for kind, found in sorted(judges.items())
    ]


def check_store(results: Results, mixed_judges: bool) -> None:
    """Raises HarnessError for a task in two versions, or with two judges, in whatever tables."""
    versions: dict[str, TaskScore] = {}
    judges: dict[str, TaskScore] = {}
    for experiment in results.experiments.values():
        for score in (s for cell in experiment.cells for s in cell.scores.values()):
            first = versions.setdefault(score.task, score)
            if first.version != score.version:
                raise HarnessError(
                    f"{results.root}: task {score.task} in two versions: {first.version} in {first.file}, "
                    f"{score.version} in {score.file}; score all cells with one version"
                )
            first = judges.setdefault(score.task, score) if score.judge else score
            if first.judge != score.judge and not mixed_judges:
                raise HarnessError(
                    f"{results.root}: two judges of task {score.task}: {first.judge} in {first.file}, {score.judge} in "
                    f"{score.file}; their scores cannot be compared (--mixed-judges shows them all the same)"
                )


def other_draws(results: Results, tables: Sequence[Table]) -> list[list[str]]:
    """A note for each table with scores of a model that was measured again for another table, with another result."""
    shown: list[tuple[Table, str, str, str, str, str]] = []  # table, task, row, model, how it was scored, result
    for table in tables:
        for column, row, score in scores(table):
            stage = next(c.stages["score"] for c in row.cells.values() if c.scores.get(score.task) is score)
            if column.percent and stage in results.stages:
                settings = results.stages[stage].get("settings") or {}
                how = json.dumps({k: v for k, v in settings.items() if k != "tasks"}, sort_keys=True)
                model = json.dumps(results.stages[stage]["needs"], sort_keys=True)
                shown.append((table, score.task, row.name, model, how, json.dumps(sorted(score.metrics.items()))))
    # The same result of the same model was scored in the same way, even where settings repeat the task's own.
    plainest: dict[tuple[str, str, str], str] = {}
    for _, task, _, model, how, result in shown:
        plainest[task, model, result] = min(how, plainest.get((task, model, result), how), key=lambda h: (len(h), h))
    found: dict[tuple[str, str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for table, task, _, model, _, result in shown:
        found[task, model, plainest[task, model, result]][result].add(table.name)
    notes = []
    for table in tables:
        rows: dict[str, list[str]] = defaultdict(list)
        others: dict[str, set[str]] = defaultdict(set)
        for of, task, name, model, _, result in shown:
            results_of = found[task, model, plainest[task, model, result]]
            elsewhere = {t for r, names in results_of.items() if r != result for t in names} - {table.name}
            if of is table and elsewhere:
                rows[task].append(name)
                others[task] |= elsewhere
        notes.append(
            [
                f"{task} of {'; '.join(dict.fromkeys(rows[task]))}: other draws of the same models in "
                f"{', '.join(sorted(others[task]))}, scored beside other tasks: lm_eval seeds a run, not a task."
                for task in rows
            ]
        )
    return notes


def how_to_read(table: Table) -> Iterator[str]:
    """How ours are to be read."""
    filled = [
        f"{c.name}: {c.metric.replace('best_of', 'best of n') or '?'} of {c.task}" for c in table.columns if c.percent
    ]
    if filled:
        yield f"Ours: {'; '.join(filled)}."
    estimates = [e for row in table.rows for c in table.columns if c.percent and (e := row.estimate(c)) is not None]
    over = {e.over for e in estimates}
    if "seeds" in over:
        yield "Mean over seeds, 95 % t interval over seeds in brackets; counts are means over seeds."
    if (pair := next(iter(half_differences(table).values()), None)) is not None:
        yield f"diff: {pair.column.name} of the second half minus the first, paired by seed, t interval over seeds."
    if "topics" in over:
        yield "† one seed: 95 % cluster bootstrap interval over topics, which says nothing about other seeds."
    if "questions" in over:
        yield "‡ one seed: 95 % interval from lm_eval's standard error over questions."
    if any(e.over == "seeds" and not 0 <= e.low <= e.high <= 1 for e in estimates):
        yield "A t interval over few seeds knows no bounds: it may reach below 0 or above 100 %."
    if once := dict.fromkeys(row.name for row in table.rows for c in table.columns if row.once(c)):
        yield f"{'; '.join(once)}: one measurement stands for all seeds; it counts as one."
    yield from lacking(table)
    for experiment in table.experiments:
        where = experiment.table.get("where") or {}
        if where:
            fixed = ", ".join(f"{k} = {v}" for k, v in where.items())
            run = table.subject or "nothing yet"
            yield f"{experiment.name} stands beside the paper's rows with {fixed}; what was run is {run}."
        if note := experiment.table.get("note"):
            yield str(note)


def lacking(table: Table) -> list[str]:
    """Columns without a value though cells have run: which task or metric is not there, and what is."""
    columns: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    rows: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for column, row in itertools.product(table.columns, table.rows):
        for seed, cell in row.cells.items():
            if why := row.lacks(column, seed):
                columns[cell.experiment, why][column.name] = rows[cell.experiment, why][row.name] = None
    return [
        f"{experiment}: {', '.join(names)}: scored, but with {why} ({'; '.join(rows[experiment, why])})."
        for (experiment, why), names in columns.items()
    ]


def parts_scored(results: Results, table: Table) -> Iterator[str]:
    """What was scored where it is not the tasks' own test part."""
    found = set()
    for cell in (c for row in table.rows for c in row.cells.values() if c.scores):
        settings = results.stages[cell.stages["score"]].get("settings") or {}
        found.add((settings.get("metadata") or {}).get("part", "test"))
    if found - {"test"}:
        yield f"Scored on the part: {', '.join(sorted(found))}."


def unparsed(table: Table) -> Iterator[str]:
    """Rows whose score leaves out many sentences."""
    rates: dict[str, list[float]] = defaultdict(list)
    for column, row, score in scores(table):
        if column.percent and "unparsed_rate" in score.metrics:
            rates[f"{row.name} ({column.task})"].append(score.metrics["unparsed_rate"])
    for name, found in rates.items():
        if (mean := sum(found) / len(found)) > MOST_UNPARSED:
            yield f"{name}: {mean:.1%} of the sentences could not be judged; they count in no score."


def subject_of(results: Results, table: Table) -> str:
    """Names of the worlds and models that were run."""
    names = list(dict.fromkeys(_model(results, c) for row in table.rows for c in row.cells.values()))
    names = [name for name in names if name]
    return " and ".join(names) if len(names) <= 3 else f"{len(names)} models"


def _model(results: Results, cell: CellResult) -> str:
    if "base" in cell.stages:
        return "fact world"
    for role in ("score", "train", "sample"):
        name = cell.stages.get(role, "")
        while name in results.stages:
            name = results.stages[name]["needs"].get("model", "")
        if name.startswith("model:"):
            return Path(name.removeprefix("model:")).name
    return ""
