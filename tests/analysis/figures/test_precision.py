"""Score against what is said."""

from __future__ import annotations

import pytest

from factuality_harness.analysis.figures.inputs import Inputs, main_column, widest
from factuality_harness.analysis.figures.precision import apart, fact_point, precision_facts
from tests.helpers.stores import NEAR


def test_precision_against_facts_counts_checkable_sentences(inputs: Inputs) -> None:
    fig = precision_facts(inputs)
    titles = [a.get_title().split("\n")[0] for a in fig.axes if a.get_visible()]
    assert titles == ["table02 mask", "table04 scaling", "table05 near far", "table08 methods"]
    (table,) = inputs.of(8)
    row = table.row("Mask-DPO")
    column = main_column(table)
    assert column is not None
    facts, score = fact_point(row, column)
    rows = row.cells[0].scores[NEAR].questions
    assert facts.mean == sum(q.checkable for q in rows) / sum(q.responses for q in rows)
    assert score.mean == pytest.approx(100 * sum(q.ok for q in rows) / sum(q.checkable for q in rows))


def test_marks_in_one_place_are_parted_and_others_stay() -> None:
    assert apart([4.0, 6.0, 4.01, 5.0]) == [-3.0, 0.0, 3.0, 0.0]
    assert apart([1.0]) == [0.0]
    many = apart([2.0] * 20)
    assert len(set(many)) == 20 and max(many) - min(many) < 60
    assert widest([({1}, "a"), ({1, 2}, "b"), ({2, 1}, "c"), ({3}, "d")]) == ["b", "d"]
