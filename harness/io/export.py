"""Export to the file formats of the ANAH reference code.

    python -m harness.export SAMPLES --annotations OUT.jsonl --summary OUT.csv

SAMPLES is an lm_eval samples file of a judged task (or annotation JSONL). OUT.jsonl gets a row a sentence with the keys
question, response, sentence, annotation, language; a sentence without a verdict has annotation null, as in
its eval.py. OUT.csv has the reference's columns: ok, nofact, contradictory, unverifiable (percent
of all sentences), hallucination, total, and score = 1 - hallucination / total. That score differs from `factuality`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.samples import read_annotations, samples_file
from factuality_harness.harness.io.write import write_csv
from factuality_harness.harness.metrics import count, score_reference


def reference_rows(annotation: Annotation) -> Iterable[dict[str, Any]]:
    """Rows of the reference's annotation file, one a sentence."""
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


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.export", description=__doc__.split("\n")[0])
    parser.add_argument("samples", type=Path, help="samples_*.jsonl of lm_eval, or a folder with one of them")
    parser.add_argument("--annotations", type=Path, help="JSONL to write, one row a sentence")
    parser.add_argument("--summary", type=Path, help="CSV to write")
    args = parser.parse_args(argv)
    if not (args.annotations or args.summary):
        parser.error("nothing to write: give --annotations, --summary or both")
    samples = samples_file(args.samples)
    if args.annotations:
        rows = (row for a in read_annotations(samples) for row in reference_rows(a))
        print(f"{args.annotations}: {write_jsonl(args.annotations, rows)} sentences")
    if args.summary:
        summary = reference_summary(read_annotations(samples))
        write_csv(args.summary, [summary])
        print(f"{args.summary}: {summary}")


if __name__ == "__main__":
    sys.exit(main())
