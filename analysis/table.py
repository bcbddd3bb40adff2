"""Tables as data: an experiment's cells in rows and columns, beside the paper's rows, checked before they are shown."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.intervals import NAN, Estimate, over_seeds, paired_difference
from analysis.paper import PAPER, PaperTable, load_paper, oddities
from analysis.render import NONE
from analysis.results import CellResult, ExperimentResult, Results, TaskScore
from harness.errors import HarnessError

SCORES = ("factuality", "factscore")  # main metrics of the judged tasks
BEST = re.compile(r"best_of_(\d+)")
COUNTS = {"factuality": ("correct", "incorrect"), "factscore": ("supported", "unsupported")}
ABSOLUTE = re.compile(r"correct|incorrect|supported|unsupported|unparsed_facts|.*_per_response|best_of_\d+_facts")
Z95 = 1.959964
MOST_UNPARSED = 0.02  # share of sentences from which a row gets a note


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ours. metric: as lm_eval names it; `best_of` for the best of the row's n."""

    name: str
    task: str
    metric: str

    @property
    def percent(self) -> bool:
        """Whether it is a share, shown in percent; others are counts."""
        return not ABSOLUTE.fullmatch(self.metric)

    @property
    def kind(self) -> str:
        """What must not mix judges: the judged quantity."""
        return "factscore" if self.metric in ("factscore", *COUNTS["factscore"]) else "factuality"


@dataclass(slots=True)
class Row:
    """A row: labels by key column (ours, or the paper's where only the paper has it), our cells by seed, the paper's
    printed row. n: of best-of-n."""

    labels: dict[str, str]
    experiment: ExperimentResult | None = None
    cells: dict[int, CellResult] = field(default_factory=dict)
    printed: dict[str, str] | None = None
    n: int | None = None

    @property
    def name(self) -> str:
        return ", ".join(self.labels.values())

    def score(self, column: Column, seed: int) -> TaskScore | None:
        """The task's score with this seed, None when it has not run or lacks the task or metric (see `lacks`)."""
        score = self.cells[seed].scores.get(column.task)
        return None if score is None or score.key(self.metric(column)) is None else score

    def lacks(self, column: Column, seed: int) -> str:
        """Why a cell that has run has no value in this column; "" where it has one, or has not run."""
        cell = self.cells[seed]
        if not cell.scores or self.score(column, seed) is not None:
            return ""
        if column.task not in cell.scores:
            return f"no task {column.task}; it has {', '.join(sorted(cell.scores))}"
        known, metric = cell.scores[column.task].known(), self.metric(column)
        if not metric:
            return f"several metrics of {column.task}; name one of {known} as {{task: …, metric: …}}"
        return f"no metric {metric!r} of {column.task}; it has {known}"

    def metric(self, column: Column) -> str:
        """lm_eval's name of the value in this row."""
        return f"best_of_{self.n}" if column.metric == "best_of" else column.metric

    def by_seed(self, column: Column) -> dict[int, float]:
        """Values as lm_eval reports them, of the seeds that have run."""
        found = {seed: self.score(column, seed) for seed in sorted(self.cells)}
        return {seed: score.metric(self.metric(column)) for seed, score in found.items() if score is not None}

    def measured(self, column: Column) -> dict[int, float]:
        """As `by_seed`, each measurement once: under the first of the seeds that share it (an untrained model of the
        hub is the same under every seed)."""
        values = self.by_seed(column)
        first = {self.cells[seed].stages["score"]: seed for seed in reversed(values)}
        return {seed: value for seed, value in values.items() if seed in first.values()}

    def once(self, column: Column) -> bool:
        """Whether one measurement stands for several seeds."""
        return len(self.measured(column)) == 1 < len(self.by_seed(column))

    def estimate(self, column: Column) -> Estimate | None:
        """Mean over the seeds measured with its interval in lm_eval's units; for one the interval over topics, or from
        the standard error over questions. None when no seed has run."""
        values = self.measured(column)
        if not values:
            return None
        found = over_seeds(values.values())
        if len(values) > 1:
            return found
        score = self.score(column, next(iter(values)))
        assert score is not None
        name = score.key(self.metric(column)) or ""
        low, high = (score.metrics.get(f"{name}_ci95_{end}", NAN) for end in ("low", "high"))
        if not math.isnan(low):
            return Estimate(found.mean, low, high, 1, "topics")
        base, _, of = name.partition(",")
        error = score.metrics.get(f"{base}_stderr,{of}" if of else f"{base}_stderr", NAN)
        if not math.isnan(error):
            return Estimate(found.mean, found.mean - Z95 * error, found.mean + Z95 * error, 1, "questions")
        return found


def paired(row: Row, reference: Row, column: Column) -> Estimate:
    """`paired_difference` of two rows, each pair of measurements once."""
    values, others = row.by_seed(column), reference.by_seed(column)
    pairs: dict[tuple[str, str], int] = {}
    for seed in sorted(values.keys() & others.keys()):
        pairs.setdefault((row.cells[seed].stages["score"], reference.cells[seed].stages["score"]), seed)
    return paired_difference({seed: values[seed] for seed in pairs.values()}, others)


