"""Gain against distance: the statistics against scipy and brute force, the command on a store."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from factuality_harness.analysis.hypothesis.fit import gain_against_distance, weighted_ranks
from factuality_harness.analysis.hypothesis.points import Point, read_points, write_points
from factuality_harness.analysis.results import load_results
from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.embeddings.distances import TopicDistances, read_distances, write_distances
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.world.generate import World, WorldConfig
from tests.helpers.cli import command

main = command("hypothesis")


def point(topic: str, distance: float, gain: float, seed: int = 0, unit: str = "") -> Point:
    return Point(topic, seed, distance, 0.4, 0.4 + gain, gain, 10, 10, unit or topic)


def noisy(seed: int, topics: int, slope: float, *, seeds: int = 1, spread: float = 0.1) -> list[Point]:
    """Topics whose gain falls by `slope` a unit of distance, with seed effects and Gaussian noise."""
    rng = np.random.default_rng(seed)
    distance = rng.uniform(0, 1, (seeds, topics))
    gain = 0.3 * np.arange(seeds)[:, None] + slope * distance + rng.normal(0, spread, (seeds, topics))
    return [
        point(f"t{i}", float(distance[s, i]), float(gain[s, i]), s, f"seed {s}, t{i}")
        for s in range(seeds)
        for i in range(topics)
    ]


# ---------------------------------------------------------------- statistics


@given(st.integers(0, 1000), st.integers(3, 30))
def test_one_seed_is_scipys_slope_and_spearman(seed: int, topics: int) -> None:
    points = noisy(seed, topics, -0.5)
    x, y = [p.distance for p in points], [p.gain for p in points]
    fit = gain_against_distance(points, resamples=20)
    line = stats.linregress(x, y)
    assert fit.slope == pytest.approx(line.slope) and fit.line(0) == pytest.approx(line.intercept)
    assert fit.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert fit.mean_gain == pytest.approx(np.mean(y)) and fit.sd_distance == pytest.approx(np.std(x))
    assert (fit.points, fit.seeds, fit.units) == (topics, 1, topics)


@given(st.integers(0, 1000), st.lists(st.integers(3, 12), min_size=2, max_size=4))
def test_seeds_have_an_intercept_each(seed: int, sizes: list[int]) -> None:
    """The slope is that of a least-squares fit with a dummy variable a seed."""
    rng = np.random.default_rng(seed)
    points = [
        point(f"t{i}", float(rng.uniform()), float(rng.normal() + 5 * s), s)
        for s, n in enumerate(sizes)
        for i in range(n)
    ]
    design = np.array([[p.distance, *(float(p.seed == s) for s in range(len(sizes)))] for p in points])
    expected = np.linalg.lstsq(design, np.array([p.gain for p in points]), rcond=None)[0][0]
    assert gain_against_distance(points, resamples=20).slope == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12).filter(
        lambda v: any(c for _, c in v)
    )
)
def test_weighted_ranks_are_those_of_repeated_values(values: list[tuple[int, int]]) -> None:
    x, counts = np.array([v for v, _ in values], dtype=float), np.array([c for _, c in values])
    repeated = stats.rankdata(np.repeat(x, counts))
    expected = repeated - repeated.mean()
    np.testing.assert_allclose(np.repeat(weighted_ranks(x, counts[None, :].astype(float))[0], counts), expected)


def test_the_bootstrap_is_that_of_repeated_points() -> None:
    """The vectorised resampling against the plain one: redraw units, refit with numpy and scipy."""
    rng = np.random.default_rng(5)
    points = [
        replace(p, topic=f"{p.topic}{part}", distance=p.distance + rng.normal(0, 0.2), gain=p.gain + rng.normal(0, 0.1))
        for p in noisy(1, 15, -0.4)
        for part in "ab"
    ]
    fit = gain_against_distance(points)
    units = sorted({p.unit for p in points})
    rows = {unit: np.array([(p.distance, p.gain) for p in points if p.unit == unit]) for unit in units}
    slopes, rhos = [], []
    draw = random.Random(0)
    for _ in range(1500):
        x, y = np.concatenate([rows[unit] for unit in draw.choices(units, k=len(units))]).T
        slopes.append(np.polyfit(x, y, 1)[0])
        rhos.append(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    assert fit.units == 15 and fit.points == 30
    np.testing.assert_allclose(fit.slope_ci95, np.quantile(slopes, [0.025, 0.975]), atol=0.05)
    np.testing.assert_allclose(fit.rho_ci95, np.quantile(rhos, [0.025, 0.975]), atol=0.05)


def test_intervals_cover_what_is_true() -> None:
    """Nominal 95 %: of 100 samples of two seeds with a known slope, about 95 intervals hold it."""
    hit = 0
    for seed in range(100):
        low, high = gain_against_distance(noisy(seed, 40, -0.3, seeds=2), resamples=400).slope_ci95
        hit += low <= -0.3 <= high
    assert 88 <= hit <= 99, hit


def test_topics_that_share_a_fate_are_drawn_together() -> None:
    """Ten copies of every topic are no more evidence than one when the unit says so, and look like more when not."""
    few = noisy(0, 20, -0.5)
    copied = [replace(p, topic=f"{p.topic}, copy {i}") for p in few for i in range(10)]
    alone = gain_against_distance(few, resamples=2000)
    together = gain_against_distance(copied, resamples=2000)
    np.testing.assert_allclose(together.slope_ci95, alone.slope_ci95, atol=1e-9)
    np.testing.assert_allclose(together.rho_ci95, alone.rho_ci95, atol=0.01)
    apart = gain_against_distance([replace(p, unit=p.topic) for p in copied], resamples=2000)
    assert np.diff(apart.slope_ci95) < 0.5 * np.diff(together.slope_ci95)


def test_topics_under_every_seed_are_one_unit() -> None:
    """The same test topics aligned with three seeds: their common fate is not counted three times."""
    few = noisy(0, 20, -0.5)
    thrice = [replace(p, seed=s, unit=p.topic) for p in few for s in range(3)]
    fit = gain_against_distance(thrice, resamples=2000)
    assert (fit.units, fit.points, fit.seeds) == (20, 60, 3)
    np.testing.assert_allclose(fit.slope_ci95, gain_against_distance(few, resamples=2000).slope_ci95, atol=1e-9)


@given(st.integers(0, 100))
def test_the_order_of_points_does_not_matter(seed: int) -> None:
    points = noisy(seed, 6, -0.5, seeds=2)
    shuffled = random.Random(seed).sample(points, len(points))
    assert gain_against_distance(shuffled, resamples=50) == gain_against_distance(points, resamples=50)


def test_what_has_no_slope_is_refused() -> None:
    with pytest.raises(HarnessError, match="2 topics with a gain"):
        gain_against_distance(noisy(0, 2, 1))
    with pytest.raises(HarnessError, match="there is no slope"):
        gain_against_distance([point(f"t{i}", 0.5, i / 10) for i in range(5)])
    with pytest.raises(HarnessError, match="there is no slope"):
        gain_against_distance([point(f"t{i}", i / 10, 0.1) for i in range(5)])
    with pytest.raises(HarnessError, match="there is no slope"):  # differs between seeds alone
        gain_against_distance([point(f"t{i}", i % 2, i % 3, seed=i % 2) for i in range(6)])


def test_points_and_their_file(tmp_path: Path) -> None:
    points = [replace(p, topic=name) for p, name in zip(noisy(0, 3, 1), ["NA", "a, b", "金星"], strict=True)]
    write_points(tmp_path / "p.csv", points)
    for read, written in zip(read_points(tmp_path / "p.csv"), points, strict=True):
        assert asdict(read) == pytest.approx(asdict(written), abs=1e-6)


# ---------------------------------------------------------------- the command


def annotated(topic: str, ok: int, wrong: int) -> Annotation:
    """An answer of `ok` right and `wrong` contradictory sentences."""
    text, sentences, judgements = "", [], []
    for label, count in ((Label.OK, ok), (Label.CONTRADICTORY, wrong)):
        for _ in range(count):
            start = len(text) + bool(text)
            text = f"{text} It is so." if text else "It is so."
            sentences.append(Sentence(text[start:], start, len(text)))
            judgements.append(Judgement(label))
    return Annotation(f"What of {topic}?", text, "en", "world", topic, tuple(sentences), tuple(judgements))


def write_score(folder: Path, rows: list[Annotation], task: str = "world_factuality", judge: str = "world") -> None:
    """lm_eval's two files for a model whose answers were judged."""
    where = folder / "lm_eval" / "model"
    where.mkdir(parents=True)
    stamp = "2026-01-01T00-00-00.000000"
    results: dict[str, Any] = {
        "results": {task: {"correct,annotation": sum(r.count(Label.OK) for r in rows)}},
        "versions": {task: 1},
        "configs": {task: {"metadata": {"judge": judge}}},
    }
    (where / f"results_{stamp}.json").write_text(json.dumps(results))
    samples = (
        {"doc_id": i, "filter": "annotation", "filtered_resps": [json.dumps(row.to_dict())]}
        for i, row in enumerate(rows)
    )
    write_jsonl(where / f"samples_{task}_{stamp}.jsonl", samples)


