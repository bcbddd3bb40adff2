"""Export to the file formats of the ANAH reference code.

    factuality export SAMPLES --annotations OUT.jsonl --summary OUT.csv

SAMPLES is an lm_eval samples file of a judged task (or annotation JSONL). OUT.jsonl gets a row per sentence with the
keys question, response, sentence, annotation, language; a sentence without a verdict has annotation null, as in its
eval.py. OUT.csv has the reference's columns: ok, nofact, contradictory, unverifiable (percent of all sentences),
hallucination, total, and score = 1 - hallucination / total. That score differs from `factuality`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.samples import read_annotations, samples_file
from factuality_harness.harness.io.write import write_csv
from factuality_harness.harness.metrics import count, score_reference


def reference_rows(annotation: Annotation) -> Iterable[dict[str, Any]]:
    """Rows of the reference's annotation file, one per sentence."""
    for sentence, judgement in zip(annotation.sentences, annotation.judgements, strict=True):
        yield {
            "question": annotation.question,
            "response": annotation.response,
            "sentence": sentence.text,
            "annotation": None if judgement.label is Label.UNPARSED else judgement.label.value,
            "language": annotation.language,
        }


def reference_summary(annotations: Iterable[Annotation]) -> dict[str, str | int]:
    """The one row of the reference's summary CSV. Raises HarnessError when there is no sentence."""
    rows = [count([a]) for a in annotations]
    total = sum(r.total for r in rows)
    if not total:
        raise HarnessError("no sentence to summarise: all responses are empty")
    shares: dict[str, str | int] = {
        name: f"{100 * sum(getattr(r, name) for r in rows) / total:.2f}%"
        for name in ("ok", "nofact", "contradictory", "unverifiable")
    }
    wrong = sum(r.incorrect for r in rows)
    return shares | {"hallucination": wrong, "total": total, "score": f"{100 * score_reference(rows):.2f}"}


def export(samples: Path, *, annotations: Path | None = None, summary: Path | None = None) -> None:
    """Annotations in the file formats of the ANAH reference.

    Parameters
    ----------
    samples
        samples_*.jsonl of lm_eval or annotation JSONL, or a folder with one samples file.
    annotations
        JSONL to write, one row per sentence.
    summary
        CSV to write.
    """
    if not (annotations or summary):
        raise HarnessError("nothing to write: give --annotations, --summary or both")
    file = samples_file(samples)
    if annotations:
        rows = (row for a in read_annotations(file) for row in reference_rows(a))
        print(f"{annotations}: {write_jsonl(annotations, rows)} sentences")
    if summary:
        shares = reference_summary(read_annotations(file))
        write_csv(summary, [shares])
        print(f"{summary}: {shares}")
