"""The tasks that judge the judge, through lm_eval with its dummy model."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from factuality_harness.harness.annotation import load_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from tests.helpers.judge_server import JudgeServer

ANAH = [
    {
        "name": f"Alice {i}",
        "documents": [f"Alice was born in {1900 + i}. Alice moved to Rome in 1920."],
        "selected_questions": ["When was she born?", "Where did she live?"],
        "GPT3.5_answers_D": [f"Alice was born in {1900 + i}. How nice!", "Alice moved to Rome in 1950."],
        "InternLM_answers": [f"Alice was born in {1900 + i}.", "Alice had 3 cats."],
        "human_GPT3.5_answers_D_ann": [
            [f"<Hallucination> None\n<Reference> Alice was born in {1900 + i}.", "<No Fact>"],
            ["<Hallucination> Contradictory\n<Reference> Alice moved to Rome in 1920."],
        ],
        "human_InternLM_answers_ann": [["<Hallucination> Perhaps"], ["<Hallucination> Unverifiable"]],
        "language": "en",
    }
    for i in range(3)
] + [
    {
        "name": "张三",
        "documents": ["张三生于1901年。"],
        "selected_questions": ["何时出生？"],
        "GPT3.5_answers_D": ["张三生于1905年。好的。"],
        "human_GPT3.5_answers_D_ann": [["<幻觉>矛盾\n<参考>张三生于1901年。\n<改正>1901", "<无事实>"]],
        "language": "zh",
    }
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def run(task: str, **metadata: Any) -> dict[str, Any]:
    """What `lm_eval --model dummy` does, without lm_eval's own tasks, whose index takes half a minute."""
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)
    results = simple_evaluate("dummy", tasks=[task], task_manager=manager, bootstrap_iters=0)
    assert results is not None
    return results


def values(results: dict[str, Any], task: str) -> dict[str, float]:
    found = {k.split(",")[0]: v for k, v in results["results"][task].items() if k.endswith(",annotation")}
    return {k: v for k, v in found.items() if not k.endswith("_stderr")}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval's dummy model asks the hub for a tokenizer that nothing here needs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def anah(tmp_path: Path) -> str:
    return write(tmp_path / "person.jsonl", ANAH)


def test_anah(anah: str, caplog: pytest.LogCaptureFixture) -> None:
    with JudgeServer() as server, caplog.at_level(logging.WARNING):
        spec = f"dialogue@openai:{server.url}#rules"
        results = run("judge_anah", judge=spec, data=anah)
    found = values(results, "judge_anah")
    # 3 x (ok, nofact, contradictory, and unverifiable called contradictory) in English; both right in Chinese.
    assert (found["units"], found["malformed"]) == (14, 3)
    assert found["accuracy"] == 11 / 14
    assert (found["accuracy_en"], found["accuracy_zh"]) == (0.75, 1)
    assert (found["f1_ok"], found["f1_nofact"], found["f1_unverifiable"]) == (1, 1, 0)
    assert found["f1_contradictory"] == 2 * 4 / (4 + 7)
    assert found["f1_macro"] == pytest.approx((1 + 1 + 8 / 11) / 4)
    assert found["f1_weighted"] == pytest.approx((3 + 4 + 4 * 8 / 11) / 14)
    assert found["f1_macro_zh"] == 1
    assert (found["f1_ok_en"], found["f1_contradictory_zh"], found["f1_contradictory_en"]) == (1, 1, 6 / 9)
    assert math.isnan(found["f1_ok_zh"])  # no human gave it there
    assert math.isnan(found["f1_macro_zh_ci95_low"])  # one topic
    assert found["evidence_precision_1gram_en"] == 0.5  # both sentences quoted, six words each
    assert found["evidence_precision_1gram_zh"] == 1
    assert (found["sensitivity"], found["specificity"]) == (1, 1)  # wrong in kind only
    assert 0.5 < found["evidence_precision_4gram"] < 1
    assert found["unparsed_rate"] == 0
    for name in ("accuracy", "f1_weighted", "kappa", "evidence_precision_4gram"):
        assert found[f"{name}_ci95_low"] <= found[name] <= found[f"{name}_ci95_high"]
    assert "answer 1, sentence 1: hallucination type 'Perhaps' is not known" in caplog.text
    assert results["configs"]["judge_anah"]["metadata"]["judge"] == spec


