"""The scripts in examples/, run from another folder on tiny models; what they leave is what they announce."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from factuality_harness.cli import COMMANDS
from factuality_harness.harness.world.base import build_base
from factuality_harness.harness.world.generate import BaseConfig, WorldConfig
from tests.helpers import experiments
from tests.helpers.paths import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.sh"))


def run(script: str, folder: Path, **settings: object) -> str:
    """The script's output; settings are its environment variables."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OUT": "out"}
    environment |= {name: str(value) for name, value in settings.items()}
    done = subprocess.run(
        [str(ROOT / "examples" / script)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_script_for_each_user() -> None:
    assert [script.name for script in SCRIPTS] == ["rerun_table.sh", "score_checkpoint.sh", "train_checkpoint.sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_name_commands_that_exist(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    found = re.findall(r"^\s*(?:if .* then )?factuality ([a-z-]+)(?: ([a-z_]+))?", text, flags=re.MULTILINE)
    assert found and all({one, f"{one} {two}"} & {*COMMANDS} for one, two in found), found


@pytest.mark.slow
def test_score_checkpoint(tmp_path: Path, smollm2: Path) -> None:
    said = run("score_checkpoint.sh", tmp_path, MODEL=smollm2, LIMIT=2)
    assert "responses: out/page.html" in said
    assert "<html" in (tmp_path / "out" / "page.html").read_text() and (tmp_path / "out" / "report.html").is_file()
    assert len([*tmp_path.glob("out/lm_eval/*/samples_anah_factuality_mini_*.jsonl")]) == 1


@pytest.mark.slow
def test_train_checkpoint(tmp_path: Path) -> None:
    config = WorldConfig.from_dict(experiments.TINY["world"])
    base = build_base(tmp_path / "tiny", config, BaseConfig(**experiments.TINY["base"]))
    said = run("train_checkpoint.sh", tmp_path, BASE=base, STEPS=2, SAMPLES=4, TASK="world_factuality")
    out = tmp_path / "out"
    assert (out / "trained" / "config.json").is_file() and (out / "pairs.jsonl.report.json").is_file()
    assert {folder.name for folder in (out / "lm_eval").iterdir()} == {"tiny", "trained"}
    assert "trained" in said and "after" in (out / "before_after.html").read_text()


@pytest.mark.slow
def test_rerun_table(tmp_path: Path) -> None:
    path = experiments.experiment(tmp_path)
    said = run("rerun_table.sh", tmp_path, EXPERIMENT=path, STORE="store", WORKERS=1)
    assert "8 of 8 stages to run" in said and "tiny: 2 done of 2 cells" in said
    assert (tmp_path / "out" / "results.jsonl.gz").is_file() and [*(tmp_path / "out" / "tables").glob("*.md")]
    again = run("rerun_table.sh", tmp_path, EXPERIMENT=path, STORE="store", WORKERS=1)
    assert "0 of 8 stages to run" in again
