"""From responses to annotations: split, judge everything together, in order, with flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from harness.annotation import Annotation, Sentence
from harness.annotators.base import Annotator, Claim
from harness.sentences import Style, split


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
                Claim(item.question, s.text, item.document, item.language) for item, sentences in window for s in sentences
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
