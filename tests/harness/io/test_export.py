"""Export to the reference's file formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.io.jsonl import read_jsonl
from tests.helpers.cli import command

main = command("export")

LABELS = (Label.OK, Label.OK, Label.NOFACT, Label.CONTRADICTORY, Label.UNVERIFIABLE, Label.UNPARSED)


def samples(folder: Path) -> Path:
    sentences = tuple(Sentence(f"S{i}.", 4 * i, 4 * i + 3) for i in range(len(LABELS)))
    annotation = Annotation(
        question="问?",
        response=" ".join(s.text for s in sentences),
        language="zh",
        judge="lexical",
        sentences=sentences,
        judgements=tuple(map(Judgement, LABELS)),
    )
    path = folder / "samples_t.jsonl"
    path.write_text(json.dumps({"filtered_resps": [json.dumps(annotation.to_dict())]}) + "\n")
    return path


def test_rows_and_summary_are_those_of_the_reference(tmp_path: Path) -> None:
    out, summary = tmp_path / "a.jsonl", tmp_path / "s" / "a.csv"
    assert main([str(samples(tmp_path)), "--annotations", str(out), "--summary", str(summary)]) == 0
    rows = [row for _, row in read_jsonl(out)]
    assert list(rows[0]) == ["question", "response", "sentence", "annotation", "language"]
    assert [row["annotation"] for row in rows] == ["ok", "ok", "nofact", "contradictory", "unverifiable", None]
    with summary.open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["ok", "nofact", "contradictory", "unverifiable", "hallucination", "total", "score"]
    # The unparsed sentence is in the total and not a hallucination, as in the reference's eval.py.
    assert (row["ok"], row["hallucination"], row["total"], row["score"]) == ("33.33%", "2", "6", "66.67")


def test_several_samples_files_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples(tmp_path).rename(tmp_path / "samples_other.jsonl")
    samples(tmp_path)
    assert main([str(tmp_path), "--summary", str(tmp_path / "a.csv")]) == 2
    assert "holds 2 samples files" in capsys.readouterr().err
