"""Topics against questions: what is drawn is what was measured and what is printed."""

from __future__ import annotations

import pytest

from factuality_harness.analysis.figures.inputs import Inputs, main_column
from factuality_harness.analysis.figures.scaling import DIMENSIONS, scaling, scaling_paper
from tests.helpers.plots import lines, words


def test_scaling_draws_the_table_and_the_papers_the_same_way(inputs: Inputs) -> None:
    (table,) = inputs.of(4)
    column = main_column(table)
    assert column is not None
    (axis,) = scaling(inputs).axes
    assert words(axis) == ["base"]
    drawn = lines(axis)
    values = {r.name: 100 * r.estimate(column).mean for r in table.rows}
    shares = {"1/3": 1 / 3, "2/3": 2 / 3, "1": 1.0}
    for dimension, label in DIMENSIONS.items():
        expected = [(x, pytest.approx(values[f"{dimension}, {s}"])) for s, x in shares.items()]
        assert drawn[label] == expected
    paper = scaling_paper(inputs).axes[0]
    assert lines(paper)["fewer topics"] == [(1 / 3, 65.04), (2 / 3, 71.56), (1.0, 77.53)]
    assert paper.get_title() == "paper: Llama-3.1-8B-Instruct"
