"""The batch engine against a real server with files and batches, and against a folder."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.engines import BatchEngine, Reply, Sampling, open_engine
from factuality_harness.harness.engines import batch_lines as lines
from factuality_harness.harness.engines.batch_jobs import Job
from factuality_harness.harness.errors import EngineError, HarnessError
from tests.helpers.batch_server import BatchServer, Line
from tests.helpers.paths import ROOT
from tests.helpers.rule_judge import EN_DOCUMENT, ZH_DOCUMENT

FAST: Any = {"poll": 0.02, "patience": 5.0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as server:
        yield server


def echo(messages: list[dict[str, str]]) -> str | None:
    return None if "REFUSE" in messages[-1]["content"] else messages[-1]["content"].upper()


def say(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def ask(engine: BatchEngine, *texts: str) -> list[Reply]:
    replies = dict(pair for batch in engine.stream(say(*texts), Sampling()) for pair in batch)
    return [replies[i] for i in range(len(texts))]


def open_batch(server: BatchServer, **options: Any) -> BatchEngine:
    server.answer = echo
    return BatchEngine(f"{server.url}#rules", **{**FAST, **options})


def records(cache: Path) -> list[Path]:
    gc.collect()  # what was handed out is forgotten with the engine
    return list((cache / "batches").glob("job-*.json"))


CLAIMS = [
    Claim("Who is Alice?", text, EN_DOCUMENT, "en")
    for text in (
        "Alice was born in 1901.",
        "Alice moved in 1930.",
        "STUTTER Alice, 1901.",
        "So they say.",
        "Al. 3 DODGE",
    )
] + [Claim("张三是谁？", text, ZH_DOCUMENT, "zh") for text in ("张三生于1901年。", "张三生于1999年。")]


def labels(server: BatchServer, engine: str = "batch", **options: Any) -> tuple[list[str], list[dict[str, Any]]]:
    judge = JudgeSpec.parse(f"dialogue@{engine}:{server.url}#rules").open(options)
    judge.check()
    return [j.label.value for j in judge.judge(CLAIMS)], usage_of(judge)


def test_the_same_labels_as_one_by_one_in_a_batch_a_wave(server: BatchServer, cache: Path) -> None:
    server.looks = 3
    found, (usage,) = labels(server, **FAST)
    # Both languages go together; three turns, and the reminder of the first.
    assert usage["batches"] == len(server.created) == 3 + 1
    assert (len(server.requests), len(server.trials)) == (0, 1)  # the trial alone is asked one by one
    asked = sum(map(len, server.created))
    assert (usage["requests"], usage["prompt_tokens"]) == (asked, 10 * asked)
    assert records(cache) == []
    # The cache is the one of `openai:`, so only what has no usable answer is asked again.
    assert labels(server, "openai")[0] == found
    assert {json.dumps(r["messages"][0]) for r in server.requests} <= {
        json.dumps(b["messages"][0]) for b in server.bodies if "DODGE" in json.dumps(b) or "STUTTER" in json.dumps(b)
    }
    cache.joinpath("answers.sqlite").unlink()
    assert labels(server, "openai")[0] == found


def test_what_is_cached_is_not_submitted(server: BatchServer) -> None:
    server.answer = echo
    first = open_engine(f"batch:{server.url}#rules", **FAST)
    assert [r.text for r in first.complete(say("a", "b", "a"), Sampling())] == ["A", "B", "A"]
    again = open_engine(f"batch:{server.url}#rules", **FAST)
    assert [r.text for r in again.complete(say("b", "c"), Sampling())] == ["B", "C"]
    assert list(map(len, server.created)) == [2, 1]


KILL = """
import json, sys
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
judge = JudgeSpec.parse(sys.argv[1]).open({"poll": 0.02, "patience": 60.0})
judge.judge([Claim(*row) for row in json.loads(sys.argv[2])])
"""


def test_killed_at_every_point_nothing_is_submitted_twice(server: BatchServer, cache: Path) -> None:
    """One run, killed three times, each time further on; what is left ends in this process."""
    spec = f"dialogue@batch:{server.url}#rules"
    for step, times in (
        ("after batches", 0),  # made, and not noted
        ("look", 0),
        ("content", 2),  # in the second turn, when the first one's answers, some of no use, were handed out
    ):
        server.hung.clear()
        server.hang_at, server.hang_after = step, times
        claims = json.dumps([astuple(claim) for claim in CLAIMS])
        process = subprocess.Popen([sys.executable, "-c", KILL, spec, claims], cwd=ROOT)
        try:
            assert server.hung.wait(30), step
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    server.hang_at = ""
    found, _ = labels(server, **FAST)
    submitted = Counter(key for keys in server.created for key in keys)
    assert set(submitted.values()) == {1}
    assert records(cache) == []
    cache.joinpath("answers.sqlite").unlink()
    assert labels(server, "openai")[0] == found


def test_what_was_uploaded_and_not_submitted_is_submitted(server: BatchServer, cache: Path) -> None:
    engine = open_batch(server)
    keys = [*engine._by_key(say("a", "b"), Sampling())]
    engine.place.store.folder.mkdir(parents=True)
    engine.place.store.save(Job(server.url, keys, {}, file="file-7"))  # killed here
    assert [r.text for r in ask(engine, "a", "b")] == ["A", "B"]
    assert (list(map(len, server.created)), server.listed) == ([2], 1)
    del engine
    assert records(cache) == []


def test_two_runs_share_a_batch_and_one_of_them_may_ask_for_less(server: BatchServer, cache: Path) -> None:
    one, other = open_batch(server), open_batch(server)
    one.submit([(say("a", "b", "c"), Sampling())])
    assert [r.text for r in ask(other, "b")] == ["B"]
    del other
    assert len(records(cache)) == 1  # two of its answers were paid for and not asked for yet
    assert [r.text for r in ask(one, "a", "b", "c", "d")] == list("ABCD")
    assert list(map(len, server.created)) == [3, 2]


def test_a_lost_answer_makes_no_second_batch(server: BatchServer) -> None:
    engine = open_batch(server)
    server.drop_at = "after batches"
    assert [r.text for r in ask(engine, "a", "b")] == ["A", "B"]
    assert (len(server.created), server.listed) == (1, 1)


def mangled(server: BatchServer, change: Callable[[list[Line]], Any], always: bool = False) -> None:
    """Change the output of the first batch, or of all."""
    server.mangle = lambda answered: change(answered) if always or len(server.created) == 1 else answered


def broken(line: Line, status: int, error: Any = None) -> Line:
    response = {"status_code": status, "body": {"error": {"message": "the server is on fire"}}}
    return {**line, "response": None if error else response, "error": error}


@pytest.mark.parametrize(
    ("change", "batches"),
    [
        (lambda a: a[::-1], [3]),
        (lambda a: [*a, a[0], {**a[1], "custom_id": "another's"}, "no object", {"custom_id": 7}], [3]),
        (lambda a: [broken(a[0], 500), *a], [3]),
        (lambda a: [*a, broken(a[0], 500)], [3]),
        (lambda a: a[1:], [3, 1]),
        (lambda a: [], [3, 3]),
        (lambda a: [broken(a[0], 500), broken(a[1], 429), a[2]], [3, 2]),
        (lambda a: [broken(a[0], 0, {"code": "batch_expired", "message": "late"}), *a[1:]], [3, 1]),
        (lambda a: [{**a[0], "response": {"status_code": 200, "body": "<html>"}}, *a[1:]], [3]),
        (lambda a: "\n".join(json.dumps(line) for line in a)[:-9], [3, 1]),
        (lambda a: "\ufeff<html>no lines</html>", [3, 3]),
    ],
)
def test_lines_come_back_in_any_form(server: BatchServer, change: Callable[[Any], Any], batches: list[int]) -> None:
    engine = open_batch(server)
    mangled(server, change)
    replies = ask(engine, "a", "b", "c")
    page = [r for r in replies if r.text is None]
    assert [r.text for r in replies if r not in page] == [
        t for t, r in zip("ABC", replies, strict=True) if r not in page
    ]
    assert all("HTML page" in r.error for r in page) and len(page) <= 1
    assert list(map(len, server.created)) == batches


def test_what_fails_again_is_a_failure_in_words(server: BatchServer) -> None:
    engine = open_batch(server)
    mangled(server, lambda a: [broken(line, 503) if "A" in json.dumps(line) else line for line in a], always=True)
    refused, failed, good = ask(engine, "REFUSE", "a", "b")
    assert (refused.text, good.text) == (None, "B")
    assert "too long" in refused.error and "on fire" in failed.error
    assert list(map(len, server.created)) == [3, 1]  # the refusal is for its content: not asked again


def test_a_constraint_without_effect_is_given_another_form(server: BatchServer) -> None:
    """As of llama.cpp's server, which drops fields that it does not know."""
    sampling = Sampling(choices=("YES", "NO"))
    engine = open_batch(server)
    server.answer = lambda messages: "YES" if "response_format" in server.bodies[-1] else "It may be."
    replies = [reply.text for batch in engine.stream(say("a", "b"), sampling) for _, reply in batch]
    assert replies == ["YES", "YES"]
    assert list(map(len, server.created)) == [2, 2]


