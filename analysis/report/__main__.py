"""Command line of the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from factuality_harness.analysis import report
from factuality_harness.analysis.output import check_out
from factuality_harness.analysis.report.browse import KEPT, Limits, Run
from factuality_harness.analysis.report.figures import draw
from factuality_harness.analysis.report.leaderboard import judge_of
from factuality_harness.analysis.report.page import Chosen, build, write_report
from factuality_harness.analysis.results import COLLECTED, Results, load_results, load_run
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.judging.correction import read_card
from factuality_harness.harness.judging.estimators import JudgeCard


def named_run(text: str) -> Run:
    """`NAME=FOLDER` of one lm_eval run. Raises HarnessError."""
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise HarnessError(f"--run {text!r}: write NAME=FOLDER, the folder that lm_eval wrote to")
    return Run(name, Path(folder), load_run(folder))


def runs_below(root: Path) -> list[Run]:
    """Every lm_eval output folder below `root`, named by what tells their paths apart."""
    folders = sorted({file.parent for file in root.rglob("results_*.json")})
    if not folders:
        raise HarnessError(
            f"{root}: no results: neither a sweep's store, nor collected results, nor lm_eval's results_*.json below it"
        )
    # lm_eval puts a folder named after the model into --output_path: leave it out where it is alone.
    outputs = [f.parent if f != root and sum(g.parent == f.parent for g in folders) == 1 else f for f in folders]
    parts = [output.relative_to(root).parts if output.is_relative_to(root) else () for output in outputs]
    common = {part for part in parts[0] if all(part in other for other in parts)} if len(parts) > 1 else set()
    names = ["/".join(part for part in of if part not in common) or root.name for of in parts]
    return [Run(name, folder, load_run(folder)) for name, folder in zip(names, folders, strict=True)]


def load(root: Path) -> tuple[Results | None, list[Run]]:
    """A store or collected results, or else the lm_eval runs below a folder. Raises HarnessError for none of these."""
    if (root / "stages").is_dir() or (root / COLLECTED).is_file():
        return load_results(root), []
    return None, runs_below(root)


def read_cards(paths: Sequence[Path]) -> dict[str, JudgeCard]:
    """Cards by `judge_of`. Raises HarnessError as `read_card`, and for two of one judge."""
    cards: dict[str, JudgeCard] = {}
    for path in paths:
        card = read_card(path)
        if cards.setdefault(judge_of(card), card) is not card:
            raise HarnessError(f"--card {path}: a second card of judge {card.judge}; give one a judge")
    return cards


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=str(report.__doc__).split("\n")[0])
    parser.add_argument(
        "--results", type=Path, help="a sweep's folder, collected results, or any folder of lm_eval runs"
    )
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER", help="an lm_eval run; repeat")
    parser.add_argument(
        "--browse",
        action="append",
        default=[],
        metavar="EXPERIMENT[:LABEL=VALUE,…]",
        help="cells whose responses can be read (seed=N for one seed, else the first); repeat. Without it: those of "
        "the experiment of the paper's table 2 or 1",
    )
    parser.add_argument("--per-question", type=int, default=KEPT.per_question, help="responses kept of a question")
    parser.add_argument("--per-task", type=int, default=KEPT.per_task, help="responses kept of a run and task")
    parser.add_argument(
        "--card",
        type=Path,
        action="append",
        default=[],
        metavar="card.json",
        help="of a judge, from harness.judge_report: factuality corrected for its errors stands beside; one a judge",
    )
    parser.add_argument("--title", default="Factuality report")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.results is None and not args.run:
        raise HarnessError("nothing to report: give --results DIR or --run NAME=FOLDER")
    if min(args.per_question, args.per_task) < 1:
        raise HarnessError("--per-question and --per-task are at least 1")
    check_out(args.out)
    cards = read_cards(args.card)
    results, runs = load(args.results) if args.results else (None, [])
    runs += [named_run(text) for text in args.run]
    page = build(
        results,
        runs,
        title=args.title,
        source=args.results.name if args.results else ", ".join(run.name for run in runs),
        browse=[Chosen.parse(text) for text in args.browse],
        limits=Limits(args.per_question, args.per_task),
        figures=list(draw(results)) if results else [],
        cards=cards,
    )
    write_report(page, args.out)
    size = args.out.stat().st_size / 2**20
    print(f"{args.out}: {len(page.sections)} experiments, {page.packed.responses:,} responses, {size:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
