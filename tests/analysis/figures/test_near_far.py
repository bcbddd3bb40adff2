"""Near and far halves: bars from zero, missing ones shown."""

from __future__ import annotations

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.near_far import near_far, near_far_paper
from tests.helpers.plots import words


def test_near_far_bars_start_at_zero_and_missing_halves_are_shown(inputs: Inputs) -> None:
    (axis,) = (a for a in near_far(inputs).axes if a.get_visible())
    heights = [bar.get_height() for group in axis.containers if hasattr(group, "patches") for bar in group.patches]
    assert [round(h, 1) for h in heights] == [52.3, 62.3, 52.3]
    assert axis.get_ylim()[0] == 0
    assert sorted(words(axis)) == ["+10.0", "base", "missing"]
    paper = near_far_paper(inputs)
    assert [words(a) for a in paper.axes] == [["+2.4", "+0.7", "+1.2", "+0.8"], ["+0.2", "+4.5", "+0.9", "+0.5"]]