@pytest.mark.parametrize("guided", [True, False])
def test_sheets_of_any_length_go_together(server: BatchServer, guided: bool) -> None:
    def lines_of(messages: list[dict[str, str]]) -> str:
        numbers = re.findall(r"^(\d+)\. ", messages[-1]["content"].rpartition("---\n")[2], re.MULTILINE)
        line = {"label": "<No Hallucination>", "evidence": [EN_DOCUMENT[:20]]}
        if guided:
            return json.dumps({n: line for n in numbers})
        return "\n".join(f'{n}. <No Hallucination> "{EN_DOCUMENT[:20]}"' for n in numbers)

    server.answer = lines_of
    claims = [Claim(f"{size}?", f"Sentence {n}.", EN_DOCUMENT, "en", size) for size in (1, 2, 3) for n in range(size)]
    judge = JudgeSpec.parse(f"sheet@batch:{server.url}#rules").open({**FAST, "guided": guided})
    assert {j.label.value for j in judge.judge(claims)} == {"ok"}
    assert list(map(len, server.created)) == [3]


def test_parameters_refused_in_a_batch_are_adapted_once(server: BatchServer) -> None:
    def odd(body: Line, turn: int) -> Any:
        if "max_tokens" not in body:
            return None
        words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return 400, {"error": {"message": words, "param": "max_tokens", "code": "unsupported_parameter"}}, {}

    server.odd = odd
    engine = open_batch(server)
    assert [r.text for r in ask(engine, "a", "b")] == ["A", "B"]
    assert [r.text for r in ask(engine, "c")] == ["C"]
    assert list(map(len, server.created)) == [2, 2, 1]
    assert engine.parameters.learned == ["with max_completion_tokens instead of max_tokens"]


