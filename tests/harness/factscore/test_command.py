"""The command line, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.factscore.command import load_responses
from factuality_harness.harness.factscore.scored import ScoredResponse
from tests.helpers.cli import command

main = command("score-facts")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_JUDGE", raising=False)
    responses = tmp_path / "r.jsonl"
    responses.write_text(
        json.dumps({"topic": "Ada", "output": "Ada was born in London in 1815. She sailed to Peru in 1790."})
        + "\n"
        + json.dumps({"question": "Tell me a bio of Bob.", "response": "I'm sorry, who?"})
        + "\n"
    )
    pages = tmp_path / "k.jsonl"
    pages.write_text('{"title": "Ada", "text": "Ada was born in London in 1815."}\n{"title": "Bob", "text": "Bob."}\n')
    return {"responses": str(responses), "knowledge": str(pages), "out": str(tmp_path / "out.jsonl")}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_lexical(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--responses", files["responses"], "--knowledge", files["knowledge"], "--judge", "lexical"]
    code, values, _ = run(capsys, *base, "--out", files["out"], "--gamma", "1")
    assert code == 0
    assert (values["score"], values["respond_ratio"], values["facts"]) == (0.5, 0.5, 2)
    assert (values["judge"], values["retrieval"], values["knowledge"]) == ("lexical", "bm25", "k.jsonl")
    rows = [ScoredResponse.from_dict(json.loads(line)) for line in Path(files["out"]).read_text().splitlines()]
    assert [r.abstained for r in rows] == [False, True]
    code, values, _ = run(capsys, *base, "--dry-run")
    assert (code, values["sentences"], values["requests"]) == (0, 2, 0)
    assert "the judge lexical asks no model" in values["notes"]


def test_out_that_cannot_be_written(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--responses", files["responses"], "--knowledge", files["knowledge"], "--judge", "lexical"]
    code, _, err = run(capsys, *base, "--out", files["knowledge"] + "/x.jsonl")
    assert (code, "cannot be written" in err) == (2, True)


def test_dry_run_of_a_model_that_is_not_there(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--responses", files["responses"], "--knowledge", files["knowledge"]]
    code, values, _ = run(capsys, *base, "--judge", "factscore@openai:http://127.0.0.1:9/v1#m", "--dry-run")
    assert code == 0
    assert [(row["part"], row["to_ask"]) for row in values["by_part"]] == [("judge", 8), ("extraction", 2)]
    assert any("4.3 each" in note for note in values["notes"])


def test_nothing_scored_is_null(files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"topic": "Ada", "output": ""}\n')
    base = ["--responses", str(path), "--knowledge", files["knowledge"], "--judge", "lexical"]
    code, values, _ = run(capsys, *base)
    assert (code, values["score"], values["respond_ratio"]) == (0, None, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "lexical"], "--knowledge is needed"),
        (["--knowledge", "K"], "no judge is configured"),
        (["--knowledge", "K", "--judge", "factscore"], "needs a model"),
        (["--knowledge", "/none.db", "--judge", "lexical"], "/none.db: no such file"),
        (["--knowledge", "K", "--judge", "lexical", "--retrieval", "x"], "use bm25 or dense:MODEL"),
        (["--knowledge", "K", "--judge", "lexical", "--judge-args", "{"], "'{' is not JSON"),
        (["--knowledge", "K", "--judge", "lexical", "--judge-args", "[]"], "'[]' is no JSON object of options"),
        (["--knowledge", "K", "--judge", "lexical", "--demos", "/none.json"], "/none.json: no such file"),
        (
            ["--knowledge", "K", "--judge", "lexical", "--language", "zh", "--passages", "0"],
            "at least one passage",
        ),
    ],
)
def test_errors(files: dict[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    arguments = [files["knowledge"] if a == "K" else a for a in arguments]
    code, values, err = run(capsys, "--responses", files["responses"], *arguments)
    assert (code, values) == (2, None)
    assert err.startswith("error: ")
    assert message in err


def test_missing_page(files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"title": "Ada", "text": "Ada was born in London in 1815."}\n')
    base = ["--responses", files["responses"], "--knowledge", str(path), "--judge", "lexical"]
    code, _, err = run(capsys, *base)
    assert (code, "no page for 1 topic: 'Bob'" in err) == (2, True)
    code, values, _ = run(capsys, *base, "--missing", "skip")
    assert (code, values["skipped"], values["responses"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("row", "topic", "question"),
    [
        ({"topic": "A", "output": "x"}, "A", "Question: Tell me a bio of A."),
        ({"topic": "A", "input": "Who is A?", "output": "x"}, "A", "Who is A?"),
        (
            {"question": "Question: Tell me a bio of A.", "response": "x"},
            "A",
            "Question: Tell me a bio of A.",
        ),
        ({"question": "Who was Ada?", "response": "x"}, "Ada", "Who was Ada?"),
        ({"question": "Why?", "response": "x"}, "Why?", "Why?"),
        ({"question": "Why?", "topic": "T", "response": "x", "language": "zh"}, "T", "Why?"),
    ],
)
def test_rows(tmp_path: Path, row: dict[str, str], topic: str, question: str) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    (item,) = load_responses(tmp_path / "r.jsonl")
    assert (item.topic, item.question, item.response) == (topic, question, "x")
    assert item.language == row.get("language", "en")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"topic": "A"}, "row 1: no `response` or `output`"),
        ({"output": "x"}, "row 1: neither `topic` nor `question`"),
        ({"topic": "A", "output": 3}, "row 1: `output` must be text, not int"),
        ({"topic": "A", "output": "x", "language": "fr"}, "row 1: language 'fr'"),
    ],
)
def test_bad_rows(files: dict[str, str], capsys: pytest.CaptureFixture[str], row: dict[str, Any], message: str) -> None:
    Path(files["responses"]).write_text(json.dumps(row) + "\n")
    base = ["--responses", files["responses"], "--knowledge", files["knowledge"], "--judge", "lexical"]
    code, _, err = run(capsys, *base)
    assert (code, message in err) == (2, True)


def test_human_labels(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared_data / "factscore_labeled" / "ChatGPT.jsonl"
    code, values, _ = run(capsys, "--human-labels", str(path))
    assert (code, round(values["score"], 4)) == (0, 0.5830)
    assert values["judge"] == "human labels of ChatGPT.jsonl"
    code, _, err = run(capsys, "--human-labels", str(path.with_name("none.jsonl")))
    assert (code, "no such file" in err) == (2, True)
