"""The answer cache: exact keys, shared files, killed processes, full disks."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factuality_harness.harness.engines import AnswerCache, CachedEngine, Conversation, Reply, Sampling
from factuality_harness.harness.engines.cache import cache_path, request_key
from factuality_harness.harness.errors import EngineError, HarnessError
from tests.helpers.paths import ROOT

GREEDY = Sampling()


def say(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


class Upper:
    """Answers in capitals, last request first, `size` at a time; refuses 'no'; breaks down after `fail_after`."""

    settings: ClassVar[dict[str, Any]] = {}
    remote = False
    identity = "upper#1"

    def __init__(self, size: int = 2, fail_after: int | None = None) -> None:
        self.size = size
        self.fail_after = fail_after
        self.asked: list[str] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations, sampling):
        order = list(enumerate(conversations))[::-1]
        for start in range(0, len(order), self.size):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise EngineError("gone")
            part = order[start : start + self.size]
            texts = [c[-1]["content"] for _, c in part]
            self.asked += texts
            yield [
                (i, Reply(None, "refused") if t == "no" else Reply(t.upper()))
                for (i, _), t in zip(part, texts, strict=True)
            ]


def texts(engine: CachedEngine, prompts: list[str]) -> list[str | None]:
    return [r.text for r in engine.complete([say(p) for p in prompts], GREEDY)]


PROMPTS = st.lists(st.sampled_from(["a", "b", "ß", "no", "字", ""]) | st.text(max_size=3), max_size=15)


@settings(max_examples=40)
@given(PROMPTS, st.integers(1, 6), st.lists(st.integers(0, 15), max_size=4))
def test_batch_boundaries_change_no_answer(prompts: list[str], size: int, cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = AnswerCache(Path(folder) / "a.sqlite")
        engine = CachedEngine(Upper(size), cache)
        edges = [0, *sorted(min(c, len(prompts)) for c in cuts), len(prompts)]
        found = [t for a, b in itertools.pairwise(edges) for t in texts(engine, prompts[a:b])]
        assert found == [None if p == "no" else p.upper() for p in prompts]
        answered = set(prompts) - {"no"}
        if any(not p.strip() for p in answered):
            return  # an empty answer is not kept: see test_what_is_of_no_use_is_not_kept
        assert len(cache) == len(answered)
        assert sorted(t for t in engine.engine.asked if t != "no") == sorted(answered)  # type: ignore[attr-defined]
        assert engine.asked + engine.hits == len(prompts)
        engine.cache.close()


def test_every_reply_is_told_once_with_its_index(tmp_path: Path) -> None:
    engine = CachedEngine(Upper(), AnswerCache(tmp_path / "a.sqlite"))
    texts(engine, ["b"])
    told: list[tuple[int, str | None]] = []
    engine.complete([say(p) for p in "abcab"], GREEDY, lambda i, reply: told.append((i, reply.text)))
    assert sorted(told) == [(0, "A"), (1, "B"), (2, "C"), (3, "A"), (4, "B")]
    assert (engine.asked, engine.hits) == (1 + 2, 3)


def test_a_refusal_is_not_stored_and_asked_again(tmp_path: Path) -> None:
    engine = CachedEngine(Upper(), AnswerCache(tmp_path / "a.sqlite"))
    assert texts(engine, ["no", "a"]) == texts(engine, ["no", "a"]) == [None, "A"]
    assert engine.engine.asked == ["a", "no", "no"]  # type: ignore[attr-defined]


def test_answers_outlive_the_process_and_a_breakdown(tmp_path: Path) -> None:
    first = CachedEngine(Upper(fail_after=4), AnswerCache(tmp_path / "a.sqlite"))
    with pytest.raises(EngineError):
        texts(first, list("abcdef"))
    second = CachedEngine(Upper(), AnswerCache(tmp_path / "a.sqlite"))
    conversations = [say(p) for p in "abcdef"]
    keys = [second.key(c, GREEDY) for c in conversations]
    assert len(second.cached(keys)) == 4
    assert texts(second, list("abcdef")) == list("ABCDEF")
    assert sorted(second.engine.asked) == ["a", "b"]  # type: ignore[attr-defined]
    assert len(second.cached(keys)) == 6


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    keys = {
        request_key(identity, conversation, sampling)
        for identity in ("a", "b")
        for conversation in (say("x"), say("y"), [{"role": "system", "content": "x"}], [*say("x"), *say("y")])
        for sampling in (
            Sampling(),
            Sampling(max_tokens=5),
            Sampling(temperature=0.5),
            Sampling(top_p=0.5),
            Sampling(top_k=5),
            Sampling(seed=1),
            Sampling(choices=("x", "y")),
            Sampling(choices=("x,y",)),
            Sampling(schema='{"type": "string"}'),
        )
    }
    assert len(keys) == 2 * 4 * 9
    # A fixed value: another key for the same request would ask everything anew in existing caches.
    known = "63fec71c516a07fe071489e3330af885f6c9b5ac366bb466320d3dbbe855ac5d"
    assert request_key("a", [{"content": "x", "role": "user"}], Sampling()).hex() == known


def test_many_keys_are_looked_up_at_once(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    rows = [(i.to_bytes(4, "big"), str(i)) for i in range(2500)]
    cache.put(rows)
    assert cache.get([k for k, _ in rows] + [b"none"]) == dict(rows)
    assert cache.get([]) == {}


def test_the_first_answer_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache.put([(b"k", "one")])
    cache.put([(b"k", "two"), (b"l", "three")])
    assert cache.get([b"k", b"l"]) == {b"k": "one", b"l": "three"}


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "here"))
    assert cache_path() == tmp_path / "here" / "answers.sqlite"
    AnswerCache().put([(b"k", "v")])
    assert (tmp_path / "here" / "answers.sqlite").is_file()
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_path() == tmp_path / "home" / ".cache" / "factuality-harness" / "answers.sqlite"


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no database at all" * 50)
    with pytest.raises(HarnessError, match=r"damaged.sqlite: cannot open the answer cache .*HARNESS_CACHE"):
        AnswerCache(damaged)
    assert damaged.read_bytes().startswith(b"this is no database")
    with pytest.raises(HarnessError, match="cannot open the answer cache"):
        AnswerCache(damaged / "answers.sqlite")  # a file where a folder should be


def test_a_full_disk_stops_the_storing_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.sqlite"
    prompts = [f"{i:04} {'long ' * 200}" for i in range(100)]
    engine = CachedEngine(Upper(size=5), AnswerCache(path, max_pages=20))
    with caplog.at_level(logging.WARNING):
        assert texts(engine, prompts) == [p.upper() for p in prompts]
        assert texts(engine, prompts) == [p.upper() for p in prompts]
    warnings = [r.getMessage() for r in caplog.records if r.name.startswith("factuality_harness")]
    assert len(warnings) == 1
    assert "a.sqlite: cannot store answers (database or disk is full). The run goes on" in warnings[0]
    engine.cache.close()
    later = AnswerCache(path)
    stored = later.get([request_key("upper#1", say(p), GREEDY) for p in prompts])
    assert 10 <= len(stored) < 100
    assert set(stored.values()) <= {p.upper() for p in prompts}
    resumed = CachedEngine(Upper(), later)
    assert texts(resumed, prompts) == [p.upper() for p in prompts]
    assert len(resumed.engine.asked) == 100 - len(stored)  # type: ignore[attr-defined]
    assert len(later) == 100


def test_a_cache_that_cannot_be_written_is_still_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another process holds the write lock and never lets go."""
    path = tmp_path / "a.sqlite"
    engine = CachedEngine(Upper(), AnswerCache(path))
    texts(engine, ["a"])
    engine.cache._db.execute("PRAGMA busy_timeout=50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        assert texts(engine, ["a", "b", "c", "d"]) == ["A", "B", "C", "D"]
    assert len([r for r in caplog.records if "cannot store answers" in r.getMessage()]) == 1
    other.execute("ROLLBACK")


WORKER = """
import sys, time
from factuality_harness.harness.engines import AnswerCache, CachedEngine, Reply, Sampling

class Slow:
    identity, settings, remote = "slow#1", {}, False
    def check(self): pass
    def stream(self, conversations, sampling):
        for i, c in enumerate(conversations):
            time.sleep(float(sys.argv[4]))
            yield [(i, Reply(c[-1]["content"] + "!"))]

engine = CachedEngine(Slow(), AnswerCache(sys.argv[1]))
sys.stdin.readline()
numbers = range(int(sys.argv[2]), int(sys.argv[3]))
for start in range(numbers.start, numbers.stop, 20):
    part = [str(n) for n in range(start, min(start + 20, numbers.stop))]
    replies = engine.complete(
        [[{"role": "user", "content": p}] for p in part],
        Sampling(),
        lambda i, reply: print(reply.text, flush=True),
    )
    assert [r.text for r in replies] == [p + "!" for p in part]
print("asked", engine.asked, "writable", engine.cache.writable, flush=True)
"""


def worker(path: Path, first: int, last: int, delay: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(path), str(first), str(last), str(delay)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def stored(path: Path, numbers: range) -> dict[str, str]:
    keys = {request_key("slow#1", say(str(n)), GREEDY): str(n) for n in numbers}
    return {keys[k]: text for k, text in AnswerCache(path).get(list(keys)).items()}


def test_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.sqlite"  # made by whichever comes first
    workers = [worker(path, 0, 400, 0.001), worker(path, 200, 600, 0.001), worker(path, 0, 600, 0.001)]
    for process in workers:
        go(process)
    ends = [process.communicate(timeout=60) for process in workers]
    assert [p.returncode for p in workers] == [0, 0, 0], ends
    assert all("writable True" in out for out, _ in ends)
    assert stored(path, range(600)) == {str(n): f"{n}!" for n in range(600)}
    asked = sum(int(out.split("asked ")[1].split()[0]) for out, _ in ends)
    assert 600 <= asked <= 1400
    late = worker(path, 0, 600, 10)
    out, _ = late.communicate("\n", timeout=60)
    assert "asked 0 " in out


def test_a_killed_process_loses_nothing_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    process = worker(path, 0, 1000, 0.01)
    go(process)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.communicate()[0].split()
    assert process.returncode == -signal.SIGKILL
    kept = stored(path, range(1000))
    assert set(told) <= set(kept.values())
    assert 50 <= len(kept) < 1000
    again = worker(path, 0, len(kept) + 7, 0.0)
    out, error = again.communicate("\n", timeout=60)
    assert "asked 7 " in out, error


OLD = "CREATE TABLE answers (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"


def old_cache(path: Path, *prompts: str) -> None:
    """A file as versions wrote it that noted no owners."""
    with sqlite3.connect(path) as db:
        db.execute(OLD)
        rows = [(request_key("upper#1", say(p), GREEDY), p.upper()) for p in prompts]
        db.executemany("INSERT INTO answers VALUES (?, ?)", rows)
    db.close()


def test_an_old_cache_is_read_and_its_owners_are_not_known(tmp_path: Path) -> None:
    old_cache(tmp_path / "a.sqlite", "a", "b")
    cache = AnswerCache(tmp_path / "a.sqlite")
    assert cache.owners() == {"": (2, 2)}
    engine = CachedEngine(Upper(), cache, "dialogue")
    assert texts(engine, ["a", "c"]) == ["A", "C"]
    assert engine.engine.asked == ["c"]  # type: ignore[attr-defined]
    assert cache.owners() == {"": (2, 2), "dialogue@upper#1": (1, 1)}
    # And an older version goes on with the file.
    with sqlite3.connect(tmp_path / "a.sqlite") as db:
        db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (b"k", "new"))
    db.close()
    assert cache.owners()[""] == (3, 5)
    assert cache.prune("") == 3
    assert cache.owners() == {"dialogue@upper#1": (1, 1)}


def test_an_old_file_that_holds_no_owner_is_pruned_too(tmp_path: Path) -> None:
    old_cache(tmp_path / "a.sqlite", "a", "b")
    cache = AnswerCache(tmp_path / "a.sqlite")
    assert (cache.prune("nobody"), cache.prune(""), len(cache)) == (0, 2, 0)


def test_pruning_leaves_the_others_and_readers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factuality_harness.harness.engines.cache._STEP", 3)
    path = tmp_path / "a.sqlite"
    one, other = (CachedEngine(Upper(), AnswerCache(path), name) for name in ("dialogue", "anah_v2"))
    texts(one, list("abcdefg"))
    texts(other, list("xyz"))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM answers").fetchone() == (10,)
    assert AnswerCache(path).prune("dialogue@upper#1") == 7
    assert reader.execute("SELECT count(*) FROM answers").fetchone() == (10,)  # its own view, until it is done
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM answers").fetchone() == (3,)
    reader.close()
    assert other.cache.owners() == {"anah_v2@upper#1": (3, 3)}
    assert texts(one, ["a"]) == ["A"]
    assert one.engine.asked.count("a") == 2  # type: ignore[attr-defined]
