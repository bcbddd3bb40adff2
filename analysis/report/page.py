"""Putting the page together: template, style and script inlined, data packed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from factuality_harness.analysis.cells import find_cells, parse_labels
from factuality_harness.analysis.report.browse import DEFAULT_LIMITS, BrowsedRun, Limits, Packed, pack
from factuality_harness.analysis.report.leaderboard import Leaderboard, judge_of, leaderboards
from factuality_harness.analysis.results import CellResult, ExperimentResult, Results
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_text
from factuality_harness.harness.judging.estimators import JudgeCard
from factuality_harness.harness.page.render import MARKS

MOST_RUNS = 8  # browsed without being asked for
SCRIPTS = ("state", "chrome", "leaderboard", "responses", "filters", "list", "evidence", "detail", "browser")
"""In the order in which they stand in the page, as one script."""
TABLES_FIRST = (2, 1)  # of the paper: the experiments whose cells are browsed without being asked for


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A figure as SVG with a sentence on what it shows, or in `note` the reason why there is none."""

    title: str
    image: bytes = b""
    about: str = ""
    note: str = ""

    @property
    def source(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(self.image).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What `--browse` asks for: cells of an experiment with these labels. seed: None for the first one there is."""

    experiment: str
    labels: dict[str, str] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def parse(cls, text: str) -> Chosen:
        """`EXPERIMENT` or `EXPERIMENT:LABEL=VALUE,…`; the label `seed` is the seed. Raises HarnessError."""
        name, _, rest = text.partition(":")
        if not name:
            raise HarnessError(f"--browse {text!r}: write EXPERIMENT or EXPERIMENT:LABEL=VALUE,LABEL=VALUE")
        labels = parse_labels(rest, f"--browse {name}:") if rest else {}
        seed = labels.pop("seed", None)
        if seed is not None and not seed.isdecimal():
            raise HarnessError(f"--browse {text!r}: a seed is a whole number")
        return cls(name, labels, None if seed is None else int(seed))


@dataclass(frozen=True, slots=True)
class ReportPage:
    """All that the page shows. sections: experiments with their tables. source: where the numbers come from.
    first: name of the experiment to open on."""

    title: str
    source: str
    sections: tuple[tuple[ExperimentResult, tuple[Leaderboard, ...]], ...]
    figures: tuple[PageFigure, ...]
    packed: Packed
    first: str

    @property
    def judges(self) -> list[str]:
        return sorted({judge for _, tables in self.sections for table in tables for judge in table.judges})


def choose_cells(results: Results, chosen: Sequence[Chosen]) -> list[CellResult]:
    """Finished cells to browse: those asked for, else the first seed of the experiment of table 2, 1 or any.

    Raises HarnessError when something asked for is not there or has not finished.
    """
    if chosen:
        return [cell for one in chosen for cell in _asked(results, one)]
    finished = [e for e in results.experiments.values() if any(cell.scores for cell in e.cells)]
    if not finished:
        return []
    order = {number: place for place, number in enumerate(TABLES_FIRST)}
    first = min(finished, key=lambda e: order.get(e.table.get("number", 0), len(order)))
    return _first_seed([cell for cell in first.cells if cell.scores])


def _asked(results: Results, one: Chosen) -> list[CellResult]:
    cells = find_cells(results, one.experiment, one.labels, "--browse")
    if one.seed is not None:
        seeds = sorted({cell.seed for cell in cells})
        cells = [cell for cell in cells if cell.seed == one.seed]
        if not cells:
            raise HarnessError(
                f"--browse: {one.experiment} has no seed {one.seed}; it has {', '.join(map(str, seeds))}"
            )
    cells = [cell for cell in cells if cell.scores]
    if not cells:
        raise HarnessError(f"--browse: these cells of {one.experiment} have no scores yet; run the sweep first")
    return cells if one.seed is not None else _first_seed(cells)


def _first_seed(cells: Sequence[CellResult]) -> list[CellResult]:
    first: dict[tuple[tuple[str, str], ...], CellResult] = {}
    for cell in sorted(cells, key=lambda c: c.seed):
        first.setdefault(tuple(cell.labels.items()), cell)
    order = [cell for cell in cells if cell in first.values()]
    return [cell for place, cell in enumerate(order) if cell not in order[:place]]


def make_page(
    results: Results | None,
    runs: Sequence[BrowsedRun],
    *,
    title: str,
    source: str,
    browse: Sequence[Chosen] = (),
    limits: Limits = DEFAULT_LIMITS,
    figures: Sequence[PageFigure] = (),
    cards: Mapping[str, JudgeCard] | None = None,
) -> ReportPage:
    """Everything for the page: tables of all experiments and of `runs` together, responses of the cells chosen and of
    `runs`. cards: by `judge_of`, to correct its scores.

    Raises HarnessError when there is nothing to show, for a card of a judge that scored nothing here, and as
    `choose_cells`, `pack` and `leaderboards` do.
    """
    experiments = list(results.experiments.values()) if results else []
    cells = choose_cells(results, browse) if results else []
    notes = []
    if not browse and len(cells) > MOST_RUNS:
        notes.append(f"The first {MOST_RUNS} of {len(cells)} models of {cells[0].experiment}; --browse chooses others")
        cells = cells[:MOST_RUNS]
    collected = bool(results) and not (results.root / "stages").is_dir()  # type: ignore[union-attr]
    named = [] if collected else _names(cells)
    browsed = [BrowsedRun(name, results.root, cell.scores) for name, cell in named if results] + list(runs)
    if runs:
        cells_of_runs = tuple(CellResult("runs", {"run": run.name}, 0, {}, run.scores) for run in runs)
        experiments.insert(0, ExperimentResult("runs", "Runs", {}, cells_of_runs))
        named += [(run.name, cell) for run, cell in zip(runs, cells_of_runs, strict=True)]
    sections = []
    for experiment in experiments:
        of = {(tuple(c.labels.values()), c.seed): name for name, c in named if c.experiment == experiment.name}
        if tables := leaderboards(experiment, of, cards):
            sections.append((experiment, tuple(tables)))
    if not sections:
        raise HarnessError(f"{source}: no cell has results yet; run `factuality sweep run EXPERIMENT.yaml`")
    fixed = {judge_of(row.judge) for _, tables in sections for t in tables for row in t.rows if row.corrected}
    for judge, card in (cards or {}).items():
        if judge not in fixed:
            found = ", ".join(sorted({name for _, tables in sections for t in tables for name in t.judges}))
            raise HarnessError(
                f"--card: it is of judge {judge.removesuffix(' {}')} on {card.dataset}, whose factuality is not in "
                f"this report (judges: {found}); its errors say nothing about other judges"
            )
    names = [experiment.name for experiment, _ in sections]
    browsed_first = [cell.experiment for _, cell in reversed(named)] if runs else [cell.experiment for cell in cells]
    first = next((name for name in browsed_first if name in names), names[0])
    if collected:
        notes = [
            "These are collected results, without the responses; name the sweep's own folder, or a --run, to read them"
        ]
    packed = pack(browsed, limits)
    packed = replace(packed, notes=(*notes, *packed.notes))
    return ReportPage(title, source, tuple(sections), tuple(figures), packed, first)


def _names(cells: Sequence[CellResult]) -> list[tuple[str, CellResult]]:
    """A name for each cell: its labels, with experiment and seed where these differ between cells."""
    several, seeds = len({cell.experiment for cell in cells}) > 1, len({cell.seed for cell in cells}) > 1
    return [
        (
            (f"{cell.experiment}: " if several else "")
            + ", ".join(cell.labels.values())
            + (f" (seed {cell.seed})" if seeds else ""),
            cell,
        )
        for cell in cells
    ]


def to_html(report: ReportPage) -> str:
    """The page as one HTML text."""
    folder = files("factuality_harness.analysis.report")
    style, theme, *parts = (
        folder.joinpath(name).read_text("utf-8")
        for name in ("style.css", "theme.js", *(f"scripts/{name}.js" for name in SCRIPTS))
    )
    script = "\n".join(parts)
    digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in (script, theme)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(folder.joinpath("template.html.j2").read_text("utf-8")).render(
        report=report,
        style=Markup(style),  # ours, like the scripts; everything else is escaped
        script=Markup(script),
        theme=Markup(theme),
        policy=" ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests),
        marks=[(label.value, mark) for label, mark in MARKS.items()],
    )


def write_page(report: ReportPage, out: Path) -> None:
    """Write the page; `out` is the whole of it."""
    write_text(out, to_html(report))
