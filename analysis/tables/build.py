"""Tables as data: an experiment's cells in rows and columns, beside the paper's rows, checked before they are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factuality_harness.analysis.results import ExperimentResult, Results, TaskScore
from factuality_harness.analysis.tables.checks import (
    check_sources,
    check_store,
    how_to_read,
    other_draws,
    parts_scored,
    subject_of,
    unparsed,
)
from factuality_harness.analysis.tables.model import BEST, COUNTS, SCORES, Column, Row, Table, in_paper, same
from factuality_harness.analysis.tables.paper import PAPER, PaperTable, load_paper, oddities
from factuality_harness.harness.errors import HarnessError


def build_tables(results: Results, paper: Path = PAPER, *, mixed_judges: bool = False) -> list[Table]:
    """All tables: the paper's twelve, then experiments of our own.

    Experiments for one table of the paper share it, unless two fill the same row: then the later one, by name, stands
    in a table of its own. Raises HarnessError for two versions of a task, for two judges in one table or of one task in
    several (allowed by `mixed_judges`), a malformed `table`, and labels that fit several rows of the paper. A column
    whose task or metric is nowhere in finished cells gets a note.
    """
    published = load_paper(paper)
    flagged = oddities(published)
    by_number: dict[int | None, list[ExperimentResult]] = defaultdict(list)
    for experiment in results.experiments.values():
        by_number[_number(experiment, published)].append(experiment)
    tables: list[Table] = []
    for number, printed in published.items():
        for table in _tables_beside(printed, by_number[number]):
            table.notes += [f"Paper: {note}." for note in flagged[number]]
            tables.append(table)
    tables += [_own_table(experiment) for experiment in by_number[None]]
    for table in tables:
        table.subject = subject_of(results, table)
        table.notes = [
            *check_sources(table, mixed_judges),
            *how_to_read(table),
            *parts_scored(results, table),
            *unparsed(table),
            *table.notes,
        ]
    check_store(results, mixed_judges)
    for table, notes in zip(tables, other_draws(results, tables), strict=True):
        table.notes += notes
    return tables


def find_tables(tables: Sequence[Table], name: str) -> list[Table]:
    """Tables of a number of the paper, or of an experiment. Raises HarnessError listing them."""
    found = [t for t in tables if name in (str(t.number), t.name) or name in (e.name for e in t.experiments)]
    if not found:
        raise HarnessError(
            f"no table {name!r}; there are 1 to 12 and {', '.join(t.name for t in tables if not t.paper)}"
        )
    return found


def _number(experiment: ExperimentResult, published: Mapping[int, PaperTable]) -> int | None:
    """The number in the paper, None without one. Raises HarnessError for a number that the paper does not have, and a
    `table` of another shape."""
    for name in ("columns", "rename", "where"):
        if not isinstance(experiment.table.get(name) or {}, dict):
            raise HarnessError(
                f"experiment {experiment.name}: table.{name} is {experiment.table[name]!r}, not a mapping; see "
                "training/experiments/README.md"
            )
    number = experiment.table.get("number")
    if isinstance(number, str) and number.isdecimal():
        number = int(number)
    if number is not None and not (isinstance(number, int) and number in published):
        raise HarnessError(f"experiment {experiment.name}: the paper has no table {number!r}; tables are 1 to 12")
    return number


def _tables_beside(printed: PaperTable, experiments: Sequence[ExperimentResult]) -> list[Table]:
    """A table of the paper with the rows of these experiments, one more for every experiment that does not fit in."""

    def empty(name: str) -> Table:
        return Table(name, f"Table {printed.number}: {printed.title}", printed.keys, (), [], printed)

    tables: list[Table] = []
    for experiment in experiments:
        rows = list(_our_rows(experiment, printed))
        fitting = next((t for t in tables if _fits(t, experiment, rows)), None)
        if fitting is None:
            fitting = empty(f"{printed.name}-{experiment.name}" if tables else printed.name)
            tables.append(fitting)
        fitting.experiments.append(experiment)
        fitting.rows += rows
        fitting.columns = fitting.columns or _columns(experiment, printed)
    tables = tables or [empty(printed.name)]
    for table in tables:
        _set_beside(table)
    return tables


def _own_table(experiment: ExperimentResult) -> Table:
    keys = tuple(dict.fromkeys(key for cell in experiment.cells for key in cell.labels))
    rows = list(_our_rows(experiment, None))
    if any(row.n is not None for row in rows):
        keys += ("n",)
    return Table(experiment.name, experiment.title, keys, _columns(experiment, None), rows, None, [experiment])


def _our_rows(experiment: ExperimentResult, printed: PaperTable | None) -> Iterator[Row]:
    """A row for every combination of labels, in the experiment's order; for every n where best-of-n is reported."""
    where = {str(k): str(v) for k, v in (experiment.table.get("where") or {}).items()}
    rows: dict[tuple[tuple[str, str], ...], Row] = {}
    for cell in experiment.cells:
        row = rows.setdefault(tuple(cell.labels.items()), Row(where | cell.labels, experiment))
        if cell.seed in row.cells:
            raise HarnessError(f"experiment {experiment.name}: two cells {row.name} with seed {cell.seed}")
        row.cells[cell.seed] = cell
    found = {int(m[1]) for task in _best_tasks(experiment) for name in task.metrics if (m := BEST.fullmatch(name))}
    if printed and "n" in printed.keys and not any("n" in row.labels for row in rows.values()):
        found = found or {int(row["n"]) for row in printed.rows}
    for row in rows.values():
        if not found:
            yield row
        for n in sorted(found):
            yield Row(row.labels | {"n": str(n)}, experiment, row.cells, n=n)


