"""What a response costs: three turns a sentence (`dialogue`) against one sheet (`sheet`), on the same responses.

    python -m benchmarks.sheet tokens    # counted by a dry run with a tokenizer, no model
    python -m benchmarks.sheet server    # measured on vLLM's server on the CPU (environment of `make test-vllm`)

Documents are of one page: a document of the small corpus, filled up with those that follow to 500 words. A response is
the page's first sentences. Prompt tokens that a server with prefix caching has read before are counted beside the
whole: a cached token is cheaper, not free, and many hosted APIs cache only long prefixes. `tokens` is what `--dry-run`
counts: every sentence goes through all turns, and cached is what an earlier prompt began with. In `server` the first
turn is constrained to <Facts Present>, since SmolLM2 finds no facts anywhere and every dialogue would end after one
turn, and the sheet's labels are taken without quotations.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.vllm_server import Server
from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.annotators import dialogue
from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.annotators.sheet import SheetAnnotator
from factuality_harness.harness.data import anah
from factuality_harness.harness.dry_run import DryRun
from factuality_harness.harness.engines import AnswerCache, CachedEngine, OpenAIEngine, open_engine
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.models import fetch
from factuality_harness.harness.io.write import write_csv
from factuality_harness.harness.sentences import split

WORDS = 500  # of a page
LENGTHS = (1, 2, 3, 5, 8, 12, 20)  # sentences of a response
KINDS = (("dialogue", DialogueAnnotator), ("sheet", SheetAnnotator))


def pages() -> list[tuple[str, str]]:
    """(question, document of one page) for every English topic of the small corpus."""
    topics = {q.topic: q for q in anah.load_mini("all") if q.language == "en"}
    questions = list(topics.values())
    found = []
    for start, question in enumerate(questions):
        document, number = question.document, start
        while len(document.split()) < WORDS:
            number += 1
            document += " " + questions[number % len(questions)].document
        found.append((question.question, document))
    return found


def responses(count: int, sentences: int) -> list[DocumentedResponse]:
    """Responses of `sentences` sentences, each to a question and a page of its own."""
    return [
        DocumentedResponse(question, " ".join(s.text for s in split(page, "en")[:sentences]), page, "en")
        for question, page in pages()[:count]
    ]


def _row(name: str, items: Sequence[DocumentedResponse], usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    counted = {
        key: round(usage.get(key, 0)) for key in ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    }
    return {"judge": name, "responses": len(items), **more, **counted}


def _compared(rows: list[dict[str, Any]]) -> None:
    """Say beside each sheet how many times fewer tokens it takes than the dialogue before it."""
    three: dict[str, Any] = {}
    for row in rows:
        if row["judge"] == "dialogue":
            three = row
        fresh = [r["prompt_tokens"] - r["cached_tokens"] for r in (three, row)]
        row["times fewer prompt tokens"] = round(three["prompt_tokens"] / row["prompt_tokens"], 2)
        row["times fewer that are not cached"] = round(fresh[0] / fresh[1], 2)


def tokens(args: argparse.Namespace) -> None:
    """Responses of several lengths."""
    model = fetch("smollm2-135m", args.models / "smollm2-135m").resolve()
    rows = []
    for length in LENGTHS:
        items = responses(args.responses, length)
        for name, kind in KINDS:
            dry = DryRun(str(model))
            engine = dry.engine(CachedEngine(OpenAIEngine("http://127.0.0.1:9/v1#none"), None))
            list(annotate(items, kind(engine), progress=False))
            (calls,) = dry.calls
            usage = {"requests": calls.to_ask, "prompt_tokens": calls.prompt_tokens}
            usage |= {"cached_tokens": calls.shared_tokens, "completion_tokens": calls.completion_tokens}
            rows.append(_row(name, items, usage, sentences=length))
    _compared(rows)
    _write(args, rows, model=json.loads((model / "harness_source.json").read_text()))


def server(args: argparse.Namespace) -> None:
    """The same responses through vLLM's server, started afresh for each judge, the answer cache empty."""
    dialogue.CHOICES["1_fact"]["en"] = ("<Facts Present>",)
    model = fetch("smollm2-135m", args.models / "smollm2-135m").resolve()
    items = responses(args.responses, args.sentences)
    room = {"dialogue": {"max_tokens": 32}, "sheet": {"max_tokens": 96 * args.sentences, "quotes": False}}
    room["sheet"]["line_tokens"] = 96
    options = ["--enable-prompt-tokens-details", "--max-model-len", "4096", *args.server_option]
    rows = []
    labels = {}
    for name, kind in KINDS:
        with tempfile.TemporaryDirectory() as work:
            running = Server(model, Path(work) / "server.log", options)
            running.start()
            try:
                engine = open_engine(running.target, AnswerCache(Path(work) / "a.sqlite"), concurrency=args.concurrency)
                judge = kind(engine, stop_after=0, **room[name])
                begin = time.perf_counter()
                found: list[Annotation] = list(annotate(items, judge, total=len(items)))
                seconds = round(time.perf_counter() - begin, 1)
            finally:
                running.kill()
        sentences = sum(len(a.sentences) for a in found)
        labels[name] = {label.value: sum(a.count(label) for a in found) for label in Label}
        rows.append(
            _row(name, items, engine.usage(), sentences=args.sentences)
            | {"seconds": seconds, "sentences per second": round(sentences / seconds, 3)}
        )
        print(rows[-1], labels[name], flush=True)
    _compared(rows)
    source = json.loads((model / "harness_source.json").read_text())
    _write(args, rows, model=source, labels=labels, options=room, concurrency=args.concurrency, server_options=options)


def _write(args: argparse.Namespace, rows: list[dict[str, Any]], **settings: Any) -> None:
    for row in rows:
        print(row)
    write_csv((args.out / args.name).with_suffix(".csv"), rows)
    command = "python -m benchmarks.sheet " + " ".join(sys.argv[1:])
    write_manifest((args.out / args.name).with_suffix(".manifest.json"), manifest(command=command, **settings))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sheet", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("tokens")
    one.add_argument("--responses", type=int, default=20)
    one.set_defaults(run=tokens)
    two = commands.add_parser("server", help="needs vLLM (make bench-vllm)")
    two.add_argument("--responses", type=int, default=12)
    two.add_argument("--sentences", type=int, default=8)
    two.add_argument("--concurrency", type=int, default=16)
    two.add_argument("--server-option", action="append", default=[], help="one more argument for the server")
    two.set_defaults(run=server)
    for command, name in ((one, "sheet_tokens"), (two, "sheet_server")):
        command.add_argument("--models", type=Path, default=Path("models"))
        command.add_argument("--out", type=Path, default=Path("results/benchmarks"))
        command.add_argument("--name", default=name, help="base name of the result files")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
