"""A label for every sentence of the samples, from any annotator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Annotator
from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.dry_run import DryRun
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.evaluator import FactScorer, open_scorer
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.samples import sample_rows
from factuality_harness.harness.metrics import ratio
from factuality_harness.harness.sentences import LANGUAGES
from factuality_harness.harness.thinking import set_thinking_aside
from factuality_harness.harness.unjudged import LIMIT, check_unjudged
from factuality_harness.training.preferences.append_log import append, resume
from factuality_harness.training.preferences.facts import annotate_facts

_TEXTS = ("question", "response", "document", "language")


def read_samples(path: str | Path) -> Iterator[tuple[DocumentedResponse, int]]:
    """Samples and their numbers: rows of `sample`, or lm_eval samples files (a folder of them too) whose documents hold
    question, document and language, one sample per response. One at a time.

    Raises HarnessError naming file and row for a row that is neither, or that lacks its document.
    """
    for row in sample_rows(path):
        if "resps" not in row.data:
            yield _item(row.data, row.where), _number(row.data, row.where)
            continue
        for k, response in enumerate(row.responses()):
            yield _item({**row.doc, "response": response}, row.where), k


def _item(row: dict[str, Any], where: str) -> DocumentedResponse:
    missing = [key for key in _TEXTS if not isinstance(row.get(key), str) or (key != "response" and not row[key])]
    if missing:
        raise HarnessError(f"{where}: missing {', '.join(missing)}; samples come from `factuality sample`")
    if row["language"] not in LANGUAGES:
        raise HarnessError(f"{where}: language is {row['language']!r}; only {' and '.join(LANGUAGES)} are supported")
    return DocumentedResponse(
        row["question"], row["response"], row["document"], row["language"], str(row.get("topic") or "")
    )


def _number(row: dict[str, Any], where: str) -> int:
    number = row.get("sample", 0)
    if not isinstance(number, int):
        raise HarnessError(f"{where}: sample is {number!r}, not a number")
    return number


def annotate_samples(
    samples: Path,
    spec: str,
    out: Path,
    *,
    judge_args: dict[str, Any] | None = None,
    style: str = "anah",
    max_unparsed: float = LIMIT,
    progress: bool = True,
    dry: DryRun | None = None,
) -> int:
    """Write an annotation per sample to `out` (`Annotation.to_dict`, the sample's number in `extra`), in their order.
    A judge of facts (`factscore@…`) checks them against the sample's document.

    Rows the file already holds are kept, so a rerun goes on where it stopped. Memory is bounded by the annotator's
    window: the samples are read twice, first to find a bad row before any work is spent. What the judge was asked goes
    into a manifest beside `out`. Returns how many rows are new. dry: only count there what the rest would ask.
    Raises HarnessError as `read_samples` does, for no samples at all, for a file made of other samples or settings, and
    at the end when more than `max_unparsed` of the new rows' sentences have no verdict.
    """
    judge = JudgeSpec.parse(spec)
    annotator: Annotator | FactScorer
    if judge.of_facts:
        annotator = open_scorer(spec, open_knowledge({}), options=judge_args, dry=dry, style=style, progress=progress)
    else:
        annotator = judge.open(judge_args, dry=dry)
    annotator.check()
    total = sum(1 for _ in read_samples(samples))
    if not total:
        raise HarnessError(f"{samples}: holds no sample")
    # Options of the engine (concurrency, memory, …) decide no label and may change between runs.
    options = judge.label_options(judge_args or {})
    settings: dict[str, Any] = {"judge": annotator.spec, "judge_args": options, "style": style}
    done = 0 if dry is not None and not out.exists() else resume(out, settings)
    if done:
        _belong(out, done, samples, total)

    def left() -> Iterator[tuple[DocumentedResponse, int]]:
        return islice(read_samples(samples), done, None)

    numbers = (k for _, k in left())
    items = (item for item, _ in left())
    if isinstance(annotator, FactScorer):
        annotations = annotate_facts(items, annotator)
    else:
        annotations = annotate(items, annotator, style=style, progress=progress, total=total - done)
    if dry is not None:
        judged = sum(len(annotation.sentences) for annotation in annotations)
        dry.show(annotator.spec, responses=total - done, sentences=judged, already_labelled=done)
        return 0
    sentences = unparsed = 0
    with out.open("a", encoding="utf-8") as file:
        for annotation, k in zip(annotations, numbers, strict=True):
            sentences += len(annotation.sentences)
            unparsed += annotation.count(Label.UNPARSED)
            append(file, replace(annotation, extra={**annotation.extra, "sample": k}).to_dict())
    about = {**settings, "new_rows": total - done, "judge_usage": usage_of(annotator)}
    write_manifest(f"{out}.manifest.json", manifest(inputs=[samples] if samples.is_file() else [], **about))
    if judge.fallible:
        check_unjudged(ratio(unparsed, sentences), max_unparsed, "sentences")
    return total - done


def _belong(out: Path, done: int, samples: Path, total: int) -> None:
    remedy = f"does not belong to {samples}; remove {out} or name another --out"
    if done > total:
        raise HarnessError(f"{out}, row {total + 1}: {remedy}")
    for (number, row), (item, k) in zip(read_jsonl(out), read_samples(samples), strict=False):
        extra = row.get("extra")
        kept = (row.get("question"), row.get("response"), extra.get("sample") if isinstance(extra, dict) else None)
        if kept != (item.question, set_thinking_aside(item.response).text, k):
            raise HarnessError(f"{out}, row {number}: {remedy}")
