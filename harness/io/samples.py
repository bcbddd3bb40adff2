"""Reading stored responses and annotations, from lm_eval's samples files and plain JSONL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import Annotation, load_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl


def samples_files(path: str | Path) -> list[Path]:
    """A samples file, or all of them below a folder. Raises HarnessError when there is none."""
    path = Path(path)
    files = sorted(path.rglob("samples_*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise HarnessError(f"{path}: holds no samples_*.jsonl; run lm_eval with --log_samples --output_path")
    return files


def samples_file(path: str | Path) -> Path:
    """The one samples file at or below `path`. Raises HarnessError when there are several."""
    files = samples_files(path)
    if len(files) > 1:
        raise HarnessError(f"{path} holds {len(files)} samples files; name one: {', '.join(map(str, files))}")
    return files[0]


def read_annotations(path: str | Path) -> Iterator[Annotation]:
    """Annotations of a samples file (every response of every question), or of a plain annotation JSONL.

    Raises HarnessError naming file and row for a row that holds none, say of a --predict_only run.
    """
    for number, row in read_jsonl(path):
        texts = row.get("filtered_resps")
        try:
            if texts is None:
                yield Annotation.from_dict(row)
            else:
                for text in texts:
                    yield from load_annotations(text)
        except HarnessError as error:
            hint = " (a --predict_only run is not judged; replay it)" if row.get("filter") == "none" else ""
            raise HarnessError(f"{path}, row {number}: {error}{hint}") from error


def stored_responses(path: str | Path) -> dict[str, list[str]]:
    """Responses by question (for biographies: also by topic), in file order.

    Raises HarnessError naming file and row for a row that is neither a sample nor a question with its response.
    """
    path = Path(path)
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not paths:
        raise HarnessError(f"{path}: holds no .jsonl file")
    found: dict[str, list[str]] = defaultdict(list)
    for file in paths:
        for number, row in read_jsonl(file):
            question, responses = _row(row, f"{file}, row {number}")
            found[question.strip()].extend(responses)
    return found


def _row(row: dict[str, Any], where: str) -> tuple[str, list[str]]:
    doc = row.get("doc", row)
    question = doc.get("question") or doc.get("topic") if isinstance(doc, dict) else None
    if "resps" in row:
        resps = row["resps"]
        responses = resps[0] if isinstance(resps, list) and resps and isinstance(resps[0], list) else resps
    else:
        responses = [row.get("response", row.get("output"))]
    if not isinstance(question, str) or not isinstance(responses, list):
        raise HarnessError(
            f"{where}: neither an lm_eval sample (`doc`, `resps`) nor a row with `question` and `response`"
        )
    if not all(isinstance(r, str) for r in responses):
        raise HarnessError(f"{where}: the response to {question!r} is not text")
    return question, responses
