"""The command line of the preference pipeline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import Sampling
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json
from factuality_harness.harness.questions import load_questions
from factuality_harness.harness.sentences import STYLES
from factuality_harness.training.mask_dpo.pairs import Pair, write_pairs
from factuality_harness.training.preferences.annotate import annotate_samples
from factuality_harness.training.preferences.pairing import LABELS, RANKINGS, AnnotationFiles, Pairing, PairRules
from factuality_harness.training.preferences.sampling import sample


def _run_sample(args: argparse.Namespace) -> None:
    sampling = Sampling(
        max_tokens=args.max_tokens, temperature=args.temperature, top_p=args.top_p, top_k=args.top_k, seed=args.seed
    )
    questions = load_questions(args.questions)
    counts = sample(
        questions,
        args.engine,
        args.out,
        n=args.n,
        sampling=sampling,
        with_document=args.with_document,
        engine_args=args.engine_args,
    )
    print(json.dumps({"questions": len(questions), "samples": args.n, **counts}))


def _run_annotate(args: argparse.Namespace) -> None:
    judge = str(JudgeSpec.configured(args.judge))
    new = annotate_samples(args.samples, judge, args.out, judge_args=args.judge_args, style=args.style)
    print(json.dumps({"annotated": new, "out": str(args.out)}))


def _run_pair(args: argparse.Namespace) -> None:
    rules = PairRules(**{field.name: getattr(args, field.name) for field in fields(PairRules)})
    annotations = AnnotationFiles(tuple(args.annotations))
    chosen_from = None if args.chosen_from is None else AnnotationFiles((args.chosen_from,))
    inputs = annotations.files() + ([] if chosen_from is None else chosen_from.files())
    if args.out.suffix == ".gz" or args.out.is_dir() or args.out.resolve() in [path.resolve() for path in inputs]:
        raise HarnessError(f"{args.out}: pairs go to a plain file of their own; name another --out")
    pairing = Pairing(annotations, rules, chosen_from)

    def shown() -> Iterator[Pair]:
        yield from tqdm(pairing, desc="pair", unit="pair")

    pairs = shown()
    first = next(pairs)  # without any pair this fails, before a file of an earlier run is touched
    write_pairs(args.out, chain([first], pairs))
    report = pairing.report()
    write_manifest(f"{args.out}.manifest.json", manifest(inputs=inputs, rules=asdict(rules)))
    write_json(f"{args.out}.report.json", report)
    print(json.dumps(report, indent=2))


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object of options")
    return options


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.preferences", description="From questions to preference pairs: sample, annotate, pair."
    )
    steps = parser.add_subparsers(required=True)

    step = steps.add_parser("sample", help="several answers to every question")
    step.set_defaults(run=_run_sample)
    step.add_argument("--questions", required=True, help="mini:train, mini:test, mini:all, or ANAH-format rows")
    step.add_argument("--engine", required=True, help="openai:URL#MODEL, vllm:MODEL or hf:MODEL")
    step.add_argument("--engine-args", type=_options, default={}, help="JSON object of engine options")
    step.add_argument("--n", type=int, default=8, help="samples a question")
    step.add_argument("--temperature", type=float, default=0.8)
    step.add_argument("--top-k", type=int, default=40, help="0: no limit")
    step.add_argument("--top-p", type=float, default=1.0)
    step.add_argument("--max-tokens", type=int, default=512)
    step.add_argument("--seed", type=int, default=0, help="sample k has seed + k: take seeds at least --n apart")
    step.add_argument("--with-document", action="store_true", help="put the reference document into the prompt")
    step.add_argument("--out", type=Path, required=True)

    step = steps.add_parser("annotate", help="label every sentence of the samples")
    step.set_defaults(run=_run_annotate)
    step.add_argument("--samples", type=Path, required=True, help="samples, or lm_eval samples files")
    step.add_argument("--judge", help="judge spec; default $HARNESS_JUDGE")
    step.add_argument("--judge-args", type=_options, default={}, help="JSON object of judge and engine options")
    step.add_argument("--style", choices=STYLES, default="anah", help="of splitting into sentences")
    step.add_argument("--out", type=Path, required=True)

    step = steps.add_parser("pair", help="best against worst response of every question")
    step.set_defaults(run=_run_pair)
    step.add_argument(
        "--annotations",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="annotation files, or lm_eval samples files or folders; all samples of a question compete",
    )
    step.add_argument("--chosen-from", type=Path, help="take the chosen side from these annotations")
    step.add_argument("--min-gap", type=float, default=0.0, help="least difference of what --rank-by compares")
    step.add_argument("--pairs-per-question", type=int, default=1)
    step.add_argument("--max-chars", type=int, help="longest response")
    step.add_argument("--min-sentences", type=int, default=1, help="fewest sentences of a response")
    step.add_argument("--max-length-ratio", type=float, help="longer by shorter response, in characters")
    step.add_argument(
        "--rank-by", choices=RANKINGS, default="share", help="factscore: annotations by a FActScore judge"
    )
    step.add_argument("--labels", choices=LABELS, default="sentence", help="ablations: response, random")
    step.add_argument("--seed", type=int, default=0, help="of random pairs and labels")
    step.add_argument("--out", type=Path, required=True, help="pairs; .report.json and .manifest.json go beside it")

    args = parser.parse_args(argv)
    args.run(args)
