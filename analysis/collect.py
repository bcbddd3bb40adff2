"""The results of a sweep in a few small files, to be committed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from factuality_harness.analysis.results import COLLECTED, MARGINS, Results, load_results, read_json, score_row
from factuality_harness.harness.commands import Out
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import write_manifest
from factuality_harness.harness.io.write import whole_file, write_json, write_text

MANIFEST = "manifest.json"
ABSOLUTE_PATH = re.compile(r"""(?<![\w./-])/(?!/)(?:[^\s/"']+/)+([^\s/"']+)""")


def collect(results: Results, out: Path) -> list[Path]:
    """Write the collected files of a store, after everything was read. Raises HarnessError when `out` is the folder the
    results come from, or cannot be written."""
    if out.resolve() == results.root.resolve():
        raise HarnessError(f"{out}: --out is the folder that is read; name another")
    found = {
        (cell.stages["score"], task): score
        for experiment in results.experiments.values()
        for cell in experiment.cells
        for task, score in cell.scores.items()
    }
    rows = [score_row(stage, score) for (stage, _), score in sorted(found.items())]
    rows = [row | {"judge": portable(row["judge"], results.root)} for row in rows]
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    experiments = {
        f"experiments/{name}.json": read_json(results.root / "experiments" / f"{name}.json")
        for name in sorted(results.experiments)
    }
    documents = {"stages.json": portable(results.stages, results.root), **experiments}
    manifest = results.root / MANIFEST
    made_with = read_json(manifest) if manifest.is_file() else None
    with whole_file(out / COLLECTED, "wb") as file:
        file.write(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    write_text(out / MARGINS, results.margins.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    for name, data in documents.items():
        write_json(out / name, data, indent=1)
    if made_with is not None:
        write_manifest(out / MANIFEST, portable(made_with, results.root))
    for old in (out / "experiments").glob("*.json"):
        if old.stem not in results.experiments:
            old.unlink()
    names = [COLLECTED, MARGINS, *documents, *([MANIFEST] if made_with is not None else [])]
    return [out / name for name in names]


def portable(data: Any, root: Path) -> Any:
    """The data without paths of this machine: those under the current folder are relative to it, others under the
    store to the store, and of all others the last part stays."""
    if isinstance(data, dict):
        return {key: portable(value, root) for key, value in data.items()}
    if isinstance(data, list):
        return [portable(value, root) for value in data]
    if not isinstance(data, str):
        return data
    for folder in (Path.cwd(), root.resolve()):
        data = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?:/|(?![\w.-]))", "", data)
    return ABSOLUTE_PATH.sub(r"\1", data)


def collect_results(*, results: Path, out: Out) -> None:
    """One small folder of everything a sweep measured, to be committed: the same bytes from the same results.

    Written are `results.jsonl.gz` (one row a score stage and task: metrics, counts a question, checksum of lm_eval's
    file), `experiments/*.json`, `stages.json` (settings, commands and seconds of every stage used), `margins.csv` and
    the sweep's manifest. `factuality tables`, `figures`, `compare` and `report` read that folder as they read a store.

    Parameters
    ----------
    results
        A sweep's store.
    out
        Folder to write to.
    """
    for path in collect(load_results(results), out):
        print(path)
