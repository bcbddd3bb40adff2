"""Files are written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.write import whole_file, write_csv, write_json, write_text

Writer = Callable[[Path], object]


@pytest.mark.parametrize(
    ("write", "content"),
    [
        (lambda path: write_text(path, "é\r\n字\n"), "é\r\n字\n"),
        (lambda path: write_json(path, {"a": "é"}), '{\n  "a": "é"\n}\n'),
        (lambda path: write_json(path, [path.suffix], indent=None), '[".new"]\n'),
        (lambda path: write_csv(path, [{"a": 1, "b": "x,y"}, {"a": 2, "b": ""}]), 'a,b\n1,"x,y"\n2,\n'),
        (lambda path: write_jsonl(path, [{"a": 1}]), '{"a": 1}\n'),
    ],
)
def test_a_new_file_in_a_new_folder(tmp_path: Path, write: Writer, content: str) -> None:
    path = tmp_path / "one" / "two" / "file.new"
    write(path)
    assert path.read_bytes().decode() == content
    assert [p.name for p in path.parent.iterdir()] == ["file.new"]


def _cut_short() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, {"a": object()}),
        lambda path: write_csv(path, [{"a": 1}, {"b": 1}]),
        lambda path: write_jsonl(path, _cut_short()),
        lambda path: write_text(path, "half a character: \ud83d"),
    ],
)
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises((TypeError, ValueError, KeyboardInterrupt)):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    both = Barrier(2)

    def write(letter: str) -> None:
        with whole_file(path) as file:
            both.wait(timeout=30)  # open at the same time
            for _ in range(1000):
                file.write(letter * 100)
            file.flush()

    writers = [Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 100_000, "b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/below", "folder"])
def test_where_nothing_can_be_written_the_error_names_the_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(HarnessError, match=f"{place}: cannot be written"):
        write_text(tmp_path / place, "text")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "whole", "text")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_written_is_json_with_null_where_a_number_has_no_value(tmp_path: Path) -> None:
    data = {"a": [1.5, float("nan")], "b": {"c": float("-inf")}}
    write_json(tmp_path / "a.json", data)
    write_jsonl(tmp_path / "a.jsonl", [data])
    for name in ("a.json", "a.jsonl"):
        found = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        assert found == {"a": [1.5, None], "b": {"c": None}}
