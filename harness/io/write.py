"""Files written whole: aside under a name of their own, then renamed, so that no reader meets half a file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from factuality_harness.harness.errors import HarnessError


@contextmanager
def whole_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write, text in UTF-8 or with mode `wb` bytes; `path` gets what was written when the block ends.

    Folders above it are made. When the block raises, `path` stays as it was and nothing is left beside it. Line ends
    are written as given. Every file that this package writes at once goes through here. Raises HarnessError when
    nothing can be written there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:40]}.{uuid4().hex[:12]}.partial")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open(mode.replace("w", "x"), **text)  # type: ignore[call-overload]
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with file:
            yield file
        try:
            partial.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> HarnessError:
    return HarnessError(f"{path}: cannot be written ({error.strerror or error}); name another place")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole."""
    with whole_file(path) as file:
        file.write(text)


def json_safe(value: Any) -> Any:
    """Plain data for JSON, which has no NaN and no infinity: None stands for a number that has no value."""
    if isinstance(value, dict):
        return {key: json_safe(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(data: Any, **options: Any) -> str:
    """Valid JSON, as all that is written or printed: null for a number that has no value. options: of `json.dumps`."""
    options = {"ensure_ascii": False, "allow_nan": False, **options}
    try:
        return json.dumps(data, **options)
    except ValueError:  # NaN or infinity somewhere, which is rare
        return json.dumps(json_safe(data), **options)


def write_json(path: str | Path, data: Any, **options: Any) -> None:
    """Write JSON whole, indented by 2 and with a line end. options: of `json.dumps`."""
    write_text(path, json_text(data, **{"indent": 2, **options}) + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the keys of the first as CSV, whole."""
    with whole_file(path) as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
