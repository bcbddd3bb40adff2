"""JSON Lines in and out, with errors that name file and row."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import json_text, whole_file

_MARKS = {  # UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
TABLES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")
"""Ends of the names of files that `harness.io.tables` reads besides JSONL."""


def open_text(path: Path) -> IO[str]:
    """Open a text file for reading: UTF-8, or what its byte order mark says, which is left out; through gzip when its
    name or its first bytes say so."""
    if not path.is_file():
        raise HarnessError(f"{path}: no such file")

    with path.open("rb") as data:
        zipped = path.suffix == ".gz" or data.read(2) == b"\x1f\x8b"
    opened: Callable[..., Any] = gzip.open if zipped else open
    with opened(path, "rb") as data:
        start = data.read(4)
    if (start[:1] != b"\0" and b"\0" in start[:4] and not start.startswith(tuple(_MARKS))) or start[:2] == b"\0{":
        raise HarnessError(f"{path}: UTF-16 or UTF-32 without a byte order mark, or no text; write it as UTF-8")
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
    return cast(IO[str], opened(path, "rt", encoding=encoding))


def jsonl_files(path: str | Path) -> list[Path]:
    """A file, or all JSONL files (`.gz` too) below a folder, by name; where there is none, its tables.

    Raises HarnessError for a folder without any.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    tables = [p for p in found if p.name.endswith(TABLES)]
    files = [p for p in found if p.name.endswith((".jsonl", ".gz")) and not p.name.endswith((*TABLES, ".tar.gz"))]
    if not (files or tables):
        others = f"; it holds {', '.join(p.name for p in found[:3])}" if found else ", and nothing else"
        raise HarnessError(f"{path}: holds no .jsonl or .jsonl.gz file{others}")
    return files or tables


def read_jsonl(path: str | Path, required: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(row number from 1, object)` for every non-blank line of a JSONL file (`.gz` too); of a file that is one
    JSON list, its entries. A comma that ends a line is read over.

    Raises HarnessError naming file and row when a line is not a JSON object, lacks a key of `required`,
    is not UTF-8 or holds half a surrogate pair, or when the last line was cut off in the middle.
    """
    path = Path(path)
    number = 0
    try:
        with open_text(path) as lines:
            for number, row in _list(lines, path) if _is_list(path) else _lines(lines, path):
                if not isinstance(row, dict):
                    raise HarnessError(f"{path}, row {number}: expected an object, got {type(row).__name__}")
                missing = [key for key in required if key not in row]
                if missing:
                    raise HarnessError(
                        f"{path}, row {number}: missing {', '.join(missing)}; the row has {', '.join(map(str, row))}"
                    )
                yield number, row
    except (UnicodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HarnessError(f"{path}, after row {number}: unreadable ({error}); write it as UTF-8") from error


def _is_list(path: Path) -> bool:
    with open_text(path) as lines:
        first = next((line for line in lines if line.strip()), "").strip()
    return first.startswith("[") and not _holds_no_object(first)


def _holds_no_object(line: str) -> bool:
    """Whether a line is a whole list of something else than objects: a row that is none."""
    try:
        entries = json.loads(line)
        return bool(entries) and not any(isinstance(entry, dict) for entry in entries)
    except ValueError:
        return False


def _list(lines: IO[str], path: Path) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.load(lines)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "an entry"
        raise HarnessError(
            f"{path}, {where}: a JSON list that cannot be read: {error}. Is there a comma too many, or is it cut off?"
        ) from error
    for number, row in enumerate(rows, 1):
        _refuse_half_characters(row, f"{path}, row {number}")
        yield number, row


def _lines(lines: IO[str], path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        try:
            row = json.loads(text[:-1] if text.endswith("},") else text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise HarnessError(f"{path}, row {number}: not valid JSON: {_why(line, number, str(error))}") from error
        if "\\ud" in text.lower():
            _refuse_half_characters(row, f"{path}, row {number}")
        yield number, row


def _why(line: str, number: int, message: str) -> str:
    text = line.strip()
    if number == 1 and not text.startswith(("{", "[")):
        return "this is no JSONL. If it is a table, name it FILE.csv or FILE.tsv"
    if number == 1 and len(text) < 3:
        return "one JSON value over several lines; write one object a line, or a list of objects"
    if re.search(r",\s*[}\]]", text):
        return f"{message.partition(': line')[0]}. Remove the comma before the closing bracket."
    cut = not line.endswith("\n")
    why = "the line is cut off (no line end): the file was truncated" if cut else message.partition(": line")[0]
    return f"{why}. Remove or complete the row."


def _refuse_half_characters(row: Any, where: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise HarnessError(
            f"{where}: holds half a character (a lone \\ud… escape), which is no text. Fix or remove it."
        ) from error


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as UTF-8 JSONL, whole or not at all. Returns the count."""
    count = 0
    with whole_file(path) as out:
        for row in rows:
            out.write(json_text(row) + "\n")
            count += 1
    return count
