"""Extras and pins: what an environment is made with satisfies everything that the extras ask for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, same, version = line.partition("#")[0].strip().partition("==")
        if same:
            found[canonicalize_name(name)] = version
    return found


def asked(*extras: str) -> Iterator[Requirement]:
    """What the package and some of its extras ask for, extras of extras too."""
    for text in PROJECT["dependencies"]:
        yield Requirement(text)
    for extra in extras:
        for text in EXTRAS[extra]:
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) == PROJECT["name"]:
                yield from asked(*requirement.extras)
            else:
                yield requirement


@pytest.mark.parametrize(("file", "extra"), [("constraints.txt", "dev"), ("constraints-gpu.txt", "gpu")])
def test_pins_satisfy_every_requirement(file: str, extra: str) -> None:
    pinned = pins(ROOT / file)
    wrong = [
        f"{requirement}: {pinned.get(canonicalize_name(requirement.name), 'not pinned')}"
        for requirement in asked(extra)
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert wrong == []


def test_the_gpu_environment_holds_what_the_recipes_launch() -> None:
    pinned = pins(ROOT / "constraints-gpu.txt")
    assert {"vllm", "deepspeed", "trl", "peft", "accelerate"} <= pinned.keys()
    head = (ROOT / "constraints-gpu.txt").read_text(encoding="utf-8").splitlines()[:8]
    assert any("make lock-gpu" in line for line in head)
    made_by = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlock-gpu:")[1].split("\n\n")[0]
    assert "pip compile pyproject.toml --extra gpu" in made_by and "--output-file constraints-gpu.txt" in made_by


def test_no_page_installs_an_extra_under_the_other_pins() -> None:
    """The CPU pins hold another torch than vLLM's."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("training/**/*.md"),
        *ROOT.glob("tasks/**/*.md"),
    ]
    lines = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert not re.findall(r"constraints\.txt[^\n]*\[[^\]]*(?:vllm|gpu|deepspeed)", lines)
    assert re.search(r"constraints-gpu\.txt[^\n]*\[gpu\]", lines)
