"""The judged tasks inside lm_eval: whole evaluations of stored answers, judges, and what goes wrong."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from factuality_harness.harness import metrics
from factuality_harness.harness.annotation import Label, load_annotations
from factuality_harness.harness.data.anah import Question, load_mini
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.io.samples import sample_rows
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.lm_eval_plugin.replay import ReplayLM
from factuality_harness.harness.lm_eval_plugin.task import Scored
from tests.helpers.judge_server import JudgeServer

NAMES = {
    "factuality",
    "factuality_macro",
    "factuality_ci95_low",
    "factuality_ci95_high",
    "correct",
    "incorrect",
    "contradictory_rate",
    "unverifiable_rate",
    "nofact_rate",
    "unparsed_rate",
    "sentences_per_response",
    "score_reference",
    "correct_per_response",
    "correct_per_response_ci95_low",
    "correct_per_response_ci95_high",
    "f1_at_k",
    "f1_at_k_ci95_low",
    "f1_at_k_ci95_high",
    "thinking_cut_rate",
    "language_mismatch_rate",
}
MINI = load_mini()


def tell(question: Question) -> str:
    """An answer with a right, a wrong and an empty sentence (the document ends with a number or not)."""
    document = question.document
    if question.language == "zh":
        return document[: document.index("。") + 1] + "长城由秦始皇下令修筑而成。\n希望这些信息对您有帮助！"
    return document.split(". ")[0] + ". Napoleon admired porcelain in 2999.\n\nI hope this helps!"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def answers(path: Path, questions: list[Question]) -> Path:
    return write(path, [{"question": q.question, "response": tell(q)} for q in questions])


def run(responses: Path, task: str = "anah_factuality_mini", **options: Any) -> dict[str, Any]:
    """What `lm_eval --model replay` does, without lm_eval's own tasks, whose index takes half a minute."""
    metadata = options.pop("metadata", {})
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)
    return simple_evaluate(
        "replay", {"responses": str(responses)}, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
    )


