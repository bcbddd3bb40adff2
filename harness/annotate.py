"""From responses to annotations: split, judge everything together, in order, with flat memory.

    python -m harness.annotate RESPONSES --documents QUESTIONS --judge SPEC --out ANNOTATIONS

The reference's eval.py as one command, without lm_eval: RESPONSES is JSONL with question and response (or lm_eval
samples), QUESTIONS any source `harness.data.anah` reads. Answers of the judge are cached as they come, so a killed run
started again asks only for the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from factuality_harness.harness.annotation import Annotation, Sentence
from factuality_harness.harness.annotators.base import Annotator, Claim
from factuality_harness.harness.annotators.spec import judge_spec, open_annotator
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.samples import stored_responses
from factuality_harness.harness.metrics import count, summarise
from factuality_harness.harness.sentences import STYLES, Style, split


@dataclass(frozen=True, slots=True)
class Item:
    """A response to annotate, with the reference document its sentences are held against."""

    question: str
    response: str
    document: str
    language: str
    topic: str = ""


def annotate(
    items: Iterable[Item],
    annotator: Annotator,
    *,
    style: Style | str = "anah",
    progress: bool = True,
    total: int | None = None,
) -> Iterator[Annotation]:
    """Annotate a stream of responses; yields one Annotation an item, in order.

    Sentences of many responses are judged together, about `annotator.window` at a time, and only that many are held:
    memory does not grow with the stream. An empty response gives an annotation without sentences. progress: a bar in
    sentences; total: expected number of items, for the bar's text. Raises what splitting and judging raise.
    """
    with tqdm(unit="sentence", desc=f"judge {annotator.spec}", disable=not progress) as bar:
        window: list[tuple[Item, list[Sentence]]] = []
        held = 0
        done = 0

        def flush() -> Iterator[Annotation]:
            nonlocal done
            claims = [
                Claim(item.question, s.text, item.document, item.language)
                for item, sentences in window
                for s in sentences
            ]
            judgements = iter(annotator.judge(claims, bar.update) if claims else ())
            for item, sentences in window:
                yield Annotation(
                    question=item.question,
                    response=item.response,
                    language=item.language,
                    judge=annotator.spec,
                    topic=item.topic,
                    sentences=tuple(sentences),
                    judgements=tuple(next(judgements) for _ in sentences),
                )
            done += len(window)
            bar.set_postfix_str(f"{done}{f'/{total}' if total else ''} responses", refresh=False)

        for item in items:
            sentences = split(item.response, item.language, style)
            window.append((item, sentences))
            held += len(sentences)
            if held >= annotator.window:
                yield from flush()
                window, held = [], 0
        yield from flush()


def items_of(responses: str | Path, questions: Iterable[anah.Question]) -> list[Item]:
    """Items for stored responses. Raises HarnessError counting the responses to questions that have no document."""
    known = {q.question: q for q in questions}
    stored = stored_responses(responses)
    unknown = [question for question in stored if question not in known]
    if unknown:
        raise HarnessError(
            f"{responses}: {len(unknown)} of {len(stored)} questions have no reference document, e.g. {unknown[0]!r}. "
            "Remove them, or give the documents they belong to."
        )
    return [
        Item(q, text, known[q].document, known[q].language, known[q].topic)
        for q, texts in stored.items()
        for text in texts
    ]


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.annotate", description=__doc__.split("\n")[0])
    parser.add_argument("responses", type=Path)
    parser.add_argument("--documents", required=True, help="questions and documents: a file, a folder, or `mini`")
    parser.add_argument("--judge", help="judge spec; default $HARNESS_JUDGE")
    parser.add_argument("--judge-args", type=json.loads, default={}, help="JSON object of judge and engine options")
    parser.add_argument("--style", choices=STYLES, default="anah")
    parser.add_argument("--out", type=Path, required=True, help="annotation JSONL, one row a response")
    args = parser.parse_args(argv)
    documents = anah.load_mini("all") if args.documents == "mini" else anah.load(args.documents)
    items = items_of(args.responses, documents)
    annotator = open_annotator(judge_spec(args.judge), args.judge_args)
    annotator.check()
    counts = []

    def rows() -> Iterator[dict]:
        for annotation in annotate(items, annotator, style=args.style, total=len(items)):
            counts.append(count([annotation]))
            yield annotation.to_dict()

    write_jsonl(args.out, rows())
    print(json.dumps({"judge": annotator.spec, "responses": len(items), **summarise(counts)}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
