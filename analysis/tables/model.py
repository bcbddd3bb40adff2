"""What a table is: columns, rows and their estimates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factuality_harness.analysis.intervals import Estimate, of_one_run, over_seeds, paired_difference
from factuality_harness.analysis.results import CellResult, ExperimentResult, TaskScore
from factuality_harness.analysis.tables.paper import PaperTable
from factuality_harness.analysis.tables.render import NONE
from factuality_harness.harness.errors import HarnessError

SCORES = ("factuality", "factscore")  # main metrics of the judged tasks
BEST = re.compile(r"best_of_(\d+)")
COUNTS = {"factuality": ("correct", "incorrect"), "factscore": ("supported", "unsupported")}
ABSOLUTE = re.compile(r"correct|incorrect|supported|unsupported|unparsed_facts|.*_per_response|best_of_\d+_facts")


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
        """Mean over the seeds measured with its interval in lm_eval's units; for one its own interval
        (`of_one_run`). None when no seed has run."""
        values = self.measured(column)
        if not values:
            return None
        if len(values) > 1:
            return over_seeds(values.values())
        score = self.score(column, next(iter(values)))
        assert score is not None
        return of_one_run(score.metrics, score.key(self.metric(column)) or "")


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


def scores(table: Table) -> Iterator[tuple[Column, Row, TaskScore]]:
    for column, row in itertools.product(table.columns, table.rows):
        for seed in row.cells:
            if (score := row.score(column, seed)) is not None:
                yield column, row, score
