"""All figures, from results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt

from factuality_harness.analysis.figures.best_of_n import best_of_n, best_of_n_paper
from factuality_harness.analysis.figures.coverage import coverage
from factuality_harness.analysis.figures.gain import gain_distance
from factuality_harness.analysis.figures.margins import reward_margins
from factuality_harness.analysis.figures.near_far import near_far, near_far_paper
from factuality_harness.analysis.figures.precision import precision_facts
from factuality_harness.analysis.figures.scaling import scaling, scaling_paper
from factuality_harness.analysis.figures.style import STYLE, Drawn, Inputs
from factuality_harness.analysis.output import writing
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build
from factuality_harness.analysis.tables.paper import PAPER
from factuality_harness.harness.errors import command

FIGURES: dict[str, Callable[[Inputs], Drawn]] = {
    "scaling": scaling,
    "scaling_paper": scaling_paper,
    "near_far": near_far,
    "near_far_paper": near_far_paper,
    "best_of_n": best_of_n,
    "best_of_n_paper": best_of_n_paper,
    "precision_facts": precision_facts,
    "reward_margins": reward_margins,
    "gain_distance": gain_distance,
    "coverage": coverage,
}


def draw(inputs: Inputs, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Write NAME.pdf and NAME.png for every figure; returns the files, and name to reason of those without data."""
    written, skipped = [], {}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with plt.rc_context():
        plt.style.use(STYLE)
        for name, make in FIGURES.items():
            found = make(inputs)
            if isinstance(found, str):
                skipped[name] = found
                continue
            for ending, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
                with writing(out / f"{name}{ending}"):
                    found.savefig(out / f"{name}{ending}", metadata=metadata)
                written.append(out / f"{name}{ending}")
            plt.close(found)
    return written, skipped


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=str(__doc__).split("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="a sweep's store, or its collected files")
    parser.add_argument("--out", type=Path, help="default: RESULTS/figures")
    parser.add_argument("--paper", type=Path, default=PAPER, help="published numbers (default: results/paper)")
    parser.add_argument("--mixed-judges", action="store_true", help="allow several judges in one figure")
    args = parser.parse_args(argv)
    results = load_results(args.results)
    tables = build(results, args.paper, mixed_judges=args.mixed_judges)
    written, skipped = draw(Inputs(results, tables), args.out or args.results / "figures")
    for path in written:
        print(path)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
