"""The page's figures: those of `analysis.figures`, as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator

import matplotlib.pyplot as plt

from factuality_harness.analysis.figures import command, style
from factuality_harness.analysis.report.page import Figure
from factuality_harness.analysis.results import Results
from factuality_harness.analysis.tables.build import build
from factuality_harness.harness.errors import HarnessError

TITLES = {
    "scaling": "Topics against questions",
    "near_far": "Near and far training topics",
    "best_of_n": "Best of n",
    "precision_facts": "Score against what is said",
    "reward_margins": "Reward margins in training",
    "gain_distance": "Gain against distance",
    "coverage": "Gain against coverage",
}


def draw(results: Results) -> Iterator[Figure]:
    """Every figure that has data, the paper's own after ours; a note with the reason for those without.

    What `analysis.figures` refuses to draw, say scores of two judges in one table, becomes a note too.
    """
    try:
        inputs = style.Inputs(results, build(results))
    except HarnessError as error:
        yield Figure("Figures", note=str(error))
        return
    drawn = set()
    with plt.rc_context():
        plt.style.use(style.STYLE)
        plt.rcParams["svg.hashsalt"] = "report"  # the same bytes from the same results
        for name, make in command.FIGURES.items():
            ours = name.removesuffix("_paper")
            title = TITLES.get(ours, ours.replace("_", " ").capitalize())
            if ours != name:
                if ours not in drawn:
                    continue
                title += ", as published"
            try:
                found = make(inputs)
            except HarnessError as error:
                found = str(error)
            if isinstance(found, str):
                yield Figure(title, note=found)
                continue
            drawn.add(name)
            image = io.BytesIO()
            found.savefig(image, format="svg", metadata={"Date": None}, transparent=True)
            plt.close(found)
            yield Figure(title, image.getvalue(), about=" ".join(str(make.__doc__).split()))