def values(results: dict[str, Any], task: str = "anah_factuality_mini") -> dict[str, float]:
    return {
        key.removesuffix(",annotation"): value
        for key, value in results["results"][task].items()
        if key.endswith(",annotation") and "_stderr" not in key
    }


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An evaluation of two English topics and of all Chinese ones."""
    responses = answers(tmp_path_factory.mktemp("replay") / "answers.jsonl", MINI)
    return run(responses, samples={"anah_factuality_mini": [0, 1, 2, 3, 4, 5, *range(84, len(MINI))]})


def test_the_metrics_are_the_tasks(whole: dict[str, Any]) -> None:
    found = values(whole)
    assert found.keys() == NAMES == metrics.METRICS.keys()
    assert not any(math.isnan(v) for v in found.values())
    assert found["unparsed_rate"] == 0
    assert found["nofact_rate"] == 1 / 3
    assert found["sentences_per_response"] == 3
    assert found["factuality"] == pytest.approx(0.5)
    assert found["factuality_ci95_low"] <= found["factuality"] <= found["factuality_ci95_high"]
    better = whole["higher_is_better"]["anah_factuality_mini"]
    assert better == {name: metric.higher_is_better for name, metric in metrics.METRICS.items()}


def test_every_sample_holds_its_annotation(whole: dict[str, Any]) -> None:
    samples = whole["samples"]["anah_factuality_mini"]
    assert len(samples) == 6 + 42
    for sample in samples:
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert annotation.response == sample["resps"][0][0]
        assert annotation.question == sample["doc"]["question"] == sample["arguments"][0][0]
        assert annotation.topic == sample["doc"]["topic"]
        assert annotation.judge == "lexical"
        assert len(annotation.sentences) == 3
        for sentence in annotation.sentences:
            assert annotation.response[sentence.start : sentence.end] == sentence.text
        assert annotation.judgements[-1].label == Label.NOFACT


def test_the_scores_can_be_computed_again_from_the_samples(whole: dict[str, Any]) -> None:
    rows = [
        metrics.count(load_annotations(sample["filtered_resps"][0]))
        for sample in whole["samples"]["anah_factuality_mini"]
    ]
    assert metrics.summarise(rows) == values(whole)
    for row, sample in zip(rows, whole["samples"]["anah_factuality_mini"], strict=True):
        assert sample["factuality"] == metrics.factuality([row])


def test_the_judge_is_written_beside_the_result(whole: dict[str, Any]) -> None:
    assert whole["configs"]["anah_factuality_mini"]["metadata"]["judge"] == "lexical"
    assert whole["versions"]["anah_factuality_mini"] == 1.1
    json.dumps(whole["configs"], default=str)


@pytest.mark.parametrize(("task", "language"), [("anah_factuality_mini_en", "en"), ("anah_factuality_mini_zh", "zh")])
def test_the_languages_have_tasks_of_their_own(tmp_path: Path, task: str, language: str) -> None:
    results = run(answers(tmp_path / "a.jsonl", MINI), task, limit=4)
    assert {s["doc"]["language"] for s in results["samples"][task]} == {language}


def test_an_empty_response_holds_no_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": q.question, "response": tell(q) if i else " \n"} for i, q in enumerate(MINI[:3])]
    results = run(write(tmp_path / "a.jsonl", rows), limit=3)
    assert values(results)["sentences_per_response"] == 2
    assert "1 of 3 responses are empty" in caplog.text
    first = results["samples"]["anah_factuality_mini"][0]
    assert json.loads(first["filtered_resps"][0])["sentences"] == []
    assert math.isnan(first["factuality"])


def test_only_empty_responses_are_no_zero(tmp_path: Path) -> None:
    rows = [{"question": q.question, "response": ""} for q in MINI[:2]]
    found = values(run(write(tmp_path / "a.jsonl", rows), limit=2))
    assert math.isnan(found["factuality"])
    assert (found["correct"], found["sentences_per_response"]) == (0, 0)


def test_missing_answers_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="2 of 5 requested answers are not stored"):
        run(answers(tmp_path / "a.jsonl", MINI[:3]), limit=5)


def test_a_response_file_cut_in_mid_line_is_named(tmp_path: Path) -> None:
    file = answers(tmp_path / "a.jsonl", MINI[:3])
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(HarnessError, match=r"a\.jsonl, row 3: .*cut off"):
        run(file, limit=3)


class Untouched(ReplayLM):
    """A model that must not be asked."""

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        raise AssertionError("generation was started")


def data(tmp_path: Path, topics: int = 2) -> Path:
    """A source of ANAH's form: the rules of the tests' judge can be followed on its documents."""
    return write(
        tmp_path / "data.jsonl",
        [
            {
                "name": f"Alice {i}",
                "selected_questions": [f"Question {j} on Alice {i}?" for j in range(3)],
                "documents": [f"Alice was born in {1900 + i}. Bob sells 12 pears."],
                "language": "en",
            }
            for i in range(topics)
        ],
    )


def judged(tmp_path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """anah_factuality on six questions; a right, a wrong and an empty sentence each."""
    source = data(tmp_path)
    rows = [
        {
            "question": f"Question {j} on Alice {i}?",
            "response": f"Alice came in {1900 + i}. Alice has {j + 30} cats. Oh, how nice!",
        }
        for i in range(2)
        for j in range(3)
    ]
    responses = write(tmp_path / "answers.jsonl", rows)
    return run(responses, "anah_factuality", metadata={"data": str(source), **metadata})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"no judge is configured.*--metadata.*HARNESS_JUDGE.*lexical.*dialogue@openai"),
        ({"judge": "lexcial"}, "'lexcial' is not known; one of: lexical"),
        ({"judge": "lexical", "judge_args": ["retries"]}, "judge_args must be an object of options, not list"),
        ({"judge": "factscore@openai:http://h/v1#m"}, "'factscore' decides single facts, it does not label"),
        ({"judge": "dialogue@opnai:http://h/v1"}, "engine 'opnai:http://h/v1' is not known"),
        ({"judge": "lexical", "judge_args": {"retires": 1}}, "has no option retires"),
        ({"judge": "dialogue@openai:http://127.0.0.1:9/v1#m"}, "127.0.0.1:9/v1 cannot be reached. Start it"),
    ],
)
def test_a_judge_that_cannot_work_is_told_before_any_generation(
    tmp_path: Path, metadata: dict[str, Any], message: str
) -> None:
    manager = TaskManager(
        include_path=str(tasks_folder()), include_defaults=False, metadata={"data": str(data(tmp_path)), **metadata}
    )
    model = Untouched(str(write(tmp_path / "a.jsonl", [])))
    with pytest.raises(HarnessError, match=message):
        simple_evaluate(model, tasks=["anah_factuality"], task_manager=manager)


def test_a_judge_server(tmp_path: Path, server: JudgeServer) -> None:
    spec = f"dialogue@openai:{server.url}#rules"
    results = judged(tmp_path, {"judge": spec, "judge_args": {"concurrency": 4, "window": 5}})
    assert values(results, "anah_factuality")["factuality"] == 0.5
    assert values(results, "anah_factuality")["correct"] == 6
    assert results["configs"]["anah_factuality"]["metadata"]["judge"] == spec
    sample = results["samples"]["anah_factuality"][0]
    (annotation,) = load_annotations(sample["filtered_resps"][0])
    assert annotation.judge == "dialogue@openai#rules"
    assert annotation.judgements[0].evidence == (sample["doc"]["document"].split(". ")[0] + ".",)


def test_the_judge_may_come_from_the_environment(
    tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_JUDGE", f"dialogue@openai:{server.url}#rules")
    results = judged(tmp_path, {})
    assert results["configs"]["anah_factuality"]["metadata"]["judge"] == f"dialogue@openai:{server.url}#rules"


def test_a_judge_that_dies_half_way_is_not_asked_twice(tmp_path: Path, server: JudgeServer) -> None:
    metadata = {"judge": f"dialogue@openai:{server.url}#rules", "judge_args": {"concurrency": 2, "retries": 0}}
    server.stop_after = 20
    with pytest.raises(EngineError, match="finished answers are in the cache"):
        judged(tmp_path, metadata)
    assert len(server.answered) == 20
    server.stop_after = None
    server.start()
    results = judged(tmp_path, metadata)
    (usage,) = results["configs"]["anah_factuality"]["metadata"]["judge_usage"]
    assert usage == {"engine": "openai#rules", "requests": 22, "from_cache": 20}
    assert values(results, "anah_factuality")["factuality"] == 0.5
    assert len(server.answered) == len(set(server.answered)) == 6 * (3 + 3 + 1)
    server.requests.clear()
    assert values(judged(tmp_path, metadata), "anah_factuality") == values(results, "anah_factuality")
    assert server.requests == []


def test_predict_only_needs_no_judge_and_its_samples_are_scored_later(tmp_path: Path, server: JudgeServer) -> None:
    source = data(tmp_path)
    rows = [
        {"question": f"Question {j} on Alice {i}?", "response": f"Alice {j} 1900."} for i in range(2) for j in range(3)
    ]
    first = run(write(tmp_path / "a.jsonl", rows), "anah_factuality", metadata={"data": str(source)}, predict_only=True)
    samples = first["samples"]["anah_factuality"]
    assert {s["filtered_resps"][0] for s in samples} == {r["response"] for r in rows}
    assert "judge" not in first["configs"]["anah_factuality"]["metadata"]
    assert not NAMES & {k.split(",")[0] for k in first["results"]["anah_factuality"]}
    assert server.requests == []
    stored = write(tmp_path / "samples.jsonl", [{k: s[k] for k in ("doc", "resps")} for s in samples])
    spec = f"dialogue@openai:{server.url}#rules"
    second = run(stored, "anah_factuality", metadata={"data": str(source), "judge": spec})
    assert {s["resps"][0][0] for s in second["samples"]["anah_factuality"]} == {r["response"] for r in rows}
    third = run(stored, "anah_factuality", metadata={"data": str(source), "judge": "lexical"})
    judges = [r["configs"]["anah_factuality"]["metadata"]["judge"] for r in (second, third)]
    assert judges == [spec, "lexical"]


def test_several_answers_a_question(tmp_path: Path) -> None:
    source = data(tmp_path)
    rows = [
        {
            "question": f"Question {j} on Alice {i}?",
            "response": f"Alice was born in {1900 + i + n % 2}. Thank you, number {n}!",
        }
        for n in range(16)
        for i in range(2)
        for j in range(3)
    ]
    results = run(
        write(tmp_path / "a.jsonl", rows),
        "anah_factuality_sampled",
        metadata={"data": str(source), "judge": "lexical"},
    )
    for sample in results["samples"]["anah_factuality_sampled"]:
        annotations = load_annotations(sample["filtered_resps"][0])
        assert [a.response for a in annotations] == sample["resps"][0]
        assert len({a.response for a in annotations}) == 16
        assert {a.question for a in annotations} == {sample["doc"]["question"]}
        assert [a.judgements[0].label == Label.OK for a in annotations] == [n % 2 == 0 for n in range(16)]
    found = values(results, "anah_factuality_sampled")
    assert found["correct"] == 6 * 8
    assert found["sentences_per_response"] == 2


def test_too_few_answers_for_the_repeats(tmp_path: Path) -> None:
    source = data(tmp_path, topics=1)
    rows = [{"question": f"Question {j} on Alice 0?", "response": "Alice."} for j in range(3) for _ in range(15)]
    with pytest.raises(HarnessError, match="3 of 48 requested answers are not stored"):
        run(
            write(tmp_path / "a.jsonl", rows),
            "anah_factuality_sampled",
            metadata={"data": str(source), "judge": "lexical"},
        )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q?", "language": "en"}, "no reference document"),
        ({"question": "Q?", "document": "D.", "language": "fr"}, "only en and zh are supported"),
    ],
)
def test_a_bad_row_of_the_data_is_named(tmp_path: Path, row: dict[str, str], message: str) -> None:
    source = write(tmp_path / "bad.jsonl", [row])
    with pytest.raises(HarnessError, match=rf"bad\.jsonl, row 1: .*{message}"):
        run(
            write(tmp_path / "a.jsonl", []),
            "anah_factuality",
            metadata={"data": str(source), "judge": "lexical"},
        )


def test_the_train_split_can_be_asked(tmp_path: Path) -> None:
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata={"split": "train"})
    task = manager.load(["anah_factuality_mini"])["tasks"]["anah_factuality_mini"]
    assert [d["question"] for d in task.test_docs()] == [q.question for q in load_mini("train")]


def test_a_value_travels_between_processes_with_its_counts() -> None:
    value = Scored(0.5, metrics.Counts("a", 1, ok=1, contradictory=1))
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert other == 0.5
        assert other.counts == value.counts
    assert json.dumps(value) == "0.5"


@pytest.mark.slow
def test_the_command_with_a_real_model(smollm2: Path, tmp_path: Path) -> None:
    """Word for word as the README has it, from another folder."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={smollm2},dtype=float32", "--device", "cpu", "--apply_chat_template"]
    command += ["--tasks", "anah_factuality_mini", "--limit", "2", "--gen_kwargs", "max_gen_toks=32"]
    command += ["--log_samples", "--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    (results_file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(results_file.read_text())
    assert {k.split(",")[0] for k in results["results"]["anah_factuality_mini"]} >= NAMES
    assert results["configs"]["anah_factuality_mini"]["metadata"]["judge"] == "lexical"
    (samples_file,) = (tmp_path / "out").rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in samples_file.read_text(encoding="utf-8").splitlines()]
    assert len(samples) == 2
    for sample in samples:
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert annotation.response == sample["resps"][0][0] != ""
        assert annotation.sentences
    stored = run(samples_file, limit=2)
    for name, value in values(stored).items():
        assert value == pytest.approx(results["results"]["anah_factuality_mini"][f"{name},annotation"], nan_ok=True)


