"""Rows as people have them: read where the meaning is sure, else one line that names file and row."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import jsonl_files
from factuality_harness.harness.io.tables import read_rows

TWO = '{"a": "é", "b": "字"}\n{"a": "x", "b": "y"}\n'
ROWS = [{"a": "é", "b": "字"}, {"a": "x", "b": "y"}]
READ = {
    "crlf.jsonl": TWO.replace("\n", "\r\n").encode(),
    "mark.jsonl": TWO.encode("utf-8-sig"),
    "utf16.jsonl": TWO.encode("utf-16"),
    "utf16be.jsonl": b"\xfe\xff" + TWO.encode("utf-16-be"),
    "utf32.jsonl": TWO.encode("utf-32"),
    "utf16.jsonl.gz": gzip.compress(TWO.encode("utf-16")),
    "zipped_without_saying_so.jsonl": gzip.compress(TWO.encode()),
    "commas.jsonl": TWO.replace("}\n", "},\n").encode(),
    "list.jsonl": f"[{TWO.strip().replace('}', '},', 1)}]".encode(),
    "list.json": f"\n [\n{TWO.strip().replace('}', '},', 1)}\n]\n".encode(),
    "a.csv": "a,b\né,字\nx,y\n".encode(),
    "marked.csv": "a,b\r\né,字\r\nx,y\r\n".encode("utf-8-sig"),
    "utf16.csv": "a,b\né,字\nx,y\n".encode("utf-16"),
    "semicolons.csv": "a;b\né;字\n\nx;y\n".encode(),
    "a.tsv": "a\tb\né\t字\nx\ty\n".encode(),
    "a.csv.gz": gzip.compress('a,b\né,"字"\nx,y'.encode()),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_sure_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READ[name])
    assert [row for _, row in read_rows(tmp_path / name, ["a"])] == ROWS


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [*enumerate(ROWS, 1)]


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    assert list(read_rows(tmp_path / name)) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"a,b\n1,2\n", r"a.jsonl, row 1: .*no JSONL.*FILE.csv"),
        ("a.jsonl", b'{\n  "a": 1\n}\n', r"row 1: .*over several lines; write one object a line"),
        ("a.jsonl", b'{"a": 1}\n{"a": 1,}\n', r"row 2: .*Remove the comma before the closing bracket"),
        ("a.json", b'[{"a": 1},]', r"a.json, line 1: .*comma too many"),
        ("a.json", b'[{"a": 1}, {"a"', r"a.json, line 1: .*cut off"),
        ("a.json", b'[{"a": 1}, 2]', r"row 2: expected an object, got int"),
        ("a.jsonl", b"[1]\n", r"row 1: expected an object, got list"),
        ("a.jsonl", TWO.encode("utf-16-le"), r"UTF-16 .*without a byte order mark.*UTF-8"),
        ("a.jsonl", TWO.encode("utf-16")[:-1], r"after row \d: unreadable"),
        ("a.json", b'[{"a": "\\ud83d"}]', r"row 1: holds half a character"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"row 2: 3 values for 2 columns \(a, b\)"),
        ("a.csv", b"a,b\n1\n", r"row 1: 1 values for 2 columns"),
        ("a.csv", b"a,a\n1,2\n", r"does not name every column once"),
        ("a.csv", b"b,c\n1,2\n", r"row 1: missing a; the row has b, c"),
        ("a.csv", b'a\n"x\n', r"unreadable"),
        ("a.parquet", b"PAR1", r"a.parquet: not a readable Parquet file"),
    ],
)
def test_what_is_not_sure_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match=message) as told:
        list(read_rows(tmp_path / name, ["a"]))
    assert name in str(told.value)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"no .jsonl .*nothing else"):
        jsonl_files(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HarnessError, match=r"it holds notes\.txt"):
        jsonl_files(tmp_path)
    (tmp_path / "t.csv").touch()
    assert [p.name for p in jsonl_files(tmp_path)] == ["t.csv"]
    for name in ("b.jsonl.gz", "c.gz", "a.jsonl", "d.tar.gz", "e.csv.gz", ".hidden.jsonl"):
        (tmp_path / name).touch()
    assert [p.name for p in jsonl_files(tmp_path)] == ["a.jsonl", "b.jsonl.gz", "c.gz"]


def test_a_long_field(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"a\n{'x' * 200_000}\n")
    assert math.prod(len(row["a"]) for _, row in read_rows(tmp_path / "a.csv")) == 200_000