@dataclass(slots=True)
class Table:
    """A table before it is written. keys: columns that name a row. columns: of ours. paper: what is printed there.
    subject: the world or model that was run. notes: judges, intervals, what the paper's numbers show of themselves."""

    name: str
    title: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[Row]
    paper: PaperTable | None = None
    experiments: list[ExperimentResult] = field(default_factory=list)
    subject: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        return f"this run: {self.subject}" if self.subject else "this run"

    @property
    def number(self) -> int | None:
        return self.paper.number if self.paper else None

    def rename(self, row: Row, key: str) -> str:
        """A row's label in the paper's words."""
        return in_paper(row.experiment.table, key, row.labels[key]) if row.experiment else row.labels[key]

    def shown(self, row: Row, key: str) -> str:
        """A row's label, with the paper's word for it where that is another."""
        label = row.labels.get(key, NONE)
        if row.printed is None or key not in row.labels or same(self.rename(row, key), label):
            return label
        return f"{label} (paper: {self.rename(row, key)})"

    def column(self, name: str) -> Column:
        """Raises HarnessError listing the columns."""
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(c.name for c in self.columns) or "none of ours"
        raise HarnessError(f"{self.name}: no column {name!r}; there are {known}")

    def row(self, name: str) -> Row:
        """By its key values joined by ", ", ours or the paper's. Raises HarnessError listing the rows."""
        for row in self.rows:
            printed = self.paper.label(row.printed) if self.paper and row.printed else row.name
            if name in (row.name, printed, ", ".join(self.rename(row, key) for key in row.labels)):
                return row
        raise HarnessError(f"{self.name}: no row {name!r}; there are: {'; '.join(r.name for r in self.rows)}")


def same(a: str, b: str) -> bool:
    """Whether two labels are the same; numbers by value."""
    try:
        return a == b or float(a) == float(b)
    except ValueError:
        return False


def in_paper(table: Mapping[str, Any], key: str, label: str) -> str:
    """Our label in the paper's words, by the experiment's `rename` (value to value, or axis to such a mapping)."""
    rename = table.get("rename") or {}
    of_key = rename.get(key)
    return str(of_key.get(label, label) if isinstance(of_key, dict) else rename.get(label, label))


def build(results: Results, paper: Path = PAPER, *, mixed_judges: bool = False) -> list[Table]:
    """All tables: the paper's twelve, then experiments of our own.

    Experiments for one table of the paper share it, unless two fill the same row: then the later one, by name, stands
    in a table of its own. Raises HarnessError for two versions of a task, for two judges in one table or of one task in
    several (allowed by `mixed_judges`), a malformed `table`, and labels that fit several rows of the paper. A column
    whose task or metric is nowhere in finished cells gets a note.
    """
    published = load_paper(paper)
    flagged = oddities(published)
    tables: list[Table] = []
    numbered: dict[int, list[ExperimentResult]] = defaultdict(list)
    own = []
    for experiment in results.experiments.values():
        number = _number(experiment)
        if number is None:
            own.append(experiment)
        elif isinstance(number, int) and number in published:
            numbered[number].append(experiment)
        else:
            raise HarnessError(f"experiment {experiment.name}: the paper has no table {number!r}; tables are 1 to 12")
    for number, printed in published.items():
        made: list[Table] = []
        for experiment in numbered[number]:
            rows = list(_our_rows(experiment, printed))
            fitting = next((t for t in made if _fits(t, experiment, rows)), None)
            if fitting is None:
                name = printed.name if not made else f"{printed.name}-{experiment.name}"
                fitting = Table(name, f"Table {number}: {printed.title}", printed.keys, (), [], printed)
                made.append(fitting)
            fitting.experiments.append(experiment)
            fitting.rows += rows
            fitting.columns = fitting.columns or _columns(experiment, printed)
        made = made or [Table(printed.name, f"Table {number}: {printed.title}", printed.keys, (), [], printed)]
        for table in made:
            _set_beside(table)
            table.notes += [f"Paper: {note}." for note in flagged[number]]
        tables += made
    for experiment in own:
        keys = tuple(dict.fromkeys(key for cell in experiment.cells for key in cell.labels))
        rows = list(_our_rows(experiment, None))
        if any(row.n is not None for row in rows):
            keys += ("n",)
        tables.append(
            Table(experiment.name, experiment.title, keys, _columns(experiment, None), rows, None, [experiment])
        )
    for table in tables:
        table.subject = _subject(results, table)
        table.notes = [
            *_check_sources(table, mixed_judges),
            *_notes(table),
            *_parts(results, table),
            *_unparsed(table),
            *table.notes,
        ]
    _check_store(results, mixed_judges)
    for table, notes in zip(tables, _other_draws(results, tables), strict=True):
        table.notes += notes
    return tables


