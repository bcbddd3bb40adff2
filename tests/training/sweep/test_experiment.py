"""Experiment files: what they mean, and one clear error for each way to get them wrong."""

import datetime
import re

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.settings import merged
from factuality_harness.training.sweep.experiment import load_experiment
from tests.helpers import experiments


def load(folder, **changes):
    return load_experiment(experiments.experiment(folder, **changes))


def test_cells_are_the_product_of_the_axes_with_every_seed(tmp_path):
    grid = {"a": {"x": {"pair": {"limit": 1}}, "y": {}}, "b": {"1": {}, "2": {"pair": {"limit": 2}}}}
    cells = load(tmp_path, grid=grid, seeds=[3, 4]).cells
    assert [(tuple(c.labels.values()), c.seed) for c in cells] == [
        ((a, b), seed) for seed in (3, 4) for a in "xy" for b in "12"
    ]
    limits = {tuple(c.labels.values()): c.settings.get("pair", {}).get("limit") for c in cells}
    assert limits == {("x", "1"): 1, ("x", "2"): 2, ("y", "1"): None, ("y", "2"): 2}  # the later axis has its say last


def test_listed_cells_follow_the_grid(tmp_path):
    found = load(tmp_path, cells=[{"labels": {"setting": "more"}, "train": []}]).cells
    assert [c.labels["setting"] for c in found] == ["base", "w/ mask", "more"]
    assert load(tmp_path, grid=None, cells=[{"labels": {"setting": "alone"}}]).cells[0].labels == {"setting": "alone"}


def test_seeds_of_the_command_line_replace_the_files(tmp_path):
    path = experiments.experiment(tmp_path, seeds=[0, 1])
    assert [c.seed for c in load_experiment(path, seeds=[7]).cells] == [7, 7]


def test_a_file_can_extend_another(tmp_path):
    experiments.experiment(tmp_path, "common")
    child = tmp_path / "child.yaml"
    child.write_text("extends: common.yaml\ndefaults: {sample: {n: 9}, judge: null}\n", encoding="utf-8")
    settings = load_experiment(child).cells[0].settings
    assert settings["sample"]["n"] == 9
    assert settings["sample"]["engine"] == "hf"
    assert "judge" not in settings


def test_merging_touches_neither_side():
    old, new = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None, "e": 3}, "d": [2]}
    assert merged(old, new) == {"a": {"c": 2, "e": 3}, "d": [2]}
    assert merged({}, {"a": {"b": None, "c": {"d": None}}}) == {"a": {"c": {}}}
    assert old == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greed": {}}, "unknown key 'greed'"),
        ({"grid": {}}, "the grid has no cells"),
        ({"grid": {"setting": {}}}, "the grid has no cells"),
        ({"grid": {"setting": {"a": {"sampel": {}}}}}, "cell a: unknown key 'sampel'"),
        ({"grid": {"setting": {"a": {"sample": {"m": 1}}}}}, "sample: unknown key 'm'"),
        ({"grid": {"setting": {"a": 3}}}, "grid, setting, a: .*not 3"),
        ({"grid": {"setting": {"a": {"train": [{"trainer": "sft"}]}}}}, "train, entry 1: recipe is missing"),
        ({"grid": {"setting": {"a": {"train": [{"recipe": "r", "trainer": "ppo"}]}}}}, "trainer: .*'ppo'"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "tfidf"}}}}}, "needs keep"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "tfidf", "keep": "near"}}}}}, "need relative_to"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "random", "keep": "near"}}}}}, "keep is a or b"),
        ({"seeds": []}, "seeds is a list"),
        ({"seeds": [1, 1]}, "seeds is a list"),
        ({"table": {"nummer": 1}}, "table: unknown key 'nummer'"),
        ({"launch": {"trian": "python"}}, "launch, trian: .*'train'"),
        ({"cells": [{"train": []}]}, "has no labels"),
        ({"cells": [{"labels": {"setting": "base"}}]}, "two cells are called"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_file(tmp_path, changes, message):
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path, **changes)
    assert "tiny.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", "many"),
        ("threads", -1),
        ("estimate", {"base": "long"}),
        ("defaults", 3),
        ("title", 3),
        ("table", {"number": "two"}),
        ("table", {"columns": {"score": 3}}),
        ("launch", {"train": 3}),
        ("cells", {"labels": {}}),
        ("grid", {"setting": [1]}),
        ("defaults", {"score": {"metadata": {"day": datetime.date(2024, 1, 1)}}}),
    ],
)
def test_values_of_the_file_have_their_types(tmp_path, key, value):
    with pytest.raises(HarnessError, match=r"tiny\.yaml") as error:
        load(tmp_path, **{key: value})
    assert key in str(error.value) or "date" in str(error.value)