def test_a_batch_that_expires_is_asked_for_the_rest(server: BatchServer) -> None:
    server.ends = lambda batch: "expired" if batch["id"] == "batch_0" else "completed"
    assert [r.text for r in ask(open_batch(server), *"abcd")] == list("ABCD")
    assert list(map(len, server.created)) == [4, 2]


def test_a_cancelled_batch_ends_the_run_and_keeps_what_was_answered(server: BatchServer, cache: Path) -> None:
    server.answer = echo
    server.ends = lambda batch: "cancelled" if batch["id"] == "batch_0" else "completed"
    with pytest.raises(EngineError, match="batch_0 was cancelled, 2 of 4"):
        open_engine(f"batch:{server.url}#rules", **FAST).complete(say(*"abcd"), Sampling())
    replies = open_engine(f"batch:{server.url}#rules", **FAST).complete(say(*"abcd"), Sampling())
    assert [r.text for r in replies] == list("ABCD")
    assert list(map(len, server.created)) == [4, 2]


def test_a_failed_batch_says_why_and_is_forgotten(server: BatchServer, cache: Path) -> None:
    server.ends = lambda batch: "failed"
    server.errors = [{"code": "billing_hard_limit_reached", "message": "Your account is empty"}]
    engine = open_batch(server)
    with pytest.raises(EngineError, match="nothing was asked: billing_hard_limit_reached: Your account is empty"):
        ask(engine, "a")
    assert records(cache) == []


