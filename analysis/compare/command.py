"""Two or more checkpoints against the first, paired by question."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from factuality_harness.analysis.cells import parse_labels
from factuality_harness.analysis.compare.runs import check_alike, open_cell, open_run
from factuality_harness.analysis.compare.verdict import compare_all, comparison_text
from factuality_harness.analysis.output import about_judge, check_out
from factuality_harness.harness.commands import Flag, Out, Seed, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, sha256, write_manifest
from factuality_harness.harness.io.write import json_safe
from factuality_harness.harness.metrics import BOOTSTRAP_SEED


def compare(
    *runs: Path,
    results: Path | None = None,
    experiment: str | None = None,
    cell: Annotated[list[str] | None, Several] = None,
    task: str | None = None,
    common: Flag = False,
    detect: float = 0.03,
    seed: Seed = BOOTSTRAP_SEED,
    out: Out | None = None,
) -> None:
    """Two or more checkpoints, paired by question, with a verdict.

    A cell of a sweep is the pool of its seeds; a topic within a seed is the cluster, or the topic with all its seeds
    where every seed answers about the same topics. Every run must have answered the same questions (--common: those
    they share), in the same version of the task, labelled by the same judge.

    Interval: bootstrap over topics, which draws a topic's answers of both checkpoints together. p-value: the two
    checkpoints' answers to a topic are swapped at random, 10 000 times, and the difference over its own standard error
    is compared, which is right also for checkpoints with unlike numbers of facts. Holm's correction over the runs. The
    judge's own error is in none of this: both checkpoints share the judge, and `factuality correct` deals with it.

    Interval and p-value are about these checkpoints: they know nothing of how the training seed moves a recipe's
    result, so a recipe without effect can look certain within its seeds. For cells the difference paired by seed, with
    its t interval over the seeds, stands beside, and the verdict is careful where that interval holds 0.

    Parameters
    ----------
    runs
        lm_eval output folders, the baseline first.
    results
        A sweep's store, or its collected files.
    experiment
        Experiment of the sweep.
    cell
        Cells to compare instead of runs, LABEL=VALUE[,LABEL=VALUE] each, the baseline first.
    task
        Needed where a run holds several judged tasks.
    common
        Compare the questions that all runs share.
    detect
        Difference to plan for.
    out
        Write the comparison as JSON, with its manifest.
    """
    cells = cell or []
    if bool(runs) == bool(cells) or len(runs) + len(cells) < 2:
        raise HarnessError("give two or more runs, or --results, --experiment and two or more --cell")
    if not detect > 0:
        raise HarnessError(f"--detect {detect:g}: must be above 0")
    if seed < 0:
        raise HarnessError(f"--seed {seed}: must be 0 or above")
    check_out(out)
    if cells:
        if results is None or experiment is None:
            raise HarnessError("--cell needs --results and --experiment")
        opened = [open_cell(results, experiment, parse_labels(labels, "--cell"), task) for labels in cells]
    else:
        opened = [open_run(path, task) for path in runs]
    first = opened[0]
    found = compare_all(check_alike(opened, common=common), detect=detect, seed=seed)
    print(f"task {first.task}, version {first.version}, judge {first.judge}")
    print(f"{about_judge(first.judge)}\n")
    print(comparison_text(found))
    if out:
        files = {str(f): sha256(f) for run in opened for f in run.files}
        data: dict[str, Any] = {"task": first.task, "version": first.version, "judge": first.judge}
        data |= {"about_judge": about_judge(first.judge)}
        data |= {"comparisons": [json_safe(asdict(c)) for c in found], "manifest": manifest(files=files)}
        write_manifest(out, data)
