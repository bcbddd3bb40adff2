"""JSON Lines in and out, with errors that name file and row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import json_text, whole_file


def open_text(path: Path) -> IO[str]:
    """Open a UTF-8 text file for reading, a byte order mark at its start left out, through gzip when the name ends in
    `.gz`."""
    if not path.is_file():
        raise HarnessError(f"{path}: no such file")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def jsonl_files(path: str | Path) -> list[Path]:
    """A file, or all JSONL files (`.gz` too) below a folder, by name. Raises HarnessError for a folder without any."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.rglob("*") if p.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise HarnessError(f"{path}: holds no .jsonl or .jsonl.gz file")
    return files


def read_jsonl(path: str | Path, required: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(row number from 1, object)` for every non-blank line of a JSONL file (`.gz` too).

    Raises HarnessError naming file and row when a line is not a JSON object, lacks a key of `required`,
    is not UTF-8 or holds half a surrogate pair, or when the last line was cut off in the middle.
    """
    path = Path(path)
    number = 0
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    cut = not line.endswith("\n")
                    why = "the line is cut off (no line end): the file was truncated" if cut else error.msg
                    raise HarnessError(
                        f"{path}, row {number}: not valid JSON: {why}. Remove or complete the row."
                    ) from error
                if not isinstance(row, dict):
                    raise HarnessError(f"{path}, row {number}: expected an object, got {type(row).__name__}")
                if "\\ud" in line.lower() and _half_character(row):
                    raise HarnessError(
                        f"{path}, row {number}: holds half a character (a lone \\ud… escape), which is no text. "
                        "Fix or remove it."
                    )
                missing = [key for key in required if key not in row]
                if missing:
                    raise HarnessError(
                        f"{path}, row {number}: missing {', '.join(missing)}; the row has {', '.join(row)}"
                    )
                yield number, row
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HarnessError(f"{path}, after row {number}: unreadable ({error})") from error


def _half_character(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as UTF-8 JSONL, whole or not at all. Returns the count."""
    count = 0
    with whole_file(path) as out:
        for row in rows:
            out.write(json_text(row) + "\n")
            count += 1
    return count
