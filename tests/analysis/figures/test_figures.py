"""Figures: what is drawn is what was measured, in the same bytes each time, missing cells shown, the rest skipped."""

import json
import re
from dataclasses import asdict

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from factuality_harness.analysis.collect import collect
from factuality_harness.analysis.figures import style as figures
from factuality_harness.analysis.figures.command import FIGURES, draw, main
from factuality_harness.analysis.figures.style import Inputs
from factuality_harness.analysis.hypothesis import Point, gain_against_distance, write_points
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build
from factuality_harness.harness.errors import HarnessError
from tests.helpers.stores import NEAR, StoreBuilder, full_store, questions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = full_store(tmp_path_factory.mktemp("store")).root
    points = [
        Point(f"t{i}", seed, i / 10, 0.4, 0.6 - i / 30 + seed / 50, 0.2 - i / 30 + seed / 50, 9, 9, f"c{i % 4}")
        for seed in (0, 1)
        for i in range(8)
    ]
    (root / "hypothesis").mkdir()
    write_points(root / "hypothesis" / "policy.csv", points)
    fit = gain_against_distance(points, resamples=50)
    per_sd, *limits = fit.per_sd
    data: dict = {"experiment": "table04_scaling", "cell": {"dimension": "topic", "scale": "1/3"}}
    data |= {"embedding": "hidden:policy", "fit": asdict(fit) | {"slope_per_sd": per_sd, "slope_per_sd_ci95": limits}}
    (root / "hypothesis" / "policy.json").write_text(json.dumps(data))
    return root


@pytest.fixture(scope="module")
def inputs(store):
    results = load_results(store)
    return Inputs(results, build(results))


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plt.style.use(figures.STYLE)
        yield
    plt.close("all")


def lines(axis):
    """Label to points of the drawn lines."""
    return {
        line.get_label(): list(zip(*(map(float, v) for v in line.get_data()), strict=True))
        for line in axis.lines
        if not line.get_label().startswith("_")
    }


