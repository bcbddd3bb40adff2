"""The page's figures: those of `analysis.figures`, as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator

import matplotlib.pyplot as plt

from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.registry import FIGURES
from factuality_harness.analysis.figures.style import STYLE
from factuality_harness.analysis.report.page import PageFigure
from factuality_harness.analysis.results import Results
from factuality_harness.analysis.tables.build import build_tables
from factuality_harness.harness.errors import HarnessError


def page_figures(results: Results) -> Iterator[PageFigure]:
    """Every figure that has data, the paper's own after ours; a note with the reason for those without.

    What a figure refuses to draw, say scores of two judges in one table, becomes a note too.
    """
    try:
        inputs = Inputs(results, build_tables(results))
    except HarnessError as error:
        yield PageFigure("Figures", note=str(error))
        return
    drawn = {""}
    with plt.rc_context():
        plt.style.use(STYLE)
        plt.rcParams["svg.hashsalt"] = "report"  # the same bytes from the same results
        for name, plot in FIGURES.items():
            if plot.beside not in drawn:
                continue
            try:
                found = plot.draw(inputs)
            except HarnessError as error:
                found = str(error)
            if isinstance(found, str):
                yield PageFigure(plot.title, note=found)
                continue
            drawn.add(name)
            image = io.BytesIO()
            found.savefig(image, format="svg", metadata={"Date": None}, transparent=True)
            plt.close(found)
            yield PageFigure(plot.title, image.getvalue(), about=" ".join(str(plot.draw.__doc__).split()))
