"""Best-of-n curves."""

from __future__ import annotations

import pytest

from factuality_harness.analysis.figures.best_of_n import best_of_n, best_of_n_paper
from factuality_harness.analysis.figures.inputs import Inputs
from tests.helpers.plots import lines


def test_best_of_n_curves(inputs: Inputs) -> None:
    drawn = lines(best_of_n(inputs).axes[0])
    assert drawn["Mask-DPO"][1] == (16, pytest.approx(67.0))
    assert [n for n, _ in drawn["Baseline"]] == [1, 16, 32, 64]
    assert lines(best_of_n_paper(inputs).axes[0])["Mask-DPO"][-1] == (256, 94.09)
