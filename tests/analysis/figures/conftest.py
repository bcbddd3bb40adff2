"""A small store with everything that a figure shows, and the style they are drawn in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.style import STYLE
from factuality_harness.analysis.hypothesis.fit import gain_against_distance
from factuality_harness.analysis.hypothesis.points import Point, write_points
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from tests.helpers.stores import full_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = full_store(tmp_path_factory.mktemp("store")).root
    points = [
        Point(f"t{i}", seed, i / 10, 0.4, 0.6 - i / 30 + seed / 50, 0.2 - i / 30 + seed / 50, 9, 9, f"c{i % 4}")
        for seed in (0, 1)
        for i in range(8)
    ]
    (root / "hypothesis").mkdir()
    write_points(root / "hypothesis" / "policy.csv", points)
    fit = gain_against_distance(points, resamples=50)
    per_sd, *limits = fit.per_sd
    data: dict = {"experiment": "table04_scaling", "cell": {"dimension": "topic", "scale": "1/3"}}
    data |= {"embedding": "hidden:policy", "fit": asdict(fit) | {"slope_per_sd": per_sd, "slope_per_sd_ci95": limits}}
    (root / "hypothesis" / "policy.json").write_text(json.dumps(data))
    return root


@pytest.fixture(scope="module")
def inputs(store: Path) -> Inputs:
    results = load_results(store)
    return Inputs(results, build_tables(results))


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        plt.style.use(STYLE)
        yield
    plt.close("all")
