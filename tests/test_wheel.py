"""The wheel in an environment that has no checkout: what it installs, that its commands run anywhere, what stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from factuality_harness.harness.data import anah
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

SHADOWS = ("harness", "training", "analysis", "tasks", "results")  # names that a research folder may well have
TASKS = {
    "anah_factuality",
    "anah_factuality_mini",
    "factscore_bio",
    "world_factuality",
    "judge_anah",
    "general_ability",
}


def run(folder: Path, *command: object) -> str:
    """Standard output of a command run in a folder; no environment of ours reaches it."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HARNESS_JUDGE")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, so that this one is whole, too."""
    out = tmp_path_factory.mktemp("dist")
    run(ROOT, sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    (built,) = out.glob("*.whl")
    return built


class Environment:
    """A fresh environment whose libraries are this one's: only the harness is its own."""

    def __init__(self, folder: Path) -> None:
        run(folder.parent, sys.executable, "-m", "venv", "--without-pip", folder)
        self.bin = folder / "bin"
        self.site = next(folder.glob("lib/python*/site-packages"))
        own = next(Path(p) for p in sys.path if (Path(p) / "lm_eval" / "__init__.py").is_file())
        (self.site / "libraries.pth").write_text(f"{own}\n")  # the .pth files in there are not read
        script = "import sys\nfrom lm_eval.__main__ import cli_evaluate\nsys.exit(cli_evaluate())\n"
        (self.bin / "lm_eval").write_text(f"#!{self.bin / 'python'}\n{script}")
        (self.bin / "lm_eval").chmod(0o755)

    def pip(self, *words: object) -> None:
        run(self.bin, sys.executable, "-m", "pip", "--quiet", "--python", self.bin / "python", *words)

    def files(self) -> set[Path]:
        return {p for p in self.bin.parent.rglob("*") if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    env = Environment(tmp_path_factory.mktemp("environment") / "venv")
    env.pip("install", "--no-deps", "--no-index", wheel)
    return env


@pytest.fixture(params=["empty", "shadows"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name in SHADOWS if request.param == "shadows" else ():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    return tmp_path


def listed(table: str) -> set[str]:
    return {line.split("|")[1].strip() for line in table.splitlines() if line.count("|") > 2}


def test_exactly_one_import_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"factuality_harness", "factuality_harness.pth"}


def test_every_file_of_the_checkout_that_commands_read_is_there(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = run(
        ROOT, "git", "ls-files", "--", "harness", "training", "analysis", "tasks", "results/paper"
    ).splitlines()
    assert {f"factuality_harness/{name}" for name in tracked} <= packed
    assert "factuality_harness/py.typed" in packed


def test_lm_eval_lists_the_tasks(environment: Environment, folder: Path) -> None:
    assert listed(run(folder, environment.bin / "lm_eval", "ls", "tasks")) >= TASKS
    assert listed(run(folder, environment.bin / "python", "-m", "lm_eval", "ls", "tasks")) >= TASKS


def test_a_replay_run(environment: Environment, folder: Path) -> None:
    answers = folder / "answers.jsonl"
    rows = ({"question": q.question, "response": q.document} for q in anah.load_mini())
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["-m", "lm_eval", "--model", "replay", "--model_args", f"responses={answers}", "--limit", "4"]
    run(folder, environment.bin / "python", *command, "--tasks", "anah_factuality_mini", "--output_path", "out")
    (results,) = (folder / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["anah_factuality_mini"]["correct,annotation"] > 0


def test_tables_are_the_committed_ones(environment: Environment, folder: Path) -> None:
    run(folder, environment.bin / "factuality", "tables", "--results", ROOT / "results" / "world", "--out", "tables")
    made = {p.name: p.read_bytes() for p in (folder / "tables").iterdir()}
    assert made == {p.name: p.read_bytes() for p in (ROOT / "results" / "world" / "tables").iterdir()}


def test_a_sweep_of_a_shipped_experiment_is_planned(environment: Environment, folder: Path) -> None:
    shown = run(folder, environment.bin / "factuality", "sweep", "run", "world/table02_mask.yaml", "--dry-run")
    assert "table02_mask" in shown
    assert not (folder / "out").exists()


def test_nothing_is_left_after_uninstalling(wheel: Path, tmp_path: Path) -> None:
    env = Environment(tmp_path / "venv")
    before = env.files()
    env.pip("install", "--no-deps", "--no-index", wheel)
    assert (env.bin / "factuality").is_file()
    run(tmp_path, env.bin / "python", "-c", "import factuality_harness.harness.metrics")
    env.pip("uninstall", "--yes", "factuality-harness")
    assert env.files() == before
