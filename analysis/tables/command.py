"""All tables, from results."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import Parameter

from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables, find_tables
from factuality_harness.analysis.tables.checks import lacking
from factuality_harness.analysis.tables.model import Table
from factuality_harness.analysis.tables.paper import PAPER
from factuality_harness.analysis.tables.render import latex, markdown
from factuality_harness.analysis.tables.text import differences_to_frame, differences_to_grid, to_frame, to_grid
from factuality_harness.analysis.tables.trace import trace_back
from factuality_harness.harness.commands import Flag, Out
from factuality_harness.harness.io.write import write_text


def write_tables(tables: Iterable[Table], out: Path) -> list[Path]:
    """Every table as NAME.md, NAME.csv, NAME.tex, with its differences, and all of them in README.md. Raises
    HarnessError when `out` cannot be written."""
    everything: list[str] = []
    contents: dict[str, str] = {}
    for table in tables:
        grids = [g for g in (to_grid(table), differences_to_grid(table)) if g is not None]
        text = "\n".join(markdown(g, level) for level, g in enumerate(grids, 2))
        everything.append(text)
        contents[f"{table.name}.md"] = text
        contents[f"{table.name}.csv"] = _csv(to_frame(table))
        contents[f"{table.name}.tex"] = "\n".join(
            latex(g, f"{table.name}{'-differences' * i}") for i, g in enumerate(grids)
        )
        if len(grids) > 1:
            contents[f"{table.name}_differences.csv"] = _csv(differences_to_frame(table))
    contents["README.md"] = "# Tables\n\n" + "\n".join(everything)
    for name, content in contents.items():
        write_text(out / name, content)
    return [out / name for name in contents]


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def tables(
    *,
    results: Path,
    out: Out | None = None,
    paper: Path = PAPER,
    mixed_judges: Flag = False,
    trace: Annotated[tuple[str, str, str] | None, Parameter(show_default=False)] = None,
) -> None:
    """The paper's tables, ours beside the published numbers.

    Each table comes as Markdown, CSV and LaTeX; ours under "this run: …", the paper's under "paper". Scores are in
    percent: mean over seeds with a 95 % t interval over seeds (for one seed the interval over topics, marked); over few
    seeds it may leave 0 to 100. What has not run is "missing", what ran without that task or metric "not scored", what
    only one side has is "–".

    Parameters
    ----------
    results
        A sweep's store, or its collected files.
    out
        Folder to write to, RESULTS/tables where none is given.
    paper
        Folder of the published numbers.
    mixed_judges
        Allow several judges in one table.
    trace
        TABLE ROW COLUMN: print where a number comes from instead. TABLE is a number of the paper or an experiment's
        name, ROW its key values joined by ", ", COLUMN a column's name.
    """
    found = load_results(results)
    built = build_tables(found, paper, mixed_judges=mixed_judges)
    if trace:
        print(trace_back(found, find_tables(built, trace[0]), *trace[1:]))
        return
    for path in write_tables(built, out or results / "tables"):
        print(path)
    for table in built:
        for note in lacking(table):
            print(note, file=sys.stderr)
