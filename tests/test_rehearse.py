"""`factuality sweep rehearse`: paper-size experiments from questions to tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.cli import command

rehearse = command("sweep rehearse")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert rehearse(["llama31-8b/table02_mask.yaml", "--out", tmp_path]) == 2
    assert "not empty and not an earlier rehearsal" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.slow
def test_from_questions_to_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rehearsal"
    assert rehearse(["llama31-8b/table02_mask.yaml", "--out", out, "--quick"]) == 0
    said = capfd.readouterr().out
    assert "random weights, Llama 3.1" in said and "scripted, behind http://127.0.0.1" in said
    table = pd.read_csv(out / "llama31-8b" / "tables" / "table02_mask_ablation.csv", dtype=str)
    ours = table.filter(regex="this run.*anah_v2_score$")
    assert ours.shape == (2, 1) and ours.notna().all(axis=None)
    assert (out / "llama31-8b" / "figures" / "reward_margins.pdf").is_file()
