"""Files of settings that extend one another."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.settings import read_settings
from factuality_harness.training.shipped import TRAINING


def write(folder: Path, **files: str) -> Path:
    """Files by name (without ending); the first one's path."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("extends: parent.yaml", {"beta": 0.1, "env": {"A": 1, "B": 2}, "layers": [1, 2]}),
        ("extends: parent.yaml\nbeta: 0.2", {"beta": 0.2, "env": {"A": 1, "B": 2}, "layers": [1, 2]}),
        ("extends: parent.yaml\nenv: {B: 3, C: 4}", {"beta": 0.1, "env": {"A": 1, "B": 3, "C": 4}, "layers": [1, 2]}),
        ("extends: parent.yaml\nlayers: [3]", {"beta": 0.1, "env": {"A": 1, "B": 2}, "layers": [3]}),
        ("extends: parent.yaml\nbeta: null\nenv: {A: null}", {"env": {"B": 2}, "layers": [1, 2]}),
        ("extends: middle.yaml\nlr: 1", {"beta": 0.3, "env": {"A": 1, "B": 2}, "layers": [1, 2], "lr": 1}),
        ("max_length: null", {"max_length": None}),  # extends nothing: left as it is
    ],
)
def test_keys_are_merged(tmp_path, child, expected):
    parent, middle = "beta: 0.1\nenv: {A: 1, B: 2}\nlayers: [1, 2]\n", "extends: parent.yaml\nbeta: 0.3\n"
    path = write(tmp_path, child=child + "\n", parent=parent, middle=middle)
    assert read_settings(path, "recipes") == expected


def test_a_file_of_ones_own_extends_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, own="extends: world/dpo.yaml\nbeta: 0.5\n")
    assert read_settings(path, "recipes") == read_settings("world/dpo.yaml", "recipes") | {"beta": 0.5}


@pytest.mark.parametrize(
    ("child", "message"),
    [
        ("extends: child.yaml", r"child\.yaml, extends: child\.yaml extends itself"),
        ("extends: back.yaml", r"back\.yaml, extends: child\.yaml extends itself"),
        ("extends: [back.yaml]", r"child\.yaml, extends: must be the name of a file"),
        ("extends: none.yaml", r"none\.yaml: no such recipe file; shipped recipes are "),
        ("- 1", r"child\.yaml: the recipe is no mapping of settings"),
        ("a: [", r"child\.yaml: not readable as YAML"),
    ],
)
def test_what_cannot_be_read(tmp_path, child, message):
    with pytest.raises(HarnessError, match=message):
        read_settings(write(tmp_path, child=child + "\n", back="extends: child.yaml\n"), "recipes")


def test_every_key_of_the_recipes_is_explained_once():
    files = [p for p in (TRAINING / "recipes").rglob("*.yaml") if p.parent.name != "accelerate"]
    keys = {key for path in files for key in yaml.safe_load(path.read_text(encoding="utf-8"))} - {"extends"}
    explained = []
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, rest = line.removeprefix("#   ").partition(":" if not line.startswith("#   ") else " ")
            if key in keys and ("  # " in rest or line.startswith("#   ")) and " null " not in rest:
                explained.append(key)
    assert sorted(explained) == sorted(keys)


def test_a_recipe_says_what_it_needs_and_whether_it_ran_here():
    recipes = [p for p in (TRAINING / "recipes").glob("*/*.yaml") if not p.name.startswith("_")]
    for path in recipes:
        head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        assert len(head) == (2 if path.parent.name != "accelerate" else 1), path
        assert "Not run here" in head[-1] or "Run here on two CPU cores: results/" in head[-1], path