def test_a_full_queue_is_waited_for_in_smaller_batches(server: BatchServer) -> None:
    server.ends = lambda batch: "failed" if len(batch["lines"]) > 2 else "completed"
    server.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
    assert [r.text for r in ask(open_batch(server), *"abcd")] == list("ABCD")
    assert list(map(len, server.created)) == [4, 2, 2]
    assert server.most_waiting == 1


def test_many_requests_go_in_several_files(server: BatchServer) -> None:
    server.looks = 2
    engine = open_batch(server, requests_per_file=2)
    assert [r.text for r in ask(engine, *"abcde")] == list("ABCDE")
    assert list(map(len, server.created)) == [2, 2, 1]
    assert server.most_waiting == 3
    sizes = {"a": 5, "b": 5, "c": 20, "d": 1}
    assert [*lines.files(sizes, most_bytes=10)] == [["a", "b"], ["c"], ["d"]]


def test_a_batch_of_another_key_is_not_submitted_again(server: BatchServer, cache: Path) -> None:
    engine = open_batch(server)
    engine.submit([(say("a"), Sampling())])
    server.rows.clear()
    with pytest.raises(EngineError, match=r"submitted with another key.*job-.*\.json"):
        ask(engine, "a")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("http://h/v1#m", {"pol": 1}, "no option 'pol'; did you mean 'poll'"),
        ("http://h/v1#m", {"requests_per_file": 50_001}, "requests_per_file"),
        ("http://user:pw@h/v1#m", {}, "must not carry credentials"),
        ("out/folder", {}, "names no model"),
    ],
)
def test_wrong_options(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        open_engine(f"batch:{target}", **options)


def run_batch(text: str) -> Iterator[Line]:
    """What `vllm run-batch` makes of requests."""
    for row in map(json.loads, text.splitlines()):
        message = {"role": "assistant", "content": echo(row["body"]["messages"])}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        response = {"status_code": 200, "request_id": "v", "body": body}
        yield {"id": "vllm-1", "custom_id": row["custom_id"], "response": response, "error": None}


def test_a_folder_for_run_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "files"
    spec = f"batch:{folder}#m"

    def run() -> list[str | None]:
        engine = open_engine(spec)
        assert not engine.engine.remote
        return [r.text for r in engine.complete(say("a", "b"), Sampling())]

    with pytest.raises(EngineError, match=r"2 requests are written.*\nvllm run-batch -i .*requests-.* --model m"):
        run()
    with pytest.raises(EngineError, match="2 requests are written"):
        run()
    (requests,) = folder.glob("requests-*.jsonl")
    text = requests.read_text()
    answers = Path(str(requests).replace("requests-", "answers-"))
    out = "".join(json.dumps(line) + "\n" for line in run_batch(text))
    answers.write_text(out[: len(out) - 30])
    with pytest.raises(EngineError, match="the last line is not whole"):
        run()
    answers.write_text(out.splitlines(True)[0])  # a line is missing: asked once more
    with pytest.raises(EngineError, match="1 requests are written"):
        run()
    (more,) = set(folder.glob("requests-*.jsonl")) - {requests}
    answers = Path(str(more).replace("requests-", "answers-"))
    answers.write_text("".join(json.dumps(line) + "\n" for line in run_batch(more.read_text())))
    assert run() == ["A", "B"]
    gc.collect()
    assert not [*folder.glob("job-*"), *folder.glob("requests-*")]
    with caplog.at_level(logging.WARNING):
        JudgeSpec.parse(f"dialogue@batch:{folder}#m").open().check()
    assert "cannot be tried before the run" in caplog.text
