"""From responses to annotations: split, judge everything together, in order, with flat memory.

    factuality annotate RESPONSES --questions SOURCE --judge SPEC --out ANNOTATIONS

The reference's eval.py as one command, without lm_eval: RESPONSES is JSONL with question and response (or lm_eval
samples), SOURCE any source of questions (`harness.questions`). Answers of the judge are cached as they come, so a
killed run started again asks only for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.annotators.base import Annotator, Claim
from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.commands import Judge, JudgeArgs, MaxUnparsed, Out, Questions, Split
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.dry_run import ASK, AskingOptions
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.samples import match, stored_responses
from factuality_harness.harness.io.write import json_text
from factuality_harness.harness.metrics import count, rate, summarise
from factuality_harness.harness.questions import load_questions
from factuality_harness.harness.sentences import Style, language_of, says_something
from factuality_harness.harness.sentences import split as split_sentences
from factuality_harness.harness.thinking import Spoken, set_thinking_aside
from factuality_harness.harness.unjudged import LIMIT, check_unjudged


@dataclass(frozen=True, slots=True)
class DocumentedResponse:
    """A response to annotate, with the reference document its sentences are checked against."""

    question: str
    response: str
    document: str
    language: str
    topic: str = ""


NOTHING = Judgement(Label.NOFACT)


def annotate(
    items: Iterable[DocumentedResponse],
    annotator: Annotator,
    *,
    style: Style | str = "anah",
    progress: bool = True,
    total: int | None = None,
) -> Iterator[Annotation]:
    """Annotate a stream of responses; yields one Annotation per item, in order.

    Sentences of many responses are judged together, about `annotator.window` at a time, and only that many are held:
    memory does not grow with the stream. Thinking is set aside, and no part of the annotation's response. A response in
    another language than asked is split as its own asks for. An empty response gives an annotation without sentences;
    pieces without a letter or digit are `nofact` unasked. progress: a bar in sentences; total: expected number of
    items, for the bar's text. Raises what splitting and judging raise.
    """
    with tqdm(unit="sentence", desc=f"judge {annotator.spec}", disable=not progress) as bar:
        window: list[tuple[DocumentedResponse, Spoken, str, list[Sentence]]] = []
        held = 0
        done = 0

        def flush() -> Iterator[Annotation]:
            nonlocal done
            claims = [
                Claim(item.question, s.plain, item.document, item.language, number)
                for number, (item, _, _, sentences) in enumerate(window)
                for s in sentences
                if says_something(s.text)
            ]
            judgements = iter(annotator.judge(claims, bar.update) if claims else ())
            for item, said, language, sentences in window:
                yield Annotation(
                    question=item.question,
                    response=said.text,
                    language=item.language,
                    judge=annotator.spec,
                    topic=item.topic,
                    sentences=tuple(sentences),
                    judgements=tuple(next(judgements) if says_something(s.text) else NOTHING for s in sentences),
                    extra=({"thinking_cut": True} if said.cut else {})
                    | ({"answer_language": language} if language != item.language else {}),
                )
            done += len(window)
            bar.set_postfix_str(f"{done}{f'/{total}' if total else ''} responses", refresh=False)

        for item in items:
            said = set_thinking_aside(item.response)
            language = language_of(said.text, item.language)
            sentences = split_sentences(said.text, language, style)
            window.append((item, said, language, sentences))
            held += len(sentences)
            if held >= annotator.window:
                yield from flush()
                window, held = [], 0
        yield from flush()


def items_of(responses: str | Path, questions: Iterable[Question]) -> list[DocumentedResponse]:
    """Items for stored responses. Raises HarnessError counting the responses to questions that have no document."""
    known = {(q.topic.strip(), q.question): q for q in questions}
    stored = stored_responses(responses)
    if not stored:
        raise HarnessError(f"{responses}: no responses in it")
    try:
        answered = {key: known[asked] for asked, key in match(known, stored).items()}
    except HarnessError as error:
        raise HarnessError(f"{responses}: {error}") from error
    unknown = [question or topic for topic, question in stored if (topic, question) not in answered]
    if unknown:
        raise HarnessError(
            f"{responses}: {len(unknown)} of {len(stored)} questions have no reference document, e.g. {unknown[0]!r}. "
            "Remove them, or give the documents they belong to."
        )
    return [
        DocumentedResponse(q.question, text, q.document, q.language, q.topic)
        for key, q in ((key, answered[key]) for key in stored)
        for text in stored[key]
    ]


def annotate_file(
    responses: Path,
    *,
    questions: Questions,
    split: Split = None,
    judge: Judge = None,
    judge_args: JudgeArgs | None = None,
    style: Style = "anah",
    max_unparsed: MaxUnparsed = LIMIT,
    asking: AskingOptions = ASK,
    out: Out,
) -> None:
    """Judge answers sentence by sentence, without lm_eval.

    Parameters
    ----------
    responses
        Rows of question and response, or lm_eval samples.
    style
        Rules to split sentences by.
    out
        Annotations, one JSON row per response; .manifest.json goes beside them.
    """
    spec = JudgeSpec.configured(judge)
    dry = asking.dry()
    annotator = spec.open(asking.options(judge_args), dry=dry)
    items = items_of(responses, load_questions(questions, split))
    if dry is not None:
        sentences = sum(len(a.sentences) for a in annotate(items, annotator, style=style, total=len(items)))
        dry.show(annotator.spec, responses=len(items), sentences=sentences)
        return
    annotator.check()
    counts = []

    def rows() -> Iterator[dict]:
        for annotation in annotate(items, annotator, style=style, total=len(items)):
            counts.append(count([annotation]))
            yield annotation.to_dict()

    write_jsonl(out, rows())
    about: dict[str, Any] = {
        "judge": annotator.spec,
        "responses": len(items),
        **summarise(counts),
        "judge_usage": usage_of(annotator),
    }
    write_manifest(f"{out}.manifest.json", manifest(judge_args=judge_args, style=style, **about))
    print(json_text(about, indent=2))
    if spec.fallible:
        check_unjudged(rate("unparsed")(counts), max_unparsed, "sentences")
