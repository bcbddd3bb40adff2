"""Anybody's questions as a task: the command, the task, and rows that do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from factuality_harness.harness import metrics
from factuality_harness.harness.annotation import load_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin import factscore
from factuality_harness.harness.lm_eval_plugin.custom import by_facts
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.questions import load_questions
from tests.helpers.cli import command

ROWS = [
    {"prompt": "Who is Alice?", "context": "Alice was born in 1990 in Paris.", "entity": "Alice", "canary": 7},
    {"prompt": "Who is Bob?", "context": "Bob was born in 1950 in Rome.", "entity": "Bob", "canary": 7},
    {"prompt": "Who is it?", "context": "Carol was born in 1960 in Oslo.", "entity": "Carol", "canary": 7},
    {"prompt": "Who is it?", "context": "David was born in 1970 in Bonn.", "entity": "David", "canary": 7},
]
ANSWERS = ["- **Alice** was born in 1990 in Paris.", "Bob was born in 1951 in Madrid."] + [
    row["context"] for row in ROWS[2:]
]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def csv(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(",".join(map(str, row)) for row in [list(rows[0]), *(r.values() for r in rows)]) + "\n")
    return str(path)


def parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.fixture
def answers(tmp_path: Path) -> str:
    rows = [{"topic": r["entity"], "question": r["prompt"], "response": a} for r, a in zip(ROWS, ANSWERS, strict=True)]
    return lines(tmp_path / "answers.jsonl", rows)


def run(answers: str, **metadata: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)
    found = simple_evaluate(
        "replay", {"responses": answers}, tasks=["factuality_custom"], task_manager=manager, bootstrap_iters=0
    )
    assert found is not None
    return found


def values(results: dict[str, Any]) -> dict[str, float]:
    found = results["results"]["factuality_custom"]
    return {k.split(",")[0]: v for k, v in found.items() if k.endswith(",annotation") and "_stderr" not in k}


@pytest.mark.parametrize("write", [lines, csv, parquet], ids=["jsonl", "csv", "parquet"])
def test_sentences_against_the_rows_documents(write: Any, tmp_path: Path, answers: str) -> None:
    suffix = {"lines": "jsonl"}.get(write.__name__, write.__name__)
    results = run(answers, questions=write(tmp_path / f"q.{suffix}", ROWS), judge="lexical")
    scores = values(results)
    assert scores.keys() == metrics.METRICS.keys()
    assert (scores["factuality"], scores["correct_per_response"], scores["correct"]) == (0.75, 0.75, 3)
    for sample, row in zip(results["samples"]["factuality_custom"], ROWS, strict=True):
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert (annotation.topic, annotation.question) == (row["entity"], row["prompt"])
        assert sample["doc"]["document"] == row["context"]


def test_facts_against_a_knowledge_source(tmp_path: Path, answers: str) -> None:
    pages = lines(tmp_path / "k.jsonl", [{"title": r["entity"], "text": r["context"]} for r in ROWS])
    bare = [{k: v for k, v in row.items() if k != "context"} for row in ROWS]
    results = run(answers, questions=lines(tmp_path / "q.jsonl", bare), judge="lexical", knowledge=pages, f1_k=1)
    scores = values(results)
    assert scores.keys() == factscore.metrics().keys()
    assert (scores["factscore_no_penalty"], scores["supported"], scores["f1_at_k"]) == (0.75, 0.75, 0.75)


def test_questions_in_the_usual_wordings_name_their_pages(tmp_path: Path) -> None:
    rows = [{"prompt": "Who is Alice?"}, {"prompt": "Tell me about Bob."}, {"prompt": "鲁迅是谁？"}]
    found = load_questions(lines(tmp_path / "q.jsonl", rows), documents=False)
    assert [(q.topic, q.language) for q in found] == [("Alice", "en"), ("Bob", "en"), ("鲁迅", "zh")]
    with pytest.raises(HarnessError, match=r"row 2: no topic .* in topic, name, title, entity; the row has prompt"):
        load_questions(lines(tmp_path / "q.jsonl", [*rows[:1], {"prompt": "Who wrote Hamlet?"}]), documents=False)


def test_a_topic_without_a_page_shows_before_anything_is_generated(tmp_path: Path, answers: str) -> None:
    pages = lines(tmp_path / "k.jsonl", [{"title": "Alice", "text": "Alice."}])
    with pytest.raises(HarnessError, match=r"k.jsonl: no page for 3 topics: 'Bob'"):
        run(answers, questions=lines(tmp_path / "q.jsonl", ROWS), judge="lexical", knowledge=pages)


main = command("score")


def test_the_command_and_the_page(tmp_path: Path, answers: str, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = [{"ask": r["prompt"], "wiki": r["context"], "who": r["entity"]} for r in ROWS]
    words = [
        "--questions",
        csv(tmp_path / "q.csv", renamed),
        "--model",
        "replay",
        "--model_args",
        f"responses={answers}",
    ]
    words += [
        "--columns",
        '{"question": "ask", "document": "wiki", "topic": "who"}',
        "--judge",
        "lexical",
        "--limit",
        "3",
    ]
    assert main([*words, "--metadata", '{"f1_k": 1}', "--seed", 3, "--out", tmp_path / "out"]) == 0
    assert "correct_per_response" in capsys.readouterr().out
    (file,) = (tmp_path / "out").rglob("samples_factuality_custom_*.jsonl")
    assert len(file.read_text().splitlines()) == 3
    (results,) = (tmp_path / "out").rglob("results_*.json")
    told = json.loads(results.read_text())
    assert told["results"]["factuality_custom"]["f1_at_k,annotation"] == pytest.approx(2 / 3)
    assert told["configs"]["factuality_custom"]["metadata"]["judge"] == "lexical"
    assert command("page")([tmp_path / "out", "--out", tmp_path / "page.html"]) == 0
    # The stored answers again, through replay of the samples.
    again = ["--model", "replay", "--model-args", f"responses={file}", "--out", tmp_path / "again"]
    assert main([*words[:2], *words[6:], *again]) == 0


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"prompt": "Q?"}], [], "q.jsonl, row 1: no reference document .*the row has prompt. .*columns"),
        ([ROWS[0], {"text": "Q?", "context": "D"}], [], "q.jsonl, row 2: no question .*prompt, instruction, input"),
        ([{"prompt": "Q?"}], ["--knowledge", "k.jsonl"], "row 1: no topic .*topic, name, title, entity"),
        (ROWS, ["--columns", '{"question": "promt"}'], "row 1: no column 'promt'; did you mean 'prompt'"),
        (ROWS, ["--columns", '{"answer": "a"}'], "columns: 'answer' is no part of a question; there are document"),
        (ROWS, ["--columns", '{"question": 3}'], "columns must say which column holds what"),
        (ROWS, ["--model", "nope"], "lm_eval knows no model 'nope'"),
        (ROWS, ["--judge", "lexcial"], "judge 'lexcial' is not known"),
        (ROWS, ["--questions", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_what_does_not_fit_is_told(
    rows: list[dict[str, Any]], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--questions": lines(tmp_path / "q.jsonl", rows), "--model": "dummy", "--judge": "lexical"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    assert main([word for pair in given.items() for word in pair] + ["--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_questions_and_no_judge_are_told(answers: str) -> None:
    with pytest.raises(HarnessError, match=r"which questions\? .*mini"):
        run(answers, judge="lexical")
    with pytest.raises(HarnessError, match="no judge is configured"):
        run(answers, questions="mini:test")


@pytest.mark.parametrize(
    ("row", "language"),
    [({"prompt": "谁是鲁迅？"}, "zh"), ({"prompt": "Who?"}, "en"), ({"prompt": "谁?", "lang": "English"}, "en")]
    + [({"prompt": "Who?", "language": name}, "zh") for name in ("zh", "zh-CN", "ZH_tw", "Chinese", "中文")],
)
def test_the_language_of_a_row(row: dict[str, Any], language: str, tmp_path: Path) -> None:
    (question,) = load_questions(lines(tmp_path / "q.jsonl", [row | {"context": "D"}]))
    assert question.language == language


def test_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    lines(tmp_path / "hub" / "data.jsonl", ROWS)
    found = load_questions(f"hf:{tmp_path / 'hub'}")
    assert [(q.topic, q.question) for q in found] == [(r["entity"], r["prompt"]) for r in ROWS]


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"judge": "lexical"}, False),
        ({"judge": "sheet@hf:m"}, False),
        ({"judge": "factscore@hf:m"}, True),
        ({"judge": "factscore_sheet@hf:m"}, True),
        ({"judge": "lexical", "knowledge": "pages.jsonl"}, True),
        ({"judge": "unknown@hf:m"}, False),
    ],
)
def test_a_judge_of_facts_scores_facts(settings: dict[str, str], facts: bool) -> None:
    assert by_facts(settings) is facts
