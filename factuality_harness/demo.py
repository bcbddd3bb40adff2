"""`factuality demo`: the whole loop through the sweep's runner, then a small real model scored."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from cyclopts import Parameter

from factuality_harness.analysis.figures.before_after import draw_before_after
from factuality_harness.analysis.report.command import report
from factuality_harness.analysis.results import ExperimentResult, load_results, samples_of
from factuality_harness.harness.commands import Out
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.models import fetch
from factuality_harness.harness.io.write import whole_file, write_json
from factuality_harness.harness.page.render import format_metric, write_comparison, write_samples_page
from factuality_harness.training.sweep.command import begin, check_done, load_experiments
from factuality_harness.training.sweep.plan import make_plan
from factuality_harness.training.sweep.store import Store

MODEL = "smollm2-135m"
EXPERIMENTS = {"world": ("demo/world.yaml", "demo/real.yaml"), "smollm2": ("demo/smollm2.yaml",)}


def demo(
    *,
    out: Annotated[Out, Parameter(help="Folder of everything made; a sweep's store.")] = Path("out/demo"),
    setup: Literal["world", "smollm2"] = "world",
) -> None:
    """Train and score in the fact world, then score a small real model; offline, minutes.

    Samples, labels, pairs, DPO and Mask-DPO on the same pairs, lm_eval on unseen topics: a table with intervals, a
    figure, and a page of coloured sentences before and after. Interrupted, run it again: what is finished is kept.

    Parameters
    ----------
    setup
        `smollm2` takes SmolLM2-135M-Instruct through the loop in place of the fact world: some 25 minutes.
    """
    fetch(MODEL, Path("models") / MODEL)
    run_quietly([Path(name) for name in EXPERIMENTS[setup]], out)
    results = load_results(out)
    write_loop(results.experiments[setup], out, out / setup)
    if setup == "world":
        write_real(results.experiments["real"], out, out / "real")
    print()
    report(results=out, browse=[setup], title="The demo", out=out / "report.html")


def run_quietly(paths: list[Path], out: Path) -> None:
    """Run the experiments in this process, one stage after another; what libraries say goes to OUT/log.txt."""
    experiments = load_experiments(paths)
    plan, store = make_plan(experiments), Store(out)
    begin(experiments, plan, store)
    left = [stage for stage in plan.stages if not store.done(stage)]
    print(f"{len(left)} of {len(plan.stages)} stages to run; details in {out / 'log.txt'}", flush=True)
    with quiet(out / "log.txt"):
        from factuality_harness.training.sweep.worker import run_all_here

        run_all_here(plan, store)
    for stage in plan.stages:
        if why := store.failure(stage):
            print(f"error in {stage}: {why.splitlines()[0]}", file=sys.stderr)
    check_done(plan, store)


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Inside, progress bars alone reach the terminal, and the names of stages as they begin; the rest goes to `log`."""
    os.environ |= {
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    begins = logging.getLogger("factuality_harness.training.sweep.worker")
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8")
    with (
        terminal,
        log.open("a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(terminal),
    ):
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        logging.basicConfig(stream=file, level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
        logging.captureWarnings(True)
        shown = logging.StreamHandler(terminal)
        shown.setFormatter(logging.Formatter("%(message)s"))
        begins.addHandler(shown)
        os.dup2(file.fileno(), 2)  # what programs and C libraries say
        try:
            yield
        finally:
            os.dup2(terminal.fileno(), 2)
            begins.removeHandler(shown)
            logging.captureWarnings(False)
            root.handlers, root.level = before, level


def score_table(experiment: ExperimentResult) -> pd.DataFrame:
    """One row per task and model: factuality with its interval over topics, and what stands behind it."""
    rows = []
    for cell in experiment.cells:
        for shown, task in experiment.table["columns"].items():
            score = cell.scores[task]
            rows.append(
                {
                    "topics": shown,
                    "model": cell.labels["model"],
                    "factuality": score.metric("factuality"),
                    "low": score.metric("factuality_ci95_low"),
                    "high": score.metric("factuality_ci95_high"),
                    "correct": int(score.metric("correct")),
                    "incorrect": int(score.metric("incorrect")),
                    "nofact_rate": score.metric("nofact_rate"),
                    "unparsed_rate": score.metric("unparsed_rate"),
                    "sentences_per_response": score.metric("sentences_per_response"),
                    "responses": sum(question.responses for question in score.questions),
                }
            )
    return pd.DataFrame(rows).sort_values("topics", kind="stable", ignore_index=True)


def write_loop(experiment: ExperimentResult, store: Path, out: Path) -> None:
    """Table, figure, and page of the loop, in `out`; the table is printed."""
    scores = score_table(experiment)
    with whole_file(out / "scores.csv") as file:
        scores.round(4).to_csv(file, index=False, lineterminator="\n")
    draw_before_after(scores, out / "scores.png")
    first = next(iter(experiment.table["columns"].values()))
    pages = {cell.labels["model"]: samples_of(store / cell.scores[first].file, first) for cell in experiment.cells}
    shown = 1 if len(experiment.table["columns"]) > 1 else 3  # questions
    title = "Before and after" if shown > 1 else "One question, before and after"
    write_comparison(pages, out / "before_after.html", title, questions=shown)
    trained = next(cell for cell in experiment.cells if "pair" in cell.stages)
    record = {
        role: json.loads((store / "stages" / stage / "stage.json").read_text(encoding="utf-8"))["settings"]
        for role, stage in trained.stages.items()
    }
    pairs = json.loads((store / "stages" / trained.stages["pair"] / "pairs.jsonl.report.json").read_text("utf-8"))
    write_manifest(out / "manifest.json", manifest(stages=record, pairs=pairs))
    print("\n" + scores.round(3).to_string(index=False))
    print(f"\ntable: {out / 'scores.csv'}\nfigure: {out / 'scores.png'}\nbefore and after: {out / 'before_after.html'}")


def write_real(experiment: ExperimentResult, store: Path, out: Path) -> None:
    """Scores and page of the model as it came, in `out`; the scores are printed."""
    (cell,) = experiment.cells
    ((task, score),) = cell.scores.items()
    data = json.loads((store / score.file).read_text(encoding="utf-8"))
    scores = {name: data["results"][task][f"{name},annotation"] for name in data["higher_is_better"][task]}
    write_json(out / "scores.json", scores)
    title = cell.labels["model"]
    write_samples_page(samples_of(store / score.file, task), out / "page.html", f"{title} on {task}")
    source = json.loads((Path("models") / MODEL / "harness_source.json").read_text(encoding="utf-8"))
    made_with = {"judge": score.judge, "task_version": data["versions"][task]}
    write_manifest(
        out / "manifest.json",
        manifest(model=source, **made_with, questions=data["n-samples"][task]["effective"]),
    )
    print(f"\n{f'{title}, {task}':<44}{'value':>10}")
    for name, value in scores.items():
        print(f"{name:<44}{format_metric(name, value):>10}")
    print(f"\njudge: {score.judge}\nevery sentence, coloured: {out / 'page.html'}")
