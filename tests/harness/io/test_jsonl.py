"""JSON Lines: errors name file and row, files are never half written."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_rows_with_their_numbers(tmp_path: Path, name: str) -> None:
    data = '{"a": "é字"}\n\n  \n{"a": 2}'.encode()  # no line end at the very end is fine for a complete row
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert list(read_jsonl(tmp_path / name, ["a"])) == [(1, {"a": "é字"}), (4, {"a": 2})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    data = '{"a": "é"}\n'.encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert list(read_jsonl(tmp_path / name)) == [(1, {"a": "é"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": 2, "b": "cut of', "row 2: .*cut off .no line end"),
        (b'{"a": 1}\n{"a": oops}\n{"a": 3}\n', "row 2: not valid JSON: Expecting value"),
        (b'{"a": 1}\n[1]\n', "row 2: expected an object, got list"),
        (b'{"a": 1}\n{"b": 1, "c": 2}\n', "row 2: missing a; the row has b, c"),
        (b'{"a": 1}\n{"a": "\\ud83d is half a face"}\n', "row 2: holds half a character"),
        (b'{"a": 1}\n{"\\uDE00": "", "a": 1}\n', "row 2: holds half a character"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "unreadable .*utf-8"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content)
    with pytest.raises(HarnessError, match=f"bad.jsonl, .*{message}"):
        list(read_jsonl(file, ["a"]))


def test_whole_surrogate_pairs_are_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": "\\ud83d\\ude00"}\n')
    assert [row for _, row in read_jsonl(file)] == [{"a": "😀"}]


@pytest.mark.parametrize("damage", ["cut", "changed", "plain"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    data = gzip.compress(b"".join(b'{"a": %d}\n' % (i * 7919) for i in range(5000)))
    middle = len(data) // 2
    changed = data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 20]) + data[middle + 20 :]
    file = tmp_path / "bad.jsonl.gz"
    file.write_bytes({"cut": data[:middle], "changed": changed, "plain": b'{"a": 1}\n'}[damage])
    with pytest.raises(HarnessError, match=r"bad.jsonl.gz, .*row"):
        list(read_jsonl(file))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"none.jsonl: no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_write_and_read_back(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": "é字\n\u2028"}, {"b": [1, None]}]
    assert write_jsonl(tmp_path / "new" / "a.jsonl", rows) == 2
    assert [row for _, row in read_jsonl(tmp_path / "new" / "a.jsonl")] == rows


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_jsonl(file, [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(file, [{"a": 2}, {"a": object()}])
    assert file.read_text() == '{"a": 1}\n'