def words(axis):
    return [text.get_text() for text in axis.texts]


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(store, tmp_path, capsys):
    assert main(["--results", str(store), "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().err == ""
    results = load_results(store)
    draw(Inputs(results, build(results)), tmp_path / "b")
    made = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert made == sorted(f"{name}.{ending}" for name in FIGURES for ending in ("pdf", "png"))
    for name in made:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert b"CreationDate" not in (tmp_path / "a" / "scaling.pdf").read_bytes()


def test_collected_files_draw_the_same(inputs, store, tmp_path):
    collect(inputs.results, tmp_path)
    results = load_results(tmp_path)
    again = Inputs(results, build(results))
    assert lines(figures.coverage(again).axes[0]) == lines(figures.coverage(inputs).axes[0])
    assert figures.gain_distance(again).startswith("no points in hypothesis/")


def test_scaling_draws_the_table_and_the_papers_the_same_way(inputs):
    (table,) = inputs.of(4)
    column = figures.main_column(table)
    (axis,) = figures.scaling(inputs).axes
    assert words(axis) == ["base"]
    drawn = lines(axis)
    values = {r.name: 100 * r.estimate(column).mean for r in table.rows}
    shares = {"1/3": 1 / 3, "2/3": 2 / 3, "1": 1.0}
    for dimension, label in figures.DIMENSIONS.items():
        expected = [(x, pytest.approx(values[f"{dimension}, {s}"])) for s, x in shares.items()]
        assert drawn[label] == expected
    paper = figures.scaling_paper(inputs).axes[0]
    assert lines(paper)["fewer topics"] == [(1 / 3, 65.04), (2 / 3, 71.56), (1.0, 77.53)]
    assert paper.get_title() == "paper: Llama-3.1-8B-Instruct"


def test_near_far_bars_start_at_zero_and_missing_halves_are_shown(inputs):
    (axis,) = (a for a in figures.near_far(inputs).axes if a.get_visible())
    heights = [bar.get_height() for group in axis.containers if hasattr(group, "patches") for bar in group.patches]
    assert [round(h, 1) for h in heights] == [52.3, 62.3, 52.3]
    assert axis.get_ylim()[0] == 0
    assert sorted(words(axis)) == ["+10.0", "base", "missing"]
    paper = figures.near_far_paper(inputs)
    assert [words(a) for a in paper.axes] == [["+2.4", "+0.7", "+1.2", "+0.8"], ["+0.2", "+4.5", "+0.9", "+0.5"]]


def test_best_of_n_curves(inputs):
    drawn = lines(figures.best_of_n(inputs).axes[0])
    assert drawn["Mask-DPO"][1] == (16, pytest.approx(67.0))
    assert [n for n, _ in drawn["Baseline"]] == [1, 16, 32, 64]
    assert lines(figures.best_of_n_paper(inputs).axes[0])["Mask-DPO"][-1] == (256, 94.09)


def test_precision_against_facts_counts_checkable_sentences(inputs):
    fig = figures.precision_facts(inputs)
    titles = [a.get_title().split("\n")[0] for a in fig.axes if a.get_visible()]
    assert titles == ["table02 mask", "table04 scaling", "table05 near far", "table08 methods"]
    (table,) = inputs.of(8)
    row = table.row("Mask-DPO")
    facts, score = figures.fact_point(row, figures.main_column(table))
    rows = row.cells[0].scores[NEAR].questions
    assert facts.mean == sum(q.checkable for q in rows) / sum(q.responses for q in rows)
    assert score.mean == pytest.approx(100 * sum(q.ok for q in rows) / sum(q.checkable for q in rows))


def test_reward_margins_are_means_over_seeds(inputs):
    axis = next(a for a in figures.reward_margins(inputs).axes if a.get_title() == "table02 mask")
    margins = inputs.results.margins
    stages = [f"train-table02_mask-w_o_mask-{seed}" for seed in (0, 1, 2)]
    end = margins[margins.stage.isin(stages) & (margins.step == 100)].margin
    assert len(end) == 3
    assert axis.lines[0].get_ydata()[-1] == pytest.approx(end.mean())
    (first,) = axis.containers[0].get_children()[-1:]  # the interval at the end of the first curve
    low, high = stats.t.interval(0.95, 2, end.mean(), stats.sem(end))
    assert sorted(y for _, y in first.get_segments()[0]) == [pytest.approx(low), pytest.approx(high)]
    assert len(axis.containers) == 2  # one of each of the two trained rows, none of the base
    assert not any(part.get_clip_on() for c in axis.containers for part in c.get_children())  # right of the axis


def one_training(root, name, kept):
    """Make the trained cells of an experiment those of another, seed by seed."""
    file = root / "experiments" / f"{name}.json"
    data = json.loads(file.read_text())
    for cell in data["cells"]:
        cell["stages"]["train"] = f"train-{kept}-{cell['seed']}"
    file.write_text(json.dumps(data))


def test_margins_show_each_training_once_and_each_unit_by_itself(tmp_path):
    builder = StoreBuilder(tmp_path)
    for name, number, axis, values in (
        ("methods", 8, "method", ["DPO", "SePO", "Mask-DPO"]),
        ("temperature", 11, "temperature", ["0.25", "0.5"]),
    ):
        builder.experiment(
            name, {axis: values}, lambda *_: {NEAR: questions(4)}, table={"number": number, "columns": {"score": NEAR}}
        )
    one_training(tmp_path, "temperature", "methods-Mask-DPO")
    for file in (tmp_path / "stages").glob("train-methods-SePO-*/stage.json"):
        record = json.loads(file.read_text())
        record["settings"]["arguments"] = {"preference_loss": "sepo"}
        file.write_text(json.dumps(record))
    results = load_results(tmp_path)
    inputs = Inputs(results, build(results))
    shown = [a for a in figures.reward_margins(inputs).axes if a.get_visible()]
    assert [(a.get_title(), a.get_ylabel()) for a in shown] == [
        ("methods", "reward margin"),
        ("methods", "margin, mean over tokens"),
    ]
    assert [[t.get_text() for t in a.get_legend().texts] for a in shown] == [["DPO", "Mask-DPO"], ["SePO"]]
    inputs.tables[:] = [t for t in inputs.tables if t.number == 11]
    (axis, *_) = figures.reward_margins(inputs).axes
    assert (axis.get_title(), len(axis.containers)) == ("temperature", 1)  # alone, the one training there is


def test_marks_in_one_place_are_parted_and_others_stay():
    assert figures.apart([4.0, 6.0, 4.01, 5.0]) == [-3.0, 0.0, 3.0, 0.0]
    assert figures.apart([1.0]) == [0.0]
    many = figures.apart([2.0] * 20)
    assert len(set(many)) == 20 and max(many) - min(many) < 60
    assert figures.widest([({1}, "a"), ({1, 2}, "b"), ({2, 1}, "c"), ({3}, "d")]) == ["b", "d"]


def test_small_panels_hide_nothing_under_text(inputs):
    for make in (figures.scaling, figures.near_far, figures.precision_facts, figures.reward_margins):
        figure = make(inputs)
        figure.canvas.draw()
        for axis in (a for a in figure.axes if a.get_visible()):
            inside = axis.get_window_extent()
            texts = [t for t in axis.texts if t.get_text() == "base"]
            for box in [t.get_window_extent() for t in texts] + [axis.get_legend().get_window_extent()]:
                assert box.x0 >= inside.x1 or box.y1 <= inside.y0
            assert axis.get_window_extent().height > 80, axis.get_title()  # of 100 a inch
        plt.close(figure)


def test_a_place_that_cannot_be_written_is_one_line(store, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--results", str(store), "--out", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {tmp_path / 'file' / 'x'}: cannot be written (") and error.count("\n") == 1


def test_gain_against_distance_shows_points_and_slope(inputs, store, tmp_path):
    axis = figures.gain_distance(inputs).axes[0]
    assert lines(axis)["seed 1"][0] == (0.0, pytest.approx(22.0))
    title = r"table04_scaling: topic, 1/3\nhidden:policy: -7\.6 \[.*\] points per s\.d\."
    assert re.fullmatch(title, axis.get_title())
    (tmp_path / "hypothesis").mkdir()
    (tmp_path / "hypothesis" / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(HarnessError, match=r"x\.csv: no table of topic, seed, distance"):
        figures.gain_distance(Inputs(load_results(full_store(tmp_path).root), []))


def test_coverage_is_gain_over_the_base_along_both_axes(inputs):
    left, right = figures.coverage(inputs).axes
    assert lines(left)["3"] == [(4, pytest.approx(10 / 3)), (8, pytest.approx(40 / 3)), (16, pytest.approx(70 / 3))]
    assert [x for x, _ in lines(left)["12"]] == [4, 8]
    assert lines(right)["16"] == [(3, pytest.approx(70 / 3)), (6, pytest.approx(70 / 3))]
    assert "missing" in words(left) and "missing" in words(right)


def test_the_base_of_coverage_may_be_the_cell_without_training(tmp_path):
    table = {"kind": "coverage", "columns": {"near": NEAR}}
    StoreBuilder(tmp_path).experiment(
        "c",
        {"clusters": ["0", "4"], "per_cluster": ["3"]},
        lambda labels, seed: {NEAR: questions(4 + seed + int(labels["clusters"]) // 4)},
        table=table,
        base="0",
    )
    made = build(load_results(tmp_path))
    assert figures.untrained(made[-1]).name == "0, 3"


def test_coverage_needs_its_axes(tmp_path):
    StoreBuilder(tmp_path).experiment(
        "c", {"clusters": ["4"]}, lambda *_: {NEAR: questions(4)}, table={"kind": "coverage"}
    )
    results = load_results(tmp_path)
    with pytest.raises(HarnessError, match="needs the axes clusters and per_cluster"):
        figures.coverage(Inputs(results, build(results)))


def test_figures_without_data_are_skipped_with_a_reason(tmp_path, capsys):
    StoreBuilder(tmp_path).experiment(
        "e", {"method": ["DPO"]}, lambda *_: None, table={"number": 8, "columns": {"score": NEAR}}
    )
    assert main(["--results", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert {line.split(":")[0] for line in err.splitlines()} == {
        f"skipped {name}" for name in FIGURES if not name.endswith("_paper")
    }
    assert len(out.splitlines()) == 6


def test_every_series_differs_in_colour_marker_and_line():
    looks = [figures.style_of(i) for i in range(8)]
    for part in ("color", "marker", "linestyle"):
        assert len({str(look[part]) for look in looks}) == 8
    okabe_ito = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"}
    assert {to_hex(look["color"]) for look in looks[:7]} == okabe_ito
