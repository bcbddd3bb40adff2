"""Experiment files: what they mean, and one clear error for each way to get them wrong."""

import experiments
import pytest

from harness.errors import HarnessError
from training.sweep.experiment import load_experiment, merged


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
    assert old == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greed": {}}, "unknown key 'greed'"),
        ({"grid": {}}, "the grid has no cells"),
        ({"grid": {"setting": {}}}, "the grid has no cells"),
        ({"grid": {"setting": {"a": {"sampel": {}}}}}, "cell a: unknown key 'sampel'"),
        ({"grid": {"setting": {"a": {"sample": {"m": 1}}}}}, "sample: unknown key 'm'"),
        ({"grid": {"setting": {"a": 3}}}, "3 is no mapping"),
        ({"grid": {"setting": {"a": {"train": [{"trainer": "sft"}]}}}}, "names no recipe"),
        ({"grid": {"setting": {"a": {"train": [{"recipe": "r", "trainer": "ppo"}]}}}}, "trainer 'ppo'"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "tfidf"}}}}}, "needs keep"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "tfidf", "keep": "near"}}}}}, "need relative_to"),
        ({"grid": {"setting": {"a": {"select": {"embedding": "random", "keep": "near"}}}}}, "keep is a or b"),
        ({"seeds": []}, "seeds is a list"),
        ({"seeds": [1, 1]}, "seeds is a list"),
        ({"table": {"nummer": 1}}, "table: unknown key 'nummer'"),
        ({"launch": {"trian": "python"}}, "launch: unknown key 'trian'"),
        ({"cells": [{"train": []}]}, "has no labels"),
        ({"cells": [{"labels": {"setting": "base"}}]}, "two cells are called"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_file(tmp_path, changes, message):
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path, **changes)
    assert "tiny.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "\0"])
def test_a_file_that_is_no_experiment(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match=r"bad\.yaml"):
        load_experiment(tmp_path / "bad.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(HarnessError, match="no such experiment file"):
        load_experiment(tmp_path / "none.yaml")
