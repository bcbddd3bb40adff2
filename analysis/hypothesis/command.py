"""The test on the command line."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from factuality_harness.analysis.cells import parse_labels
from factuality_harness.analysis.hypothesis.fit import gain_against_distance
from factuality_harness.analysis.hypothesis.gains import topic_gains
from factuality_harness.analysis.hypothesis.points import write_points
from factuality_harness.analysis.output import check_out
from factuality_harness.analysis.results import load_results
from factuality_harness.harness.commands import Out, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json
from factuality_harness.harness.metrics import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED


def hypothesis(
    *,
    results: Path,
    experiment: str,
    cell: Annotated[list[str], Several],
    baseline: Annotated[list[str], Several],
    task: str | None = None,
    out: Out,
) -> None:
    """Gain of each test topic against its distance to the topics trained on.

    For every test topic: the gain of factuality (cell minus baseline, same task, same seed) and the distance to the
    nearest training topics, as the sweep's stage `distances` measured it for the cell. OUT holds the points; beside it
    stand slope and rank correlation with their intervals as .json, and how they were made as .manifest.json.

    Parameters
    ----------
    results
        A sweep's store.
    experiment
        Experiment of the sweep.
    cell
        The aligned cell, LABEL=VALUE, as many as name it.
    baseline
        The cell it is compared with.
    task
        Needed where both cells have several judged tasks.
    out
        CSV file of the points.
    """
    if out.suffix != ".csv":
        raise HarnessError(f"{out}: --out names the CSV file of points; the summary goes beside it as .json")
    labels, reference = parse_labels(cell, "--cell"), parse_labels(baseline, "--baseline")
    check_out(out)
    gains = topic_gains(load_results(results), experiment, labels, reference, task)
    fit = gain_against_distance(gains.points)
    per_sd, *per_sd_ci95 = fit.per_sd
    measured = gains.distances
    summary = {
        "experiment": experiment,
        "cell": labels,
        "baseline": reference,
        "embedding": measured.embedding,
        "task": gains.task,
        "text": measured.text,
        "template": measured.template,
        "k": measured.k,
        "centre": measured.centre,
        "judge": gains.scores[0].judge,
        "clustered_on": gains.clustered,
        "fit": asdict(fit) | {"slope_per_sd": per_sd, "slope_per_sd_ci95": per_sd_ci95},
        "seeds_missing": gains.missing,
        "topics_without_checkable_sentences": gains.left_out,
        "files": {score.file: score.sha256 for score in gains.scores},
    }
    write_points(out, gains.points)
    write_json(out.with_suffix(".json"), summary)
    write_manifest(out.with_suffix(".manifest.json"), manifest(resamples=BOOTSTRAP_RESAMPLES, seed=BOOTSTRAP_SEED))
    for seed in gains.missing:
        print(f"seed {seed}: not scored in both cells, left out", file=sys.stderr)
    (low, high), (rho_low, rho_high) = fit.slope_ci95, fit.rho_ci95
    print(
        f"{fit.points} topics, {fit.seeds} seeds: gain per unit of distance {fit.slope:+.3f} "
        f"[{low:+.3f}, {high:+.3f}], Spearman's rho {fit.rho:+.3f} [{rho_low:+.3f}, {rho_high:+.3f}], "
        f"clustered on {gains.clustered}"
    )