def test_thinking_in_answers_is_set_aside_and_counted(tmp_path: Path) -> None:
    thoughts = ["<think>Was it 1900? Or 1950?</think>", "<think>Well,</think>", "never mind</think>", "<think>", "", ""]
    rows = [
        {"question": f"Question {j} on Alice {i}?", "response": f"{thoughts[3 * i + j]}Alice was born in 1900."}
        for i in range(2)
        for j in range(3)
    ]
    metadata = {"data": str(data(tmp_path)), "judge": "lexical"}
    results = run(write(tmp_path / "a.jsonl", rows), "anah_factuality", metadata=metadata)
    found = values(results, "anah_factuality")
    assert found["thinking_cut_rate"] == pytest.approx(1 / 6)
    assert found["sentences_per_response"] == pytest.approx(5 / 6)
    for sample in results["samples"]["anah_factuality"]:
        (annotation,) = load_annotations(sample["filtered_resps"][0])
        assert "think" not in annotation.response
        assert "Alice was born" in sample["resps"][0][0]


def test_k_of_f1_is_a_setting(tmp_path: Path) -> None:
    rows = [{"question": f"Question {j} on Alice {i}?", "response": "Alice 1900."} for i in range(2) for j in range(3)]
    answers = write(tmp_path / "a.jsonl", rows)
    metadata = {"data": str(data(tmp_path)), "judge": "lexical"}
    found = [
        values(run(answers, "anah_factuality", metadata={**metadata, "f1_k": k}), "anah_factuality") for k in (1, 5)
    ]
    assert found[0]["f1_at_k"] > found[1]["f1_at_k"]
    for wrong in (0, "5", True):
        with pytest.raises(HarnessError, match="f1_k, what a full answer holds"):
            run(answers, "anah_factuality", metadata={**metadata, "f1_k": wrong})


