"""A readable page of judged responses: every sentence coloured by its label, evidence on hover.

    python -m harness.page SAMPLES --out page.html

One self-contained HTML file without scripts or network; model output is escaped. Labels differ by colour, by the kind
of underline and by a mark, so the page reads without colour too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from harness.annotation import Annotation, Judgement, Label, Sentence
from harness.errors import HarnessError, command
from harness.jsonl import read_jsonl
from harness.metrics import count, is_missing, summarise
from harness.samples import read_annotations, samples_file

MARKS = {
    Label.OK: "✓",
    Label.CONTRADICTORY: "✗",
    Label.UNVERIFIABLE: "?",
    Label.NOFACT: "·",
    Label.UNPARSED: "!",
}


@dataclass(frozen=True)
class _Shown:
    question: str
    topic: str
    language: str
    document: str
    parts: list[tuple[str, Sentence, Judgement]]


def _parts(annotation: Annotation) -> Iterator[tuple[str, Sentence, Judgement]]:
    """Sentences with the white space before each, so that the page shows the response as it was written."""
    done = 0
    for sentence, judgement in zip(annotation.sentences, annotation.judgements, strict=True):
        yield annotation.response[done : sentence.start], sentence, judgement
        done = sentence.end


def format_metric(name: str, value: float) -> str:
    """A metric as people write it: counts whole, rates and scores in percent, missing as n/a."""
    if is_missing(value):
        return "n/a"
    if name in ("correct", "incorrect"):
        return f"{value:.0f}"
    return f"{value:.2f}" if name == "sentences_per_response" else f"{100 * value:.1f} %"


def render(annotations: Sequence[Annotation], documents: dict[str, str], *, title: str, subtitle: str) -> str:
    """The page. documents: reference text by question."""
    counts = [count([a]) for a in annotations]
    template = Environment(autoescape=True).from_string(files("harness").joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        metrics=[(name, format_metric(name, value)) for name, value in summarise(counts).items()],
        labels=[label.value for label in Label],
        marks=MARKS,
        totals={label.value: sum(a.count(label) for a in annotations) for label in Label},
        annotations=[
            _Shown(a.question, a.topic, a.language, documents.get(a.question, ""), list(_parts(a))) for a in annotations
        ],
    )


def write_page(samples: Path, out: Path, title: str | None = None) -> None:
    """Page of one samples file. Raises HarnessError when it holds no judged response."""
    annotations = list(read_annotations(samples))
    if not annotations:
        raise HarnessError(f"{samples}: no judged response in it")
    documents = {
        doc["question"]: doc.get("document", "")
        for _, row in read_jsonl(samples)
        if isinstance(doc := row.get("doc"), dict) and "question" in doc
    }
    judges = ", ".join(sorted({a.judge for a in annotations}))
    page = render(
        annotations,
        documents,
        title=title or samples.stem,
        subtitle=f"{len(annotations)} responses, judged by {judges}. Hover or focus a sentence for its evidence.",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.page", description=__doc__.split("\n")[0])
    parser.add_argument("samples", type=Path, help="samples_*.jsonl of lm_eval, or a folder with one of them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--title")
    args = parser.parse_args(argv)
    write_page(samples_file(args.samples), args.out, args.title)
    print(args.out)


if __name__ == "__main__":
    sys.exit(main())
