"""The FActScore tasks through lm_eval, with the replay model and the judge that needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotation import load_annotations
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from tests.helpers.judge_server import JudgeServer
from tests.helpers.rule_engine import RuleEngine

METRICS = {
    "factscore",
    "factscore_no_penalty",
    "factscore_ci95_low",
    "factscore_ci95_high",
    "respond_ratio",
    "facts_per_response",
    "supported",
    "unsupported",
    "unparsed_facts",
    "undecided",
    "unread_sentences",
    "language_mismatch_rate",
    "f1_at_k",
    "f1_at_k_ci95_low",
    "f1_at_k_ci95_high",
}
PAGES = {
    "Ada Moss": "Ada Moss was born in 1901 in Oslo. Ada Moss wrote four novels.",
    "Ben Roe": "Ben Roe was born in 1950 in Lima. Ben Roe painted murals of ships.",
}
ANSWERS = {
    "Ada Moss": "Ada Moss was born in 1901 in Oslo. She sailed around Africa with seven elephants.",
    "Ben Roe": "I'm sorry, I do not know this person.",
}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evaluate(folder: Path, task: str, answers: list[dict[str, Any]], **metadata: Any) -> dict[str, Any]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model="replay",
        model_args={"responses": write(folder / "answers.jsonl", answers)},
        tasks=[task],
        task_manager=TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata),
        bootstrap_iters=0,
    )
    assert results is not None
    return results


def bios(folder: Path, **metadata: Any) -> dict[str, Any]:
    (folder / "prompt_entities.txt").write_text("\n".join(PAGES) + "\n")
    return evaluate(
        folder,
        "factscore_bio",
        [{"topic": topic, "output": text} for topic, text in ANSWERS.items()],
        entities=str(folder),
        knowledge=write(folder / "pages.jsonl", [{"title": t, "text": x} for t, x in PAGES.items()]),
        **{"judge": "lexical", **metadata},
    )


def values(results: dict[str, Any], task: str) -> dict[str, float]:
    return {k.split(",")[0]: v for k, v in results["results"][task].items() if k.endswith(",annotation")}


def test_biographies(tmp_path: Path) -> None:
    results = bios(tmp_path)
    scores = {k: v for k, v in values(results, "factscore_bio").items() if not k.endswith("_stderr")}
    assert set(scores) == METRICS
    assert scores["respond_ratio"] == 0.5
    assert scores["supported"] == scores["unsupported"] == 1
    assert scores["factscore_no_penalty"] == 0.5
    assert scores["factscore"] == pytest.approx(0.5 * 2.718281828459045 ** (1 - 10 / 2))
    metadata = results["configs"]["factscore_bio"]["metadata"]
    assert metadata["judge"] == "lexical"
    assert metadata["factscore"]["knowledge"].endswith("pages.jsonl")
    for sample in results["samples"]["factscore_bio"]:
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert len(annotation.extra["facts"]) == len(annotation.sentences)
        assert annotation.extra["abstained"] == (annotation.topic == "Ben Roe")


def test_gamma_comes_from_the_metadata(tmp_path: Path) -> None:
    assert values(bios(tmp_path, gamma=1), "factscore_bio")["factscore"] == 0.5


def test_anah_questions_against_their_documents(tmp_path: Path) -> None:
    questions = anah.load_mini()
    answers = [{"question": q.question, "response": q.document} for q in questions]
    results = evaluate(tmp_path, "anah_factscore_mini", answers)
    scores = values(results, "anah_factscore_mini")
    assert scores["factscore_no_penalty"] > 0.95  # a document is supported by itself
    assert {s["doc"]["language"] for s in results["samples"]["anah_factscore_mini"]} == {"en", "zh"}


def test_missing_parts_are_named_before_anything_runs(tmp_path: Path) -> None:
    answers = [{"topic": "Ada Moss", "output": "x"}]
    with pytest.raises(HarnessError, match="no entities"):
        evaluate(tmp_path, "factscore_bio", answers, judge="lexical")
    (tmp_path / "prompt_entities.txt").write_text("Ada Moss\n")
    with pytest.raises(HarnessError, match="no knowledge source"):
        evaluate(tmp_path, "factscore_bio", answers, judge="lexical", entities=str(tmp_path))
    pages = write(tmp_path / "pages.jsonl", [{"title": "Ada Moss", "text": "A page."}])
    with pytest.raises(HarnessError, match="no judge is configured"):
        evaluate(tmp_path, "factscore_bio", answers, entities=str(tmp_path), knowledge=pages)


def test_a_judge_of_whole_responses(tmp_path: Path) -> None:
    def answer(messages: Sequence[dict[str, str]]) -> str | None:
        if "statements:" in messages[-1]["content"]:
            return '{"1": "True", "2": "False"}'
        return RuleEngine().answer(messages).text

    with JudgeServer(answer) as server:
        results = bios(tmp_path, judge=f"factscore_sheet@openai:{server.url}#rules", k=2)
        assert sum("statements:" in r["messages"][-1]["content"] for r in server.requests) == 1
    scores = values(results, "factscore_bio")
    assert (scores["supported"], scores["unsupported"], scores["undecided"]) == (1, 1, 0)
    metadata = results["configs"]["factscore_bio"]["metadata"]
    assert metadata["factscore"]["passage_tokens"] == 4096
    assert metadata["judge_usage"][0]["requests"] == 3
