"""A judge that left too much unjudged: the numbers are there, and the command has failed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.unjudged import check_unjudged
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer

main = command("annotate")


@pytest.mark.parametrize(
    ("share", "limit", "fails"),
    [(0.0, 0.05, False), (0.05, 0.05, False), (0.051, 0.05, True), (1.0, 1.0, False), (math.nan, 0.0, False)],
)
def test_the_limit(share: float, limit: float, fails: bool) -> None:
    if not fails:
        check_unjudged(share, limit, "sentences")
        return
    with pytest.raises(HarnessError, match=r"5\.1 % of the sentences have no verdict, more than the limit of 5 %"):
        check_unjudged(share, limit, "sentences")


@pytest.mark.parametrize(("limit", "code"), [("0.05", 2), ("0.5", 0)])
def test_annotate_writes_its_numbers_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str, code: int
) -> None:
    documents, answers, out = tmp_path / "d.jsonl", tmp_path / "a.jsonl", tmp_path / "o.jsonl"
    document = "Alice was born in 1901. Alice moved to Rome in 1920."
    documents.write_text(json.dumps({"question": "Who?", "document": document, "language": "en"}) + "\n")
    response = "Alice was born in 1901. Alice MUMBLE 1920. Alice was born in 1902."
    answers.write_text(json.dumps({"question": "Who?", "response": response}) + "\n")
    with JudgeServer() as server:
        words = [answers, "--questions", documents, "--judge", f"dialogue@openai:{server.url}#rules", "--out", out]
        assert main([*words, "--max-unparsed", limit]) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["factuality"] == 0.5
    assert json.loads(out.read_text())["sentences"][1]["label"] == "unparsed"
    assert ("33.3 % of the sentences have no verdict" in said.err) == bool(code)