WORLDS = {seed: World(WorldConfig(seed=seed, clusters=8, topics=(3, 1, 3), bio_clusters=0)) for seed in (0, 1)}


def measured(seed: int) -> TopicDistances:
    """Distances as a sweep's stage writes them: near topics lie nearer."""
    rng = random.Random(f"distances {seed}")
    test = WORLDS[seed].select("test")
    return TopicDistances(
        embedding="hidden:policy@1",
        text="Entry: {topic}, {kind} of",
        template=None,
        k=2,
        centre=True,
        training_topics=12,
        distance={t.name: rng.uniform(0.1, 0.4) + 0.3 * (t.side != "near") for t in test},
        unit={t.name: f"world {seed}, {t.cluster}" for t in test},
    )


def rewrite(store: Path, seed: int, **changes: Any) -> None:
    """Change what the distances file of a seed says."""
    file = store / "stages" / f"distances-{seed}" / "distances.json"
    write_distances(file, replace(read_distances(file), **changes))


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a small world, trained on the near side's topics; neither models nor pairs are there. Answers have
    10 sentences; after alignment those on near topics hold about 8 right ones instead of 4, the others about 5; on one
    test topic nothing can be checked."""
    root = tmp_path_factory.mktemp("store")
    cells = []

    def stage(name: str, kind: str) -> Path:
        folder = root / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        record = {"kind": kind, "settings": {}, "needs": {}, "seconds": 1.0, "commands": []}
        (folder / "stage.json").write_text(json.dumps(record))
        return folder

    for seed, world in WORLDS.items():
        rng = random.Random(seed)
        test = world.select("test")
        for kind in ("score-base", "score-train"):
            answers = []
            for t in test * 2:
                right = 4 if kind == "score-base" else (8 if t.side == "near" else 5) + rng.choice((-1, 0, 1))
                answers.append(annotated(t.name, *((0, 0) if t is test[0] else (right, 10 - right))))
            write_score(stage(f"{kind}-{seed}", "score"), answers)
        write_distances(stage(f"distances-{seed}", "distances") / "distances.json", measured(seed))
        trained = {role: f"{role}-{seed}" for role in ("pair", "train", "distances")} | {"score": f"score-train-{seed}"}
        cells += [
            {"labels": {"method": "base"}, "seed": seed, "stages": {"score": f"score-base-{seed}"}},
            {"labels": {"method": "Mask-DPO"}, "seed": seed, "stages": trained},
        ]
    (root / "experiments").mkdir()
    experiment = {"name": "main", "title": "Main", "table": {}, "cells": cells}
    (root / "experiments" / "main.json").write_text(json.dumps(experiment))
    return root


@pytest.fixture
def store(whole_store: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole_store, tmp_path / "store"))


def run(store: Path, *more: str) -> int:
    """The command; more: options added to the usual ones, or in their place."""
    options = {"--results": str(store), "--experiment": "main", "--cell": "method=Mask-DPO"}
    options |= {"--baseline": "method=base", "--out": str(store / "gain.csv")}
    options |= dict(zip(more[::2], more[1::2], strict=True))
    return main([word for pair in options.items() for word in pair])


def test_points_of_a_store(whole_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(whole_store) == 0
    points = read_points(whole_store / "gain.csv")
    summary = json.loads((whole_store / "gain.json").read_text())
    for seed, world in WORLDS.items():
        own = {p.topic: p for p in points if p.seed == seed}
        test = world.select("test")
        assert [*own] == [t.name for t in test[1:]]
        assert summary["topics_without_checkable_sentences"][str(seed)] == [test[0].name]
        for t in test[1:]:
            p = own[t.name]
            assert p.distance == pytest.approx(measured(seed).distance[t.name], abs=1e-6)
            assert (p.baseline, p.checkable_baseline, p.checkable_aligned) == (0.4, 20, 20)
            assert p.gain == pytest.approx(p.aligned - 0.4, abs=1e-6)
            assert abs(p.gain - (0.4 if t.side == "near" else 0.1)) <= 0.1 + 1e-6
            assert p.unit == f"world {seed}, {t.cluster}"
    fit = gain_against_distance(points)
    assert fit.slope_ci95[1] < 0
    assert summary["fit"]["slope"] == pytest.approx(fit.slope, abs=1e-3) and summary["fit"]["units"] == 16
    assert summary["clustered_on"] == "clusters of the fact world, within a seed"
    for name in ("embedding", "text", "template", "k", "centre"):
        assert summary[name] == getattr(measured(0), name)
    results = load_results(whole_store)
    expected = {s.file: s.sha256 for c in results.experiments["main"].cells for s in c.scores.values()}
    assert summary["files"] == expected and len(expected) == 4
    assert f"gain per unit of distance {summary['fit']['slope']:+.3f}" in capsys.readouterr().out
    assert json.loads((whole_store / "gain.manifest.json").read_text())["packages"]["numpy"]


def test_topics_outside_a_world_are_the_units(store: Path) -> None:
    for seed in WORLDS:
        rewrite(store, seed, unit={})
    assert run(store) == 0
    summary = json.loads((store / "gain.json").read_text())
    assert summary["clustered_on"] == "topics, over all seeds they occur in"
    assert summary["fit"]["points"] == 46
    assert summary["fit"]["units"] == len({p.topic for p in read_points(store / "gain.csv")})


def test_a_seed_that_has_not_run_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "stages" / "score-train-1" / "stage.json").unlink()
    assert run(store) == 0
    assert "seed 1: not scored in both cells" in capsys.readouterr().err
    summary = json.loads((store / "gain.json").read_text())
    assert summary["seeds_missing"] == [1] and summary["fit"]["seeds"] == 1


def rejudged(store: Path) -> None:
    shutil.rmtree(store / "stages" / "score-base-0" / "lm_eval")
    write_score(store / "stages" / "score-base-0", [annotated("x", 1, 1)], judge="lexical")


def other_questions(store: Path) -> None:
    shutil.rmtree(store / "stages" / "score-base-0" / "lm_eval")
    write_score(store / "stages" / "score-base-0", [annotated("x", 1, 1)])


def not_run(store: Path) -> None:
    for seed in (0, 1):
        (store / "stages" / f"score-train-{seed}" / "stage.json").unlink()


def unmeasured(store: Path) -> None:
    file = store / "experiments" / "main.json"
    data = json.loads(file.read_text())
    del data["cells"][1]["stages"]["distances"]
    file.write_text(json.dumps(data))


def doubled(store: Path) -> None:
    file = store / "experiments" / "main.json"
    data = json.loads(file.read_text())
    data["cells"].append({**data["cells"][1], "labels": {"method": "Mask-DPO", "size": "all"}})
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "damage, options, message",
    [
        (rejudged, [], "judge 'world' and 'lexical'"),
        (other_questions, [], "not the same questions"),
        (not_run, ["--task", "world_factuality"], "no seed has world_factuality scored in both cells"),
        (not_run, [], "both cells have 0 judged tasks; choose with --task: none"),
        (unmeasured, [], "no distances were measured for the cell .*; add `distances` to the experiment"),
        (lambda s: rewrite(s, 1, k=3), [], "distances with k 2 under seed 0 and 3 under seed 1"),
        (lambda s: rewrite(s, 0, distance={}), [], "no distance of the test topic .*; measure them for the questions"),
        (
            lambda s: (s / "stages" / "distances-1" / "distances.json").unlink(),
            [],
            r"distances-1/distances\.json: no such file; .* \(give the sweep's store\)",
        ),
        (
            doubled,
            [],
            "method=Mask-DPO fits 2 cells of main; there are method=Mask-DPO; method=Mask-DPO,size=all",
        ),
        (
            None,
            ["--cell", "method=DPO"],
            "method=DPO fits no cell of main; there are method=base; method=Mask-DPO",
        ),
        (None, ["--cell", "method=base"], "was not trained on pairs"),
        (None, ["--cell", "method"], "'method': write LABEL=VALUE"),
        (None, ["--experiment", "other"], "no experiment 'other' in "),
        (None, ["--task", "anah"], "no seed has anah scored in both cells"),
        (None, ["--out", "gain.json"], "--out names the CSV file"),
        (None, ["--out", f"{__file__}/gain.csv"], r"--out .*gain\.csv: .*\.py is a file, not a folder"),
    ],
)
def test_bad_input_is_one_clear_error(
    store: Path,
    damage: Callable[[Path], None] | None,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if damage is not None:
        damage(store)
    assert run(store, *options) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: ") and re.search(message, errors[-1]), errors
