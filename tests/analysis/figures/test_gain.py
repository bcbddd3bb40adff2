"""Gain against distance: points, slope, and files that are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from factuality_harness.analysis.figures.gain import gain_distance
from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.results import load_results
from factuality_harness.harness.errors import HarnessError
from tests.helpers.plots import lines
from tests.helpers.stores import full_store


def test_gain_against_distance_shows_points_and_slope(inputs: Inputs, store: Path, tmp_path: Path) -> None:
    axis = gain_distance(inputs).axes[0]
    assert lines(axis)["seed 1"][0] == (0.0, pytest.approx(22.0))
    title = r"table04_scaling: topic, 1/3\nhidden:policy: -7\.6 \[.*\] points per s\.d\."
    assert re.fullmatch(title, axis.get_title())
    (tmp_path / "hypothesis").mkdir()
    (tmp_path / "hypothesis" / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(HarnessError, match=r"x\.csv: no table of topic, seed, distance"):
        gain_distance(Inputs(load_results(full_store(tmp_path).root), []))