def test_every_unit_is_a_sample_and_malformed_ones_are_not_judged(anah: str) -> None:
    with JudgeServer() as server:
        results = run("judge_anah", judge=f"dialogue@openai:{server.url}#rules", data=anah)
        asked = server.requests
    samples = results["samples"]["judge_anah"]
    assert len(samples) == 17
    for sample in samples:
        doc = sample["doc"]
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert annotation.extra["human"] == doc["label"]
        if doc["label"] == "malformed":
            assert "Perhaps" in doc["reason"]
            assert annotation.sentences == ()
        else:
            assert [s.text for s in annotation.sentences] == [doc["sentence"]]
    assert not any("Perhaps" in json.dumps(request) for request in asked)


def test_one_language(anah: str) -> None:
    found = values(run("judge_anah", judge="lexical", data=anah, language="zh"), "judge_anah")
    assert found["units"] == 2
    assert math.isnan(found["accuracy_en"])
    assert found["accuracy"] == found["accuracy_zh"]


def test_plain_rows(tmp_path: Path) -> None:
    row = {"question": "Q?", "document": "Ada Moss was born in 1901 in Oslo.", "language": "en"}
    rows = [
        row | {"sentence": "Ada Moss was born in 1901 in Oslo.", "label": "ok"},
        row | {"sentence": "Ada Moss was born in 1950 in Oslo.", "label": "contradictory"},
        row | {"sentence": "Ada Moss wrote novels about ships.", "label": "dunno"},
    ]
    found = values(run("judge_labels", judge="lexical", data=write(tmp_path / "l.jsonl", rows)), "judge_labels")
    assert (found["accuracy"], found["units"], found["malformed"]) == (1, 2, 1)
    facts = write(tmp_path / "f.jsonl", [rows[0] | {"label": "S"}])
    with pytest.raises(HarnessError, match="have no types"):
        run("judge_labels", judge="lexical", data=facts)


@pytest.mark.parametrize(("unit", "units"), [("fact", 4), ("sentence", 2)])
def test_biographies(tmp_path: Path, unit: str, units: int) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    for system, wrong in (("One", "Ada rowed to Lima in 1850."), ("Two", "Ada sang opera in 1999.")):
        facts = [{"text": "Ada was born in 1901 in Oslo.", "label": "S"}, {"text": wrong, "label": "NS"}]
        answer = " ".join(f["text"] for f in facts)
        sentence = {"text": answer, "is-relevant": True, "human-atomic-facts": facts}
        write(
            folder / f"{system}.jsonl",
            [{"topic": "Ada", "output": answer, "cat": ["rare"], "annotations": [sentence]}],
        )
    found = values(run("judge_biography", judge="lexical", data=str(folder), unit=unit), "judge_biography")
    assert (found["units"], found["specificity"]) == (units, 1)
    assert math.isnan(found["sensitivity"]) if unit == "sentence" else found["sensitivity"] == 1
    pages = write(
        tmp_path / "pages.jsonl", [{"title": "Ada", "text": "Ada was born in 1901 in Oslo. Ada sang opera in 1999."}]
    )
    against = run("judge_biography", judge="lexical", data=str(folder), unit=unit, knowledge=pages)
    assert values(against, "judge_biography")["specificity"] < 1


@pytest.mark.parametrize(
    ("task", "metadata", "message"),
    [
        ("judge_anah", {}, "no judge is configured"),
        ("judge_labels", {"judge": "lexical", "data": None}, "which labels"),
        ("judge_biography", {"judge": "lexical", "data": None}, "which biographies"),
        ("judge_anah", {"judge": "lexical", "language": "fr"}, "'fr' is not supported"),
    ],
)
def test_what_is_missing_is_told(anah: str, task: str, metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        run(task, **({"data": anah} | metadata))
