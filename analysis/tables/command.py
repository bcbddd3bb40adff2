"""All tables, from results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from factuality_harness.analysis.output import writing
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build, find
from factuality_harness.analysis.tables.checks import lacking
from factuality_harness.analysis.tables.model import Table
from factuality_harness.analysis.tables.paper import PAPER
from factuality_harness.analysis.tables.render import latex, markdown
from factuality_harness.analysis.tables.text import differences_frame, differences_grid, frame, grid
from factuality_harness.analysis.tables.trace import trace
from factuality_harness.harness.errors import command


def write(tables: Iterable[Table], out: Path) -> list[Path]:
    """Every table as NAME.md, NAME.csv, NAME.tex, with its differences, and all of them in README.md. Raises
    HarnessError when `out` cannot be written."""
    everything: list[str] = []
    contents: dict[str, str] = {}
    for table in tables:
        grids = [g for g in (grid(table), differences_grid(table)) if g is not None]
        text = "\n".join(markdown(g, level) for level, g in enumerate(grids, 2))
        everything.append(text)
        files = {f"{table.name}.md": text, f"{table.name}.csv": frame(table).to_csv(index=False, lineterminator="\n")}
        files[f"{table.name}.tex"] = "\n".join(
            latex(g, f"{table.name}{'-differences' * i}") for i, g in enumerate(grids)
        )
        if len(grids) > 1:
            files[f"{table.name}_differences.csv"] = differences_frame(table).to_csv(index=False, lineterminator="\n")
        contents |= files
    contents["README.md"] = "# Tables\n\n" + "\n".join(everything)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (out / name).write_text(content, encoding="utf-8")
    return [out / name for name in contents]


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=str(__doc__).split("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="a sweep's store, or its collected files")
    parser.add_argument("--out", type=Path, help="default: RESULTS/tables")
    parser.add_argument("--paper", type=Path, default=PAPER, help="published numbers (default: results/paper)")
    parser.add_argument("--mixed-judges", action="store_true", help="allow several judges in one table")
    parser.add_argument("--trace", nargs=3, metavar=("TABLE", "ROW", "COLUMN"), help="where a number comes from")
    args = parser.parse_args(argv)
    results = load_results(args.results)
    tables = build(results, args.paper, mixed_judges=args.mixed_judges)
    if args.trace:
        print(trace(results, find(tables, args.trace[0]), *args.trace[1:]))
        return
    for path in write(tables, args.out or args.results / "tables"):
        print(path)
    for table in tables:
        for note in lacking(table):
            print(note, file=sys.stderr)
