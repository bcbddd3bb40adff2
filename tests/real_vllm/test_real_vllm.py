"""The real engine: vLLM's OpenAI-compatible server and vLLM in process, on the CPU, with SmolLM2-135M-Instruct.

A model this small is a poor judge; what is tested is the way to it and back, and what survives a dead server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.vllm_server import ENVIRONMENT, Server
from factuality_harness.harness.annotation import Label, load_annotations
from factuality_harness.harness.annotators import dialogue
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data import anah
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.sentences import split

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(smollm2, tmp_path_factory.mktemp("vllm") / "server.log")
    server.start()
    yield server
    server.kill()


def claims(count: int) -> list[Claim]:
    """Sentences of the corpus against their own documents."""
    questions = {q.topic: q for q in anah.load_mini() if q.language == "en"}
    found = [
        Claim(q.question, s.text, q.document, "en") for q in questions.values() for s in split(q.document, "en")[:4]
    ]
    assert len(found) >= count
    return found[:count]


def responses(path: Path) -> Path:
    """Stored responses for two English questions of the corpus."""
    with path.open("w", encoding="utf-8") as out:
        for q in anah.load_mini()[:2]:
            text = " ".join(s.text for s in split(q.document, q.language)[:3])
            out.write(json.dumps({"question": q.question, "response": text}) + "\n")
    return path


def evaluate(judge: str, folder: Path) -> list[list[str]]:
    """Labels of `lm_eval --model replay` with a judge, sentence by sentence."""
    settings: dict[str, Any] = {"judge": judge, "judge_args": {"guided": True}}
    if "@vllm:" in judge:
        settings["judge_args"] |= {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048}
    command = [sys.executable, "-m", "lm_eval", "--model", "replay", "--tasks", "anah_factuality_mini"]
    command += ["--model_args", f"responses={responses(folder / 'responses.jsonl')}", "--limit", "2"]
    command += ["--metadata", json.dumps(settings), "--log_samples", "--output_path", str(folder / "out")]
    done = subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (samples,) = (folder / "out").rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return [[j.label.value for j in load_annotations(row["filtered_resps"][0])[0].judgements] for row in rows]


def test_lm_eval_with_a_vllm_server_as_judge(server: Server, tmp_path: Path) -> None:
    labels = evaluate(f"dialogue@{server.target}", tmp_path)
    assert [len(of_response) for of_response in labels] == [3, 3]
    assert "unparsed" not in {label for of_response in labels for label in of_response}


def test_all_three_turns_and_the_evidence(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Left to itself this judge finds no facts anywhere; take the first turn's choice from it.
    monkeypatch.setitem(dialogue.CHOICES["1_fact"], "en", ("<Facts Present>",))
    judge = JudgeSpec.parse(f"dialogue@{server.target}")
    annotator = judge.open({"guided": True, "max_tokens": 48}, AnswerCache(tmp_path / "c.sqlite"))
    judgements = annotator.judge(claims(6))
    assert {j.label for j in judgements} <= {Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE}
    assert any(j.evidence for j in judgements)


def test_killed_server_loses_no_finished_answer(server: Server, tmp_path: Path) -> None:
    sentences = claims(40)
    cache = AnswerCache(tmp_path / "cache.sqlite")
    options = {"guided": True, "concurrency": 4, "retries": 1, "timeout": 300}
    first = JudgeSpec.parse(f"dialogue@{server.target}").open(options, cache)

    def kill_soon() -> None:
        while len(cache) < 8:
            time.sleep(0.02)
        server.kill()

    killer = threading.Thread(target=kill_soon)
    killer.start()
    with pytest.raises(EngineError, match="run the same command again"):
        first.judge(sentences)
    killer.join()
    finished = len(cache)
    assert 8 <= finished < 40

    with pytest.raises(EngineError, match="cannot be reached"):
        JudgeSpec.parse(f"dialogue@{server.target}").open(options, cache).check()

    server.start()
    second = JudgeSpec.parse(f"dialogue@{server.target}").open(options, cache)
    judgements = second.judge(sentences)
    assert len(judgements) == 40
    assert Label.UNPARSED not in {j.label for j in judgements}
    assert second.engine.hits == finished  # type: ignore[attr-defined]
    # By the server's own count: what is stored now is what the first run finished plus what the second one asked.
    assert server.answered() == second.engine.asked == len(cache) - finished  # type: ignore[attr-defined]


def test_vllm_in_process(server: Server, smollm2: Path, tmp_path: Path) -> None:
    server.kill()  # two engines at once would share two cores
    labels = evaluate(f"dialogue@vllm:{smollm2}", tmp_path)
    assert [len(of_response) for of_response in labels] == [3, 3]
    assert "unparsed" not in {label for of_response in labels for label in of_response}