HALF = {"embedding": "tfidf", "keep": "near", "relative_to": {"file": "mini:test"}}


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"model": 5}, "model"),
        ({"model": {"init": "one"}}, "model, init"),
        ({"questions": {"file": 3}}, "questions, file"),
        ({"questions": {"part": "trian"}}, "questions, part"),
        ({"sample": {"n": "two"}}, "sample, n"),
        ({"sample": {"n": True}}, "sample, n"),
        ({"sample": {"temperature": -1}}, "sample, temperature"),
        ({"sample": {"engine": "vlm"}}, "sample, engine"),
        ({"judge": 4}, "judge"),
        ({"judge": "lexicon"}, "judge: judge 'lexicon' is not known; one of: lexical"),
        ({"judge": "dialogue"}, "judge: judge 'dialogue' needs a model: dialogue@openai:"),
        ({"judge": "dialogue@vlm:x"}, "judge: engine 'vlm:x' is not known; use openai:"),
        ({"judge": "lexical@hf:x"}, "judge: judge 'lexical' needs no engine; write just 'lexical'"),
        ({"base": {"width": "wide"}}, "base, width"),
        ({"world": {"variant": "C"}}, "world: world variant 'C'"),
        ({"world": {"topics": [3, 1]}}, "world, topics"),
        ({"pair": {"rank_by": "nothing"}}, "pair: rank_by is one of"),
        ({"pair": {"limit": "all"}}, "pair, limit"),
        ({"select": {"topics": "lots"}}, "select, topics: a number from 1, or a share"),
        ({"select": {"topics": 0}}, "select, topics"),
        ({"select": {**HALF, "embedding": "nonsense"}}, "select, embedding: hidden:MODEL"),
        ({"select": {**HALF, "embedding": "hidden:{init: 1"}}, "select, embedding"),
        ({"select": {**HALF, "embedding": "hidden:policy@last"}}, "select, embedding"),
        ({"select": {**HALF, "relative_to": "test"}}, "select, relative_to"),
        ({"score": {"tasks": "world_factuality"}}, "score, tasks"),
        ({"train": {}}, "train"),
        ({"train": [{"recipe": 3}]}, "train, entry 1, recipe"),
        ({"train": [{"recipe": "r", "arguments": [1]}]}, "train, entry 1, arguments"),
        ({"train": [{"recipe": "r", "oracle": {"recipe": 3}}]}, "train, entry 1, oracle, recipe"),
    ],
)
def test_values_of_settings_have_their_types_and_choices(tmp_path, settings, place):
    with pytest.raises(HarnessError, match=rf"tiny\.yaml, cell a, {re.escape(place)}"):
        load(tmp_path, grid={"setting": {"a": settings}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bad.yaml\n", r"bad\.yaml, extends: bad\.yaml extends itself"),
        ("extends: 3\n", r"bad\.yaml, extends: .*not 3"),
        ("extends: none.yaml\n", r"none\.yaml: no such experiment file"),
    ],
)
def test_what_cannot_be_extended(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match=message):
        load_experiment(tmp_path / "bad.yaml")


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "\0"])
def test_a_file_that_is_no_experiment(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match=r"bad\.yaml"):
        load_experiment(tmp_path / "bad.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(HarnessError, match="no such experiment file"):
        load_experiment(tmp_path / "none.yaml")
