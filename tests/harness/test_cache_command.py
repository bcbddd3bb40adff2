"""`factuality cache list` and `prune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factuality_harness.harness.engines import AnswerCache
from tests.helpers.cli import command


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnswerCache:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    cache = AnswerCache()
    for i, owner in enumerate(["dialogue@openai#m", "dialogue@openai#m", "anah_v2@openai#m", ""]):
        cache.put([(bytes([i]), "yes")], owner)
    return cache


def test_list(cache: AnswerCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache list")([]) == 0
    rows = json.loads(capsys.readouterr().out)["judges"]
    assert [(r["judge"], r["answers"]) for r in rows] == [
        ("not recorded", 1),
        ("anah_v2@openai#m", 1),
        ("dialogue@openai#m", 2),
    ]


@pytest.mark.parametrize(
    ("judge", "deleted"),
    [
        ("dialogue@openai#m", 2),
        ("dialogue@openai:http://127.0.0.1:9/v1#m", 2),
        ("dialogue@batch:http://127.0.0.1:9/v1#m", 2),
        ("anah_v2@openai:http://127.0.0.1:9/v1#m", 1),
        ("not recorded", 1),
    ],
)
def test_prune(cache: AnswerCache, capsys: pytest.CaptureFixture[str], judge: str, deleted: int) -> None:
    assert command("cache prune")(["--judge", judge]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["deleted"], found["left"], len(cache)) == (deleted, 4 - deleted, 4 - deleted)


def test_a_judge_that_is_not_there(cache: AnswerCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache prune")(["--judge", "dialogue@openai#n"]) == 2
    assert "holds those of: not recorded, anah_v2@openai#m, dialogue@openai#m" in capsys.readouterr().err.replace(
        "it holds", "holds"
    )
    assert command("cache list")(["--cache", tmp_path / "none.sqlite"]) == 2
    assert "no answer cache there" in capsys.readouterr().err
