"""All figures, from results."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.registry import FIGURES
from factuality_harness.analysis.figures.style import STYLE
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from factuality_harness.analysis.tables.paper import PAPER
from factuality_harness.harness.commands import Flag, Out
from factuality_harness.harness.io.write import whole_file


def write_figures(inputs: Inputs, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Write NAME.pdf and NAME.png for every figure; returns the files, and name to reason of those without data."""
    written, skipped = [], {}
    with plt.rc_context():
        plt.style.use(STYLE)
        for name, plot in FIGURES.items():
            found = plot.draw(inputs)
            if isinstance(found, str):
                skipped[name] = found
                continue
            for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
                written.append(out / f"{name}.{kind}")
                with whole_file(written[-1], "wb") as file:
                    found.savefig(file, format=kind, metadata=metadata)
            plt.close(found)
    return written, skipped


def figures(*, results: Path, out: Out | None = None, paper: Path = PAPER, mixed_judges: Flag = False) -> None:
    """The figures, PDF and PNG.

    The same bytes from the same results. Ours and the paper's are figures of their own. Bars, points and lines are
    means over seeds with 95 % t intervals over seeds (for one seed over topics); cells that have not run are marked as
    missing; a figure without data is skipped with its reason.

    Parameters
    ----------
    results
        A sweep's store, or its collected files.
    out
        Folder to write to, RESULTS/figures where none is given.
    paper
        Folder of the published numbers.
    mixed_judges
        Allow several judges in one figure.
    """
    found = load_results(results)
    tables = build_tables(found, paper, mixed_judges=mixed_judges)
    written, skipped = write_figures(Inputs(found, tables), out or results / "figures")
    for path in written:
        print(path)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
