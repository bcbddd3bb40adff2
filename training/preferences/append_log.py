"""Files that grow row by row, survive a kill, and are only continued with the settings they were begun with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import json_text, write_json


def settings_file(out: Path) -> Path:
    """Where the settings of a growing file lie."""
    return out.with_name(f"{out.name}.settings.json")


def resume(out: Path, settings: Mapping[str, Any]) -> int:
    """Ready `out` to be continued and return the number of rows it holds; a last line that a kill cut off is dropped.

    settings: plain data, stored beside a new file and compared for an old one. Raises HarnessError when they differ,
    when an old file has none, or when nothing can be written there.
    """
    if out.suffix == ".gz" or out.is_dir():
        raise HarnessError(f"{out}: rows are appended to a plain file; name one that is no folder and not .gz")
    settings = json.loads(json.dumps(settings))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not out.exists():
            write_json(settings_file(out), settings)
            return 0
        _compare(out, settings)
        return _drop_cut_line(out)
    except OSError as error:
        raise HarnessError(f"{out}: cannot be written ({error}); name another --out") from error


def _compare(out: Path, settings: Mapping[str, Any]) -> None:
    record = settings_file(out)
    try:
        begun = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise HarnessError(
            f"{out} exists, but {record.name} beside it cannot be read, so what made it is not known; "
            "remove it or name another --out"
        ) from error
    if begun != settings:
        changed = [key for key in settings if not isinstance(begun, dict) or begun.get(key) != settings[key]]
        raise HarnessError(
            f"{out} was made with other settings ({', '.join(changed) or 'fewer of them now'}); "
            "remove it or name another --out"
        )


def _drop_cut_line(out: Path) -> int:
    rows = whole = 0
    with out.open("rb+") as file:
        for line in file:
            if line.endswith(b"\n"):
                rows += 1
                whole += len(line)
        file.truncate(whole)
    return rows


def append(file: IO[str], row: Mapping[str, Any]) -> None:
    """Write a row through to the system, so that killing this process does not lose it."""
    file.write(json_text(row) + "\n")
    file.flush()
