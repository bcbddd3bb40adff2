"""Rows of whatever people keep questions, answers and pages in: JSONL, one JSON list, CSV, TSV, Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import TABLES, open_text, read_jsonl

_LONGEST = 2**31 - 1  # characters of a CSV field; the csv module's own limit is less than a long document


def read_rows(path: str | Path, required: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(row number from 1, row)` by the end of the file's name: CSV and TSV (all values are text, the head is no
    row), Parquet, and everything else as `read_jsonl` does. `.gz` too, but for Parquet.

    Raises HarnessError naming file and row for what cannot be read, and for columns of `required` that are not there.
    """
    path = Path(path)
    if not path.name.endswith(TABLES):
        yield from read_jsonl(path, required)
        return
    for number, row in _parquet(path) if path.suffix == ".parquet" else _separated(path):
        if missing := [key for key in required if key not in row]:
            raise HarnessError(f"{path}, row {number}: missing {', '.join(missing)}; the row has {', '.join(row)}")
        yield number, row


def _separated(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST)
    number = 0
    try:
        with open_text(path) as lines:
            head = lines.readline()
            mark = "\t" if ".tsv" in path.suffixes else max(",;\t", key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=mark), [])]
            if len({*columns}) < len(columns) or "" in columns:
                raise HarnessError(f"{path}: its first line does not name every column once: {head.strip()[:200]}")
            for number, values in enumerate(filter(None, csv.reader(lines, delimiter=mark, strict=True)), 1):
                if len(values) != len(columns):
                    raise HarnessError(
                        f"{path}, row {number}: {len(values)} values for {len(columns)} columns "
                        f"({', '.join(columns)}); put quotes around values that hold separators or line ends"
                    )
                yield number, dict(zip(columns, values, strict=True))
    except (UnicodeError, EOFError, OSError, csv.Error) as error:
        raise HarnessError(f"{path}, after row {number}: unreadable ({error})") from error


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        raise HarnessError(f"{path}: no such file")
    try:
        rows = (row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except (OSError, pyarrow.ArrowException) as error:
        raise HarnessError(f"{path}: not a readable Parquet file ({error})") from error
