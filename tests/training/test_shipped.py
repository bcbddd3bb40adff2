"""Shipped files are found from any folder; a file of one's own comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from factuality_harness.training.shipped import TRAINING, shipped


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("training/recipes/world/dpo.yaml", "recipes", "recipes/world/dpo.yaml"),
        ("world/dpo.yaml", "recipes", "recipes/world/dpo.yaml"),
        ("world/table02_mask.yaml", "experiments", "experiments/world/table02_mask.yaml"),
        ("training/experiments/world/table02_mask.yaml", "experiments", "experiments/world/table02_mask.yaml"),
        ("training/recipes/accelerate/zero3.yaml", "experiments", "recipes/accelerate/zero3.yaml"),
    ],
)
def test_the_packages_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped(name, kind) == TRAINING / expected  # type: ignore[arg-type]
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.touch()
    assert shipped(name, kind) == Path(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["world/nothing.yaml", "training/shipped.py", "world", "/etc/hostname-not"])
def test_what_is_not_shipped_comes_back_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped(name) == Path(name)
