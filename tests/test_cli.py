"""The command as a whole: what `factuality` lists is there, loads late, and names the extra that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from factuality_harness.cli import COMMANDS, ROOT
from tests.helpers.paths import ROOT as CHECKOUT

EXTRAS = ("trl", "peft", "distributed", "vllm", "sentence_transformers")


def python(program: str, *words: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    module, function = COMMANDS[name][0].split(":")
    assert callable(getattr(import_module(f"{ROOT}.{module}"), function))


def test_help_lists_every_command_and_loads_none() -> None:
    program = (
        "import sys; from factuality_harness.cli import main; code = main(['--help'])\n"
        "print(code, *(n for n in sys.modules if n.split('.')[0] in ('torch', 'numpy', 'datasets', 'lm_eval')))"
    )
    *shown, last = python(program).stdout.splitlines()
    assert last == "0"
    for name in COMMANDS:
        assert any(name.split()[0] in line.split()[:2] for line in shown), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["train", "mask_dpo", "--config", "x.yaml"], "trl", "train"),
        (["train", "sft", "--config", "x.yaml"], "trl", "train"),
        (["memory", "--config", "x.yaml"], "peft", "train"),
        (["sweep", "run", "x.yaml"], "distributed", "sweep"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(words: list[str], package: str, extra: str) -> None:
    program = (
        "import sys; sys.modules[sys.argv.pop(1)] = None\nfrom factuality_harness.cli import main; sys.exit(main())"
    )
    done = python(program, package, *words)
    assert done.stderr == f"error: {package} is not installed: pip install 'factuality-harness[{extra}]'\n"
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.slow
def test_evaluating_needs_no_extra() -> None:
    """What is below harness and analysis is importable with the base requirements alone."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "from importlib import import_module\n"
        "from factuality_harness.cli import COMMANDS\n"
        "for target, _ in COMMANDS.values():\n"
        "    if target.startswith(('harness.', 'analysis.')):\n"
        "        import_module('factuality_harness.' + target.split(':')[0])\n"
        "import factuality_harness.harness.lm_eval_plugin.anah, factuality_harness.harness.lm_eval_plugin.factscore\n"
    )
    done = python(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", ["sentences --language en FILE", "--help", "world questions --help"])
def test_nobody_reading_on_is_no_error(words: str, tmp_path: Path) -> None:
    """As with `| head`: more than a pipe holds, where there is as much."""
    (tmp_path / "FILE").write_text("One sentence here. " * 20_000)
    code = "import sys; from factuality_harness import cli; sys.exit(cli.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)