def _best_tasks(experiment: ExperimentResult) -> list[TaskScore]:
    """Scores of the tasks shown that report best-of-n."""
    tasks = {_target(experiment, name, to)[0] for name, to in (experiment.table.get("columns") or {}).items()}
    return [
        score
        for cell in experiment.cells
        for task, score in cell.scores.items()
        if (task in tasks or not tasks) and any(BEST.fullmatch(name) for name in score.metrics)
    ]


def _target(experiment: ExperimentResult, name: str, to: Any) -> tuple[str, str]:
    """Task and metric ("" for its main one) that an entry of `columns` names."""
    if isinstance(to, str):
        return to, ""
    if isinstance(to, dict) and set(to) <= {"task", "metric"} and "task" in to:
        return str(to["task"]), str(to.get("metric", ""))
    raise HarnessError(f"experiment {experiment.name}: column {name} is {to!r}; give a task, or task and metric")


def _columns(experiment: ExperimentResult, printed: PaperTable | None) -> tuple[Column, ...]:
    """What the experiment's `columns` name, each score with its counts, the paper's columns first; without `columns`
    all tasks. metric: "" where a task has several and none is named."""
    seen = {task: score for cell in experiment.cells for task, score in cell.scores.items()}
    if printed and not experiment.table.get("columns"):
        raise HarnessError(f"experiment {experiment.name}: table.columns must say which task fills which column")
    given = experiment.table.get("columns") or {task: task for task in sorted(seen)}
    columns: dict[str, Column] = {}
    for name, to in given.items():
        task, metric = _target(experiment, name, to)
        main = metric or _main_metric(seen.get(task), task)
        columns[name] = Column(name, task, main)
        if not metric and main in COUNTS:
            prefix = name.removesuffix("score") if name.endswith("score") else f"{name} "
            for part, counted in zip(("correct", "incorrect"), COUNTS[main], strict=True):
                if printed is None or name not in printed.values or f"{prefix}{part}" in printed.values:
                    columns.setdefault(f"{prefix}{part}", Column(f"{prefix}{part}", task, counted))
    order = printed.values if printed else ()
    return tuple(columns[name] for name in dict.fromkeys((*order, *columns)) if name in columns)


def _main_metric(score: TaskScore | None, task: str) -> str:
    if score is None:  # nothing has run: the judged tasks' own
        return "best_of" if "best_of" in task else "factscore" if "factscore" in task else "factuality"
    for name in SCORES:
        if name in score.metrics:
            return name
    if any(BEST.fullmatch(name) for name in score.metrics):
        return "best_of"
    names = [name for name in score.metrics if "_stderr" not in name]
    return names[0] if len(names) == 1 else ""


def _fits(table: Table, experiment: ExperimentResult, rows: Sequence[Row]) -> bool:
    """Whether an experiment's rows can join the table: same columns, no row of it filled already."""
    taken = {tuple(table.rename(row, k) for k in row.labels) for row in table.rows}
    mine = {tuple(in_paper(experiment.table, k, v) for k, v in row.labels.items()) for row in rows}
    return table.columns == _columns(experiment, table.paper) and not taken & mine


def _set_beside(table: Table) -> None:
    """Find each row's printed row, put rows in the paper's order, add those that only the paper has."""
    assert table.paper is not None
    named = [dict(row.labels) for row in table.rows]
    used = {id(p) for row in table.rows for p in [_printed(table, row)] if p is not None}
    extra = tuple(dict.fromkeys(k for labels in named for k in labels if k not in table.keys))
    ours = [k for k in table.keys if any(k in labels for labels in named)]
    place = {id(p): i for i, p in enumerate(table.paper.rows)}
    rest = [Row({k: p[k] for k in ours or table.keys}, printed=p) for p in table.paper.rows if id(p) not in used]
    last = len(place)
    table.rows = sorted(
        [*table.rows, *rest], key=lambda row: place[id(row.printed)] if row.printed is not None else last
    )
    table.keys = (*(ours or table.keys), *extra)


def _printed(table: Table, row: Row) -> dict[str, str] | None:
    assert table.paper is not None
    keys = [k for k in table.keys if k in row.labels]
    fitting = [p for p in table.paper.rows if all(same(table.rename(row, k), p[k]) for k in keys)] if keys else []
    if len(fitting) > 1:
        raise HarnessError(
            f"experiment {row.experiment.name if row.experiment else ''}: {row.name} fits {len(fitting)} rows of table "
            f"{table.number} ({'; '.join(map(table.paper.label, fitting))}); say which in `where`"
        )
    row.printed = fitting[0] if fitting else None
    return row.printed
