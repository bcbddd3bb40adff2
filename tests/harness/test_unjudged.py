"""A judge that left too much unjudged: the numbers are there, and the command has failed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import EngineError, HarnessError
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


@pytest.mark.parametrize(
    ("judge", "fallible"),
    [("lexical", False), ("world", False), *((f"{j}@hf:x", True) for j in ("dialogue", "anah_v2", "factscore"))],
)
def test_only_a_judge_that_asks_a_model_is_to_blame(judge: str, fallible: bool) -> None:
    assert JudgeSpec.parse(judge).fallible is fallible


def test_what_the_world_cannot_read_fails_no_command_and_nothing_judged_is_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, answers, out = tmp_path / "d.jsonl", tmp_path / "a.jsonl", tmp_path / "o.jsonl"
    documents.write_text(json.dumps({"question": "Who?", "document": "The age was 3.", "language": "en"}) + "\n")
    answers.write_text(json.dumps({"question": "Who?", "response": "No sentence of the world."}) + "\n")
    assert main([answers, "--questions", documents, "--judge", "world", "--out", out]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    said = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert said["factuality"] is None
    assert said["unparsed_rate"] == 1


@pytest.mark.parametrize("judge", ["dialogue", "factscore"])
def test_a_trial_without_a_verdict_is_a_warning_where_failures_are_to_be_counted(
    judge: str, caplog: pytest.LogCaptureFixture
) -> None:
    with JudgeServer(lambda messages: "Well, who can say?") as server:
        opened = JudgeSpec.parse(f"{judge}@openai:{server.url}#rules")
        with pytest.raises(EngineError, match=r"was tried on one plain .* and failed: .*who can say"):
            opened.open(facts=True).check()
        assert "stop_after" not in caplog.text
        opened.open({"stop_after": 0}, facts=True).check()
        assert "The run goes on, since stop_after is 0" in caplog.text
    with pytest.raises(EngineError, match="cannot be reached"):
        opened.open({"stop_after": 0, "retries": 0}, facts=True).check()
