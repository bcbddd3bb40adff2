"""FActScore of a file of responses, as JSON on standard output.

python -m harness.factscore --responses FILE --judge SPEC --knowledge PATH [--out FILE]
python -m harness.factscore --human-labels FILE
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotators.spec import judge_spec
from factuality_harness.harness.data.biographies import entity_of, load_labelled, question_about
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.factscore.abstain import DETECTORS
from factuality_harness.harness.factscore.evaluator import MISSING, STYLE, Item, open_scorer
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.factscore.plan import plan
from factuality_harness.harness.factscore.retrieval import PASSAGES
from factuality_harness.harness.factscore.score import GAMMA, counts_of_labels, summarise
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.sentences import LANGUAGES, STYLES


def load_responses(path: str | Path, language: str = "en") -> list[Item]:
    """Responses from JSONL: FActScore rows (`topic`, `output`) or rows `question` and/or `topic`, `response`.

    Without a topic it is the entity of "Tell me a bio of <entity>.", and for other questions the question
    itself. A row's `language` goes before the argument. Raises HarnessError naming file and row.
    """
    items = [_item(row, f"{path}, row {number}", language) for number, row in read_jsonl(path)]
    if not items:
        raise HarnessError(f"{path}: no responses in it")
    return items


def _item(row: Mapping[str, Any], where: str, language: str) -> Item:
    def text(*keys: str) -> str | None:
        for key in keys:
            if row.get(key) is not None:
                if not isinstance(row[key], str):
                    raise HarnessError(f"{where}: `{key}` must be text, not {type(row[key]).__name__}")
                return row[key]
        return None

    topic, question = text("topic"), text("question", "input")
    response = text("response", "output")
    if response is None:
        raise HarnessError(f"{where}: no `response` or `output`; the row has {', '.join(row)}")
    if not topic and not question:
        raise HarnessError(f"{where}: neither `topic` nor `question`; facts are checked against the topic's page")
    topic = topic or entity_of(question or "") or question or ""
    spoken = text("language") or language
    if spoken not in LANGUAGES:
        raise HarnessError(f"{where}: language {spoken!r} is not supported; use one of: {', '.join(LANGUAGES)}")
    return Item(topic, question or question_about(topic), response, spoken)


def _options(text: str | None) -> dict[str, Any]:
    try:
        options = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise HarnessError(f"--judge-options: not valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise HarnessError("--judge-options: expected an object, as in '{\"concurrency\": 64}'")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.factscore", description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--responses", type=Path, metavar="JSONL", help="rows {topic, output} or {question, response}")
    source.add_argument("--human-labels", type=Path, metavar="JSONL", help="score FActScore's labelled file; no judge")
    parser.add_argument(
        "--judge",
        help="factscore@openai:URL#MODEL, factscore@hf:MODEL, factscore@vllm:MODEL, lexical; $HARNESS_JUDGE",
    )
    parser.add_argument("--judge-options", metavar="JSON", help="for its engine, say '{\"concurrency\": 64}'")
    parser.add_argument("--extractor", metavar="ENGINE", help="another engine that extracts facts, say hf:MODEL")
    parser.add_argument("--knowledge", metavar="SOURCE", help="SQLite database, JSONL {title, text} or hf:REPO[@split]")
    parser.add_argument("--passage-tokenizer", metavar="MODEL", help="cut JSONL pages by its tokens, not by words")
    parser.add_argument("--retrieval", default="bm25", metavar="bm25|dense:MODEL")
    parser.add_argument("--passages", type=int, default=PASSAGES, metavar="K", help="passages for each fact")
    parser.add_argument("--missing", default="error", choices=MISSING, help="what to do about topics without a page")
    parser.add_argument("--gamma", type=float, default=GAMMA, help="facts below which an answer is penalised; 0: never")
    parser.add_argument("--abstain-detector", default="generic", choices=DETECTORS)
    parser.add_argument("--demos", type=Path, help="demonstrations: FActScore's JSON, or JSONL {sentence, facts}")
    parser.add_argument("--sentence-style", default=STYLE, choices=STYLES)
    parser.add_argument("--strict", action="store_true", help="no verdict where the answer has neither true nor false")
    parser.add_argument("--language", default="en", choices=LANGUAGES, help="of rows that name none")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="answer cache (default: under $HARNESS_CACHE)")
    parser.add_argument("--out", type=Path, metavar="JSONL", help="write every fact with its verdict")
    parser.add_argument("--dry-run", action="store_true", help="count calls and tokens, ask nothing")
    parser.add_argument("--tokenizer", metavar="MODEL", help="count the tokens of the dry run with it")
    return parser


def _show(values: Mapping[str, Any]) -> None:
    """Valid JSON has no NaN: a number that does not exist is null."""
    clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
    print(json.dumps(clean, ensure_ascii=False, indent=2))


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks. Raises HarnessError."""
    if args.human_labels is not None:
        labelled = load_labelled(args.human_labels)
        metrics = summarise([counts_of_labels(row) for row in labelled.rows], args.gamma)
        left_out = {"sentences_without_labels": labelled.without_facts, "bad_labels": labelled.bad_facts}
        _show({**metrics, **left_out, "judge": f"human labels of {args.human_labels.name}"})
        return
    if args.knowledge is None:
        raise HarnessError("--knowledge is needed: a SQLite database, a JSONL file {title, text} or hf:REPO[@split]")
    items = load_responses(args.responses, args.language)
    scorer = open_scorer(
        judge_spec(args.judge),
        open_knowledge(args.knowledge, tokenizer=args.passage_tokenizer),
        retrieval=args.retrieval,
        k=args.passages,
        demos=args.demos,
        extractor=args.extractor,
        strict=args.strict,
        cache=AnswerCache(args.cache) if args.cache is not None else None,
        options=_options(args.judge_options),
        abstain_detector=args.abstain_detector,
        style=args.sentence_style,
        missing=args.missing,
    )
    if args.dry_run:
        _show(plan(scorer, items, tokenizer=args.tokenizer).to_dict())
        return
    scorer.check()
    results = scorer.score(items)
    if args.out is not None:
        try:
            write_jsonl(args.out, (r.to_dict() for r in results))
        except OSError as error:
            raise HarnessError(
                f"{args.out}: cannot be written ({error.strerror}). The answers are in the cache: "
                "the same command with another --out asks nothing again."
            ) from error
    _show({**summarise([r.counts() for r in results], args.gamma), **scorer.settings()})


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    run(_parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