def test_answers_outlive_a_judge_that_dies(tmp_path: Path, server: JudgeServer) -> None:
    metadata = {"judge": f"dialogue@openai:{server.url}#rules", "judge_args": {"concurrency": 2, "retries": 0}}
    server.stop_after = 5
    with pytest.raises(HarnessError, match=r"responses=.*jsonl --tasks anah_factuality") as caught:
        judged(tmp_path, metadata)
    kept = re.search(r"responses=(\S+)", str(caught.value))
    assert kept is not None and len(Path(kept[1]).read_text().splitlines()) == 6
    server.stop_after = None
    server.start()
    source = {"data": str(data(tmp_path))}
    again = run(Path(kept[1]), "anah_factuality", metadata={**source, **metadata})
    assert values(again, "anah_factuality")["factuality"] == 0.5


def test_examples_in_the_prompt_are_refused(tmp_path: Path) -> None:
    rows = [{"question": "Question 0 on Alice 0?", "response": "Alice 1900."}]
    metadata = {"data": str(data(tmp_path)), "judge": "lexical"}
    with pytest.raises(HarnessError, match="num_fewshot 2 has no meaning here"):
        run(write(tmp_path / "a.jsonl", rows), "anah_factuality", metadata=metadata, num_fewshot=2)


@pytest.mark.slow
def test_the_command_fails_when_the_judge_left_too_much_unjudged(tmp_path: Path, server: JudgeServer) -> None:
    rows = [{"question": q.question, "response": f"{q.topic} MUMBLE 1900. Oh!"} for q in MINI[:2]]
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "replay", "--tasks", "anah_factuality_mini"]
    command += ["--model_args", f"responses={write(tmp_path / 'a.jsonl', rows)}", "--limit", "2"]
    command += ["--metadata", json.dumps({"judge": f"dialogue@openai:{server.url}#rules"})]
    command += ["--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "error: 50.0 % of the sentences of anah_factuality_mini have no verdict" in done.stderr
    (results_file,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results_file.read_text())["results"]["anah_factuality_mini"]["unparsed_rate,annotation"] == 0.5


class Halves(ReplayLM):
    """Answers with halves of surrogate pairs, as a server's JSON can carry them."""

    def __init__(self) -> None:
        LM.__init__(self)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = ["high \ud83d.", "low \ude00.", "turned \ude00\ud83d.", "whole \U0001f600.", "plain."]
        return [texts[i % len(texts)] for i in range(len(requests))]


@pytest.mark.parametrize("predict_only", [False, True])
def test_half_characters_cannot_empty_a_samples_file(tmp_path: Path, predict_only: bool) -> None:
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False)
    tracker = EvaluationTracker(output_path=str(tmp_path))
    task = "anah_factuality_mini_en"
    options: dict[str, Any] = {"limit": 5, "bootstrap_iters": 0, "predict_only": predict_only}
    results = simple_evaluate(Halves(), tasks=[task], task_manager=manager, evaluation_tracker=tracker, **options)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name=task, samples=samples[task])
    (file,) = tmp_path.rglob("samples_*.jsonl")
    rows = [row.responses() for row in sample_rows(file)]
    assert rows == [["high \ufffd."], ["low \ufffd."], ["turned \ufffd\ufffd."], ["whole \U0001f600."], ["plain."]]
