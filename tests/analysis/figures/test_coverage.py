"""Gain against coverage: along both axes, over the base."""

from __future__ import annotations

from pathlib import Path

import pytest

from factuality_harness.analysis.figures.coverage import coverage, untrained
from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from factuality_harness.harness.errors import HarnessError
from tests.helpers.plots import lines, words
from tests.helpers.stores import NEAR, StoreBuilder, questions


def test_coverage_is_gain_over_the_base_along_both_axes(inputs: Inputs) -> None:
    left, right = coverage(inputs).axes
    assert lines(left)["3"] == [(4, pytest.approx(10 / 3)), (8, pytest.approx(40 / 3)), (16, pytest.approx(70 / 3))]
    assert [x for x, _ in lines(left)["12"]] == [4, 8]
    assert lines(right)["16"] == [(3, pytest.approx(70 / 3)), (6, pytest.approx(70 / 3))]
    assert "missing" in words(left) and "missing" in words(right)


def test_the_base_of_coverage_may_be_the_cell_without_training(tmp_path: Path) -> None:
    table = {"kind": "coverage", "columns": {"near": NEAR}}
    StoreBuilder(tmp_path).experiment(
        "c",
        {"clusters": ["0", "4"], "per_cluster": ["3"]},
        lambda labels, seed: {NEAR: questions(4 + seed + int(labels["clusters"]) // 4)},
        table=table,
        base="0",
    )
    made = build_tables(load_results(tmp_path))
    assert untrained(made[-1]).name == "0, 3"


def test_coverage_needs_its_axes(tmp_path: Path) -> None:
    StoreBuilder(tmp_path).experiment(
        "c", {"clusters": ["4"]}, lambda *_: {NEAR: questions(4)}, table={"kind": "coverage"}
    )
    results = load_results(tmp_path)
    with pytest.raises(HarnessError, match="needs the axes clusters and per_cluster"):
        coverage(Inputs(results, build_tables(results)))