def _number(experiment: ExperimentResult) -> Any:
    """The number in the paper, None without one. Raises HarnessError for a `table` of another shape."""
    for name in ("columns", "rename", "where"):
        if not isinstance(experiment.table.get(name) or {}, dict):
            raise HarnessError(
                f"experiment {experiment.name}: table.{name} is {experiment.table[name]!r}, not a mapping; see "
                "training/experiments/README.md"
            )
    number = experiment.table.get("number")
    return int(number) if isinstance(number, str) and number.isdecimal() else number


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


def scores(table: Table) -> Iterator[tuple[Column, Row, TaskScore]]:
    for column, row in itertools.product(table.columns, table.rows):
        for seed in row.cells:
            if (score := row.score(column, seed)) is not None:
                yield column, row, score


def _check_sources(table: Table, mixed_judges: bool) -> list[str]:
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


def _check_store(results: Results, mixed_judges: bool) -> None:
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


def _other_draws(results: Results, tables: Sequence[Table]) -> list[list[str]]:
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


def _notes(table: Table) -> Iterator[str]:
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
    if (pair := next(iter(halves(table).values()), None)) is not None:
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


def _parts(results: Results, table: Table) -> Iterator[str]:
    """What was scored where it is not the tasks' own test part."""
    found = set()
    for cell in (c for row in table.rows for c in row.cells.values() if c.scores):
        settings = results.stages[cell.stages["score"]].get("settings") or {}
        found.add((settings.get("metadata") or {}).get("part", "test"))
    if found - {"test"}:
        yield f"Scored on the part: {', '.join(sorted(found))}."


def _unparsed(table: Table) -> Iterator[str]:
    """Rows whose score leaves out many sentences."""
    rates: dict[str, list[float]] = defaultdict(list)
    for column, row, score in scores(table):
        if column.percent and "unparsed_rate" in score.metrics:
            rates[f"{row.name} ({column.task})"].append(score.metrics["unparsed_rate"])
    for name, found in rates.items():
        if (mean := sum(found) / len(found)) > MOST_UNPARSED:
            yield f"{name}: {mean:.1%} of the sentences could not be judged; they count in no score."


def _subject(results: Results, table: Table) -> str:
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


@dataclass(frozen=True, slots=True)
class Difference:
    """A row's value minus another's, paired by seed, in lm_eval's units."""

    row: Row
    reference: Row
    column: Column
    estimate: Estimate


def halves(table: Table) -> dict[tuple[str, str], Difference]:
    """(row, column) to second minus first half, for tables of the paper that print a difference. The halves are the
    rows that share all labels but `distance`; where the paper has some of them, those."""
    if table.paper is None or "diff" not in table.paper.values:
        return {}
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in table.rows:
        if row.cells:
            groups[tuple(v for k, v in row.labels.items() if k != "distance")].append(row)
    found = {}
    for rows in groups.values():
        pair = [row for row in rows if row.printed is not None] or rows
        if len(pair) == 2:
            first, second = sorted(pair, key=lambda r: r.labels.get("distance", ""))
            for column in table.columns:
                if column.percent:
                    difference = paired(second, first, column)
                    found[second.name, column.name] = Difference(second, first, column, difference)
    return found


def is_named(row: Row, wanted: str) -> bool:
    """Whether a row is the one of that name, or all labels of its cells are that (`base`)."""
    return row.name == wanted or any(set(cell.labels.values()) == {wanted} for cell in row.cells.values())


def differences(table: Table) -> list[Difference]:
    """Every row against its experiment's `table.reference`: a row's full name, the one label of a row (`base`), or a
    value of one axis (compared with the row whose other labels are the same). Empty without a reference.

    Raises HarnessError for a reference that is no label.
    """
    out: list[Difference] = []
    for experiment in table.experiments:
        wanted = experiment.table.get("reference")
        if wanted is None:
            continue
        rows = [row for row in table.rows if row.experiment is experiment]
        by_labels = {tuple(row.labels.items()): row for row in rows}
        found = False
        for row in rows:
            other = next((r for r in rows if is_named(r, str(wanted)) and r.n == row.n), None)
            for key in row.labels:
                other = other or by_labels.get(tuple((row.labels | {key: str(wanted)}).items()))
            found |= other is not None
            if other is not None and other is not row:
                for column in (c for c in table.columns if c.percent):
                    out.append(Difference(row, other, column, paired(row, other, column)))
        if rows and not found:
            raise HarnessError(
                f"experiment {experiment.name}: reference {wanted!r} is no label; the rows are "
                + "; ".join(row.name for row in rows)
            )
    return out


def find(tables: Sequence[Table], name: str) -> list[Table]:
    """Tables of a number of the paper, or of an experiment. Raises HarnessError listing them."""
    found = [t for t in tables if name in (str(t.number), t.name) or name in (e.name for e in t.experiments)]
    if not found:
        raise HarnessError(
            f"no table {name!r}; there are 1 to 12 and {', '.join(t.name for t in tables if not t.paper)}"
        )
    return found
