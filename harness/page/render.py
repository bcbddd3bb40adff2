"""A readable page of judged responses: every sentence coloured by its label, evidence on hover.

    factuality page SAMPLES --out page.html
    factuality page BEFORE AFTER --names base mask-dpo --questions 1 --out page.html

With several samples files the answers to the same question stand under each other.
One self-contained HTML file without scripts or network; model output is escaped. Labels differ by colour, by the kind
of underline and by a mark, so the page reads without colour too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from jinja2 import Environment

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.commands import Out, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.samples import QuestionKey, sample_rows, samples_file
from factuality_harness.harness.io.write import write_text
from factuality_harness.harness.metrics import count, is_missing, summarise

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
    source: str
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
    return f"{value:.2f}" if "_per_response" in name else f"{100 * value:.1f} %"


def render_page(
    annotations: Sequence[Annotation],
    documents: Sequence[str],
    *,
    title: str,
    subtitle: str,
    sources: Sequence[str] | None = None,
) -> str:
    """The page. documents: reference text of each annotation. sources: who gave each response, when not all are one's;
    the summary of them all is left out then."""
    counts = [count([a]) for a in annotations]
    template = Environment(autoescape=True).from_string(files(__package__).joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        metrics=[(name, format_metric(name, value)) for name, value in summarise(counts).items()]
        if sources is None
        else [],
        labels=[label.value for label in Label],
        marks=MARKS,
        totals={label.value: sum(a.count(label) for a in annotations) for label in Label},
        annotations=[
            _Shown(a.question, a.topic, a.language, document, source, list(_parts(a)))
            for a, document, source in zip(annotations, documents, sources or [""] * len(annotations), strict=True)
        ],
    )


def _read(samples: Path) -> list[tuple[Annotation, str]]:
    found = [(a, str(row.doc.get("document") or "")) for row in sample_rows(samples) for a in row.annotations()]
    if not found:
        raise HarnessError(f"{samples}: no judged response in it")
    return found


def _subtitle(annotations: Sequence[Annotation]) -> str:
    judges = ", ".join(sorted({a.judge for a in annotations}))
    return f"{len(annotations)} responses, judged by {judges}. Hover or focus a sentence for its evidence."


def write_samples_page(samples: Path, out: Path, title: str | None = None) -> None:
    """Page of one samples file. Raises HarnessError when it holds no judged response."""
    annotations, documents = zip(*_read(samples), strict=True)
    page = render_page(annotations, documents, title=title or samples.stem, subtitle=_subtitle(annotations))
    write_text(out, page)


def write_comparison(samples: Mapping[str, Path], out: Path, title: str, questions: int | None = None) -> None:
    """Page of several samples files by name: answers to the same question under each other.

    questions: only the first N. Raises HarnessError for a file without judged responses, or when no question is in all.
    """
    found: dict[str, dict[QuestionKey, list[tuple[Annotation, str]]]] = {}
    for name, path in samples.items():
        found[name] = {}
        for annotation, document in _read(path):
            found[name].setdefault((annotation.topic, annotation.question), []).append((annotation, document))
    first, *others = found.values()
    shared = [key for key in first if all(key in other for other in others)][:questions]
    if not shared:
        raise HarnessError(f"no question is answered in all of {', '.join(map(str, samples.values()))}")
    shown = [(*answer, name) for key in shared for name in found for answer in found[name][key]]
    annotations, documents, sources = zip(*shown, strict=True)
    write_text(out, render_page(annotations, documents, title=title, subtitle=_subtitle(annotations), sources=sources))


def page(
    *samples: Path,
    names: Annotated[list[str] | None, Several] = None,
    questions: int | None = None,
    title: str | None = None,
    out: Out,
) -> None:
    """One page of responses, every sentence coloured by its label.

    Parameters
    ----------
    samples
        samples_*.jsonl of lm_eval, or a folder with one of them; of several models, for a comparison.
    names
        Names of the models, for several samples files.
    questions
        With several samples files: only the first N questions.
    title
        Of the page.
    out
        The page to write.
    """
    if not samples:
        raise HarnessError("nothing to show: name a samples file")
    paths = [samples_file(path) for path in samples]
    if len(paths) == 1:
        write_samples_page(paths[0], out, title)
    else:
        names = names or [str(path) for path in samples]
        if len(set(names)) != len(paths):
            raise HarnessError(f"{len(paths)} samples files need as many different --names, not {len(set(names))}")
        write_comparison(dict(zip(names, paths, strict=True)), out, title or " / ".join(names), questions)
    print(out)
