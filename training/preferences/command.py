"""The commands from questions to preference pairs: sample, label, pair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from tqdm import tqdm

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.commands import (
    Flag,
    Judge,
    JudgeArgs,
    MaxUnparsed,
    Options,
    Out,
    Questions,
    Several,
    Split,
)
from factuality_harness.harness.dry_run import ASK, AskingOptions
from factuality_harness.harness.engines import Sampling
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import json_text, write_json
from factuality_harness.harness.questions import load_questions
from factuality_harness.harness.sentences import Style
from factuality_harness.harness.unjudged import LIMIT
from factuality_harness.training.mask_dpo.pairs import Pair, write_pairs
from factuality_harness.training.preferences.annotate import annotate_samples
from factuality_harness.training.preferences.pairing import AnnotationFiles, Pairing, PairRules
from factuality_harness.training.preferences.sampling import sample

RULES = PairRules()


def sample_answers(
    *,
    questions: Questions,
    split: Split = None,
    engine: str,
    engine_args: Options | None = None,
    n: int = 8,
    temperature: float = 0.8,
    top_k: int = 40,
    top_p: float = 1.0,
    max_tokens: int = 512,
    with_document: Flag = False,
    seed: int = 0,
    out: Out,
) -> None:
    """Several answers to every question; run again, it goes on where it stopped.

    Parameters
    ----------
    engine
        Engine and model: openai:URL#MODEL, vllm:MODEL or hf:MODEL.
    engine_args
        JSON object of engine options.
    n
        Samples per question.
    temperature
        0 is greedy.
    top_k
        0: no limit.
    top_p
        1: no limit.
    max_tokens
        Longest answer.
    with_document
        Put the reference document into the prompt.
    seed
        Sample k has seed + k: take seeds at least N apart.
    out
        Samples, one JSON row each.
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    asked = load_questions(questions, split)
    counts = sample(
        asked, engine, out, n=n, sampling=sampling, with_document=with_document, engine_args=engine_args or {}
    )
    print(json.dumps({"questions": len(asked), "samples": n, **counts}))


def label(
    samples: Path,
    *,
    judge: Judge = None,
    judge_args: JudgeArgs | None = None,
    style: Style = "anah",
    max_unparsed: MaxUnparsed = LIMIT,
    asking: AskingOptions = ASK,
    out: Out,
) -> None:
    """Label every sentence of sampled answers; run again, it goes on where it stopped.

    Parameters
    ----------
    samples
        Samples of `factuality sample`, or lm_eval samples files.
    style
        Rules to split sentences by.
    out
        Annotations, one JSON row per sample; .manifest.json goes beside them.
    """
    spec = str(JudgeSpec.configured(judge))
    dry = asking.dry()
    options = asking.options(judge_args)
    new = annotate_samples(samples, spec, out, judge_args=options, style=style, max_unparsed=max_unparsed, dry=dry)
    if dry is None:
        print(json.dumps({"annotated": new, "out": str(out)}))


def pair(
    *,
    annotations: Annotated[list[Path], Several],
    chosen_from: Path | None = None,
    rules: Annotated[PairRules, Parameter(name="*")] = RULES,
    out: Out,
) -> None:
    """Best against worst answer of every question.

    Parameters
    ----------
    annotations
        Annotation files, or lm_eval samples files or folders; all samples of a question compete.
    chosen_from
        Take the chosen side from these annotations.
    out
        Pairs; .report.json and .manifest.json go beside them.
    """
    rejected = AnnotationFiles(tuple(annotations))
    chosen = None if chosen_from is None else AnnotationFiles((chosen_from,))
    inputs = rejected.files() + ([] if chosen is None else chosen.files())
    if out.suffix == ".gz" or out.is_dir() or out.resolve() in [path.resolve() for path in inputs]:
        raise HarnessError(f"{out}: pairs go to a plain file of their own; name another --out")
    pairing = Pairing(rejected, rules, chosen)

    def shown() -> Iterator[Pair]:
        yield from tqdm(pairing, desc="pair", unit="pair")

    pairs = shown()
    first = next(pairs)  # without any pair this fails, before a file of an earlier run is touched
    write_pairs(out, chain([first], pairs))
    report = pairing.report()
    write_manifest(f"{out}.manifest.json", manifest(inputs=inputs, rules=asdict(rules)))
    write_json(f"{out}.report.json", report)
    print(json_text(report, indent=2))
