"""Launchers: of this environment, not of whatever PATH holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.process import launch, with_this_interpreter


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("python", []),
        ("accelerate launch --config_file f", ["-m", "accelerate.commands.launch"]),
        ("torchrun --nproc_per_node 2", ["-m", "torch.distributed.run"]),
    ],
)
def test_launchers_of_this_environment(line: str, module: list[str]) -> None:
    words = line.split()
    assert with_this_interpreter(words)[: 1 + len(module)] == [sys.executable, *module]
    assert with_this_interpreter(words)[-1] == (words[-1] if len(words) > 1 else sys.executable)
    assert with_this_interpreter(["srun", "python"]) == ["srun", "python"]


def test_another_accelerate_on_path_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has not activated the environment, or has another one first on PATH."""
    other = tmp_path / "accelerate"
    other.write_text("#!/bin/sh\nexit 7\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "says.py").write_text(f"open({str(tmp_path / 'said')!r}, 'w').write(__import__('sys').executable)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    launch(["accelerate", "launch", "--cpu", "--num_processes", "1", "--num_machines", "1"], ["-m", "says"])
    assert (tmp_path / "said").read_text() == sys.executable
    with pytest.raises(HarnessError, match="launcher 'srun' cannot be started"):
        launch(["srun"], ["-m", "says"])
