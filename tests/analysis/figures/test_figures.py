"""All figures: the same bytes each time, from a store and from collected files, the rest skipped with its reason."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from factuality_harness.analysis.collect import collect
from factuality_harness.analysis.figures.command import write_figures
from factuality_harness.analysis.figures.coverage import coverage
from factuality_harness.analysis.figures.gain import gain_distance
from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.figures.margins import reward_margins
from factuality_harness.analysis.figures.near_far import near_far
from factuality_harness.analysis.figures.precision import precision_facts
from factuality_harness.analysis.figures.registry import FIGURES
from factuality_harness.analysis.figures.scaling import scaling
from factuality_harness.analysis.figures.style import style_of
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from tests.helpers.cli import command
from tests.helpers.plots import lines
from tests.helpers.stores import NEAR, StoreBuilder

main = command("figures")


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(store), "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().err == ""
    results = load_results(store)
    write_figures(Inputs(results, build_tables(results)), tmp_path / "b")
    made = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert made == sorted(f"{name}.{ending}" for name in FIGURES for ending in ("pdf", "png"))
    for name in made:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert b"CreationDate" not in (tmp_path / "a" / "scaling.pdf").read_bytes()


def test_collected_files_draw_the_same(inputs: Inputs, store: Path, tmp_path: Path) -> None:
    collect(inputs.results, tmp_path)
    results = load_results(tmp_path)
    again = Inputs(results, build_tables(results))
    assert lines(coverage(again).axes[0]) == lines(coverage(inputs).axes[0])
    assert gain_distance(again).startswith("no points in hypothesis/")


def test_small_panels_hide_nothing_under_text(inputs: Inputs) -> None:
    for make in (scaling, near_far, precision_facts, reward_margins):
        figure = make(inputs)
        figure.canvas.draw()
        for axis in (a for a in figure.axes if a.get_visible()):
            inside = axis.get_window_extent()
            texts = [t for t in axis.texts if t.get_text() == "base"]
            for box in [t.get_window_extent() for t in texts] + [axis.get_legend().get_window_extent()]:
                assert box.x0 >= inside.x1 or box.y1 <= inside.y0
            assert axis.get_window_extent().height > 80, axis.get_title()  # of 100 a inch
        plt.close(figure)


def test_a_place_that_cannot_be_written_is_one_line(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--results", str(store), "--out", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'file' / 'x'}/") and ": cannot be written (" in error
    assert error.count("\n") == 1


def test_figures_without_data_are_skipped_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StoreBuilder(tmp_path).experiment(
        "e", {"method": ["DPO"]}, lambda *_: None, table={"number": 8, "columns": {"score": NEAR}}
    )
    assert main(["--results", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert {line.split(":")[0] for line in err.splitlines()} == {
        f"skipped {name}" for name in FIGURES if not name.endswith("_paper")
    }
    assert len(out.splitlines()) == 6


def test_every_series_differs_in_colour_marker_and_line() -> None:
    looks = [style_of(i) for i in range(8)]
    for part in ("color", "marker", "linestyle"):
        assert len({str(look[part]) for look in looks}) == 8
    okabe_ito = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"}
    assert {to_hex(look["color"]) for look in looks[:7]} == okabe_ito
