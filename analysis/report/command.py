"""The report, from results or from single runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from factuality_harness.analysis.output import check_out
from factuality_harness.analysis.report.browse import DEFAULT_LIMITS, BrowsedRun, Limits
from factuality_harness.analysis.report.figures import page_figures
from factuality_harness.analysis.report.leaderboard import judge_of
from factuality_harness.analysis.report.page import Chosen, make_page, write_page
from factuality_harness.analysis.results import COLLECTED, Results, load_results, load_run
from factuality_harness.harness.commands import Out, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.judging.correction import read_card
from factuality_harness.harness.judging.estimators import JudgeCard


def named_run(text: str) -> BrowsedRun:
    """`NAME=FOLDER` of one lm_eval run. Raises HarnessError."""
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise HarnessError(f"--run {text!r}: write NAME=FOLDER, the folder that lm_eval wrote to")
    return BrowsedRun(name, Path(folder), load_run(folder))


def runs_below(root: Path) -> list[BrowsedRun]:
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
    return [BrowsedRun(name, folder, load_run(folder)) for name, folder in zip(names, folders, strict=True)]


def load_results_or_runs(root: Path) -> tuple[Results | None, list[BrowsedRun]]:
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


def report(
    *,
    results: Path | None = None,
    run: Annotated[list[str] | None, Several] = None,
    browse: Annotated[list[str] | None, Several] = None,
    per_question: int = DEFAULT_LIMITS.per_question,
    per_task: int = DEFAULT_LIMITS.per_task,
    card: Annotated[list[Path] | None, Several] = None,
    title: str = "Factuality report",
    out: Out,
) -> None:
    """Scores, figures and responses on one self-contained page.

    Parameters
    ----------
    results
        A sweep's folder, collected results, or any folder of lm_eval runs.
    run
        NAME=FOLDER of lm_eval runs.
    browse
        EXPERIMENT[:LABEL=VALUE,…]: cells whose responses can be read (seed=N for one seed, else the first). Without
        it: those of the experiment of the paper's table 2 or 1.
    per_question
        Responses kept of a question.
    per_task
        Responses kept of a run and task.
    card
        Cards of judges, from `factuality judge-card`, one a judge: factuality corrected for its errors stands beside.
    title
        Title of the page.
    """
    if results is None and not run:
        raise HarnessError("nothing to report: give --results DIR or --run NAME=FOLDER")
    if min(per_question, per_task) < 1:
        raise HarnessError("--per-question and --per-task are at least 1")
    check_out(out)
    cards = read_cards(card or [])
    stored, runs = load_results_or_runs(results) if results else (None, [])
    runs += [named_run(text) for text in run or []]
    page = make_page(
        stored,
        runs,
        title=title,
        source=results.name if results else ", ".join(one.name for one in runs),
        browse=[Chosen.parse(text) for text in browse or []],
        limits=Limits(per_question, per_task),
        figures=list(page_figures(stored)) if stored else [],
        cards=cards,
    )
    write_page(page, out)
    size = out.stat().st_size / 2**20
    print(f"{out}: {len(page.sections)} experiments, {page.packed.responses:,} responses, {size:.1f} MiB")
