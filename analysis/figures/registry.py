"""Every figure, in the order in which they are drawn and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from factuality_harness.analysis.figures.best_of_n import best_of_n, best_of_n_paper
from factuality_harness.analysis.figures.coverage import coverage
from factuality_harness.analysis.figures.gain import gain_distance
from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.margins import reward_margins
from factuality_harness.analysis.figures.near_far import near_far, near_far_paper
from factuality_harness.analysis.figures.precision import precision_facts
from factuality_harness.analysis.figures.scaling import scaling, scaling_paper


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure. draw: makes it, or says why there is none. beside: of a figure of the paper's own numbers, the name of
    ours that it stands beside."""

    title: str
    draw: Callable[[Inputs], Figure | str]
    beside: str = ""


FIGURES: dict[str, Plot] = {
    "scaling": Plot("Topics against questions", scaling),
    "scaling_paper": Plot("Topics against questions, as published", scaling_paper, "scaling"),
    "near_far": Plot("Near and far training topics", near_far),
    "near_far_paper": Plot("Near and far training topics, as published", near_far_paper, "near_far"),
    "best_of_n": Plot("Best of n", best_of_n),
    "best_of_n_paper": Plot("Best of n, as published", best_of_n_paper, "best_of_n"),
    "precision_facts": Plot("Score against what is said", precision_facts),
    "reward_margins": Plot("Reward margins in training", reward_margins),
    "gain_distance": Plot("Gain against distance", gain_distance),
    "coverage": Plot("Gain against coverage", coverage),
}
"""File name (without its ending) to figure."""
