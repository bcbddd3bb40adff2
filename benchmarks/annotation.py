"""Speed of annotation, measured and never asserted.

    python -m benchmarks.annotation concurrency   # dialogue in batches against one sentence, one turn at a time
    python -m benchmarks.annotation streaming     # 8 k, 82 k, 822 k sentences through an instant engine

`concurrency` runs both orders of work in one run on the same engine (vLLM's server on the CPU, started afresh for each
side), model, prompts and sentences, each with an empty answer cache, and compares labels. The first turn is constrained
to <Facts Present>: left alone, SmolLM2 finds no facts anywhere and every dialogue would end after one turn.
Results and manifests go to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.vllm_server import Server
from harness.annotate import Item, annotate
from harness.annotation import Judgement
from harness.annotators import dialogue
from harness.annotators.base import Claim
from harness.annotators.dialogue import DialogueAnnotator
from harness.data import anah
from harness.engines import AnswerCache, CachedEngine, Conversation, Reply, Sampling, open_engine
from harness.engines.base import Batch
from harness.manifest import manifest, write_manifest
from harness.models import fetch
from harness.sentences import split

OUT = Path("results/benchmarks")
SIZES = (8_220, 82_200, 822_000)
SENTENCES = 10  # a response


def corpus_claims(count: int) -> list[Claim]:
    """Sentences of the small corpus's English documents, each against its own document."""
    questions = {q.topic: q for q in anah.load_mini("all") if q.language == "en"}
    claims = [Claim(q.question, s.text, q.document, "en") for q in questions.values() for s in split(q.document, "en")]
    return claims[:count]


def _side(
    model: Path, claims: list[Claim], args: argparse.Namespace, *, batched: bool
) -> tuple[float, list[Judgement]]:
    with tempfile.TemporaryDirectory() as work:
        server = Server(model, Path(work) / "server.log", args.server_option)
        server.start()
        try:
            engine = open_engine(
                server.target,
                AnswerCache(Path(work) / "answers.sqlite"),
                concurrency=args.concurrency if batched else 1,
            )
            annotator = DialogueAnnotator(engine, guided=True, max_tokens=args.max_tokens)
            annotator.judge([Claim("Warm up?", "The sky is blue.", "The sky is blue. Grass is green.", "en")])
            begin = time.perf_counter()
            if batched:
                judgements = annotator.judge(claims)
            else:
                judgements = []
                for number, claim in enumerate(claims, 1):
                    judgements += annotator.judge([claim])
                    if not number % 20:
                        print(f"one at a time: {number} sentences, {time.perf_counter() - begin:.0f} s", flush=True)
            return time.perf_counter() - begin, judgements
        finally:
            server.kill()


def concurrency(args: argparse.Namespace) -> None:
    """Both orders of work, side by side."""
    dialogue.CHOICES["1_fact"]["en"] = ("<Facts Present>",)
    model = fetch("smollm2-135m", args.models / "smollm2-135m").resolve()
    claims = corpus_claims(args.sentences)
    rows: list[dict[str, Any]] = []
    answers: list[list[Judgement]] = []
    for name, batched in (("all together", True), ("one sentence, one turn at a time", False)):
        seconds, judgements = _side(model, claims, args, batched=batched)
        answers.append(judgements)
        rows.append({"order of work": name, "sentences": len(claims), "seconds": round(seconds, 1)})
        rows[-1]["sentences per second"] = round(len(claims) / seconds, 2)
        print(rows[-1], flush=True)
    ratio = rows[1]["seconds"] / rows[0]["seconds"]
    same = sum(a.label == b.label for a, b in zip(*answers, strict=True))
    evidence = sum(a.evidence == b.evidence for a, b in zip(*answers, strict=True))
    print(
        f"{ratio:.2f} times faster; {same} of {len(claims)} labels and {evidence} of {len(claims)} quotations identical"
    )
    _write(
        args.out / args.name,
        rows,
        faster=round(ratio, 2),
        identical_labels=same,
        identical_evidence=evidence,
        concurrency=args.concurrency,
        max_tokens=args.max_tokens,
        server_options=args.server_option,
        model=json.loads((model / "harness_source.json").read_text()),
    )


class InstantEngine:
    """Answers at once, by a fixed rule of the prompt: what is left is the harness's own cost."""

    identity = "instant"

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        for start in range(0, len(conversations), 512):
            part = conversations[start : start + 512]
            yield [(start + i, Reply(self._answer(c))) for i, c in enumerate(part)]

    def _answer(self, conversation: Conversation) -> str:
        turn = (len(conversation) + 1) // 2
        if turn == 2:
            return "The reference says so.<SEP>It says so twice."
        draw = hashlib.sha256(conversation[0]["content"].encode()).digest()[turn]
        if turn == 1:
            return "<Facts Present>" if draw < 230 else "<No Facts>"
        return ("<No Hallucination>", "<Contradictory>", "<Unverifiable>")[draw % 3]


def synthetic_items(sentences: int) -> Iterator[Item]:
    """Responses of ten sentences, no two alike; three questions a topic share its document of about 100 words."""
    for number in range(sentences // SENTENCES):
        topic = number // 3
        document = " ".join(f"Fact {i} of topic {topic} is value {topic * 31 + i}." for i in range(12))
        text = " ".join(f"Item {number} has property {i} equal to {number * 7 + i}." for i in range(SENTENCES))
        yield Item(f"What is known about item {number}?", text, document, "en", f"topic {topic}")


def _stream_once(sentences: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        engine = CachedEngine(InstantEngine(), AnswerCache(Path(work) / "answers.sqlite"))
        annotator = DialogueAnnotator(engine)
        begin = time.perf_counter()
        count = sum(
            len(a.sentences) for a in annotate(synthetic_items(sentences), annotator, total=sentences // SENTENCES)
        )
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "sentences": count,
        "judge calls": engine.asked,
        "seconds": round(seconds, 1),
        "sentences per second": round(count / seconds),
        "peak memory MiB": round(peak),
    }


def streaming(args: argparse.Namespace) -> None:
    """Time and peak memory against the length of the stream, each length in a process of its own."""
    if args.once:
        print(json.dumps(_stream_once(args.once)))
        return
    rows = []
    for size in SIZES:
        command = [sys.executable, "-m", "benchmarks.annotation", "streaming", "--once", str(size)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(answer.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    _write(args.out / args.name, rows, engine="instant", cache="SQLite on disk, empty at the start")


def _write(path: Path, rows: list[dict[str, Any]], **settings: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    command = "python -m benchmarks.annotation " + " ".join(sys.argv[1:])
    write_manifest(path.with_suffix(".manifest.json"), manifest(command=command, **settings))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("concurrency", help="needs vLLM (make bench-vllm)")
    one.add_argument("--sentences", type=int, default=300)
    one.add_argument("--concurrency", type=int, default=64)
    one.add_argument("--max-tokens", type=int, default=64, help="limit of the quoted passages")
    one.add_argument("--server-option", action="append", default=[], help="one more argument for the server")
    one.add_argument("--models", type=Path, default=Path("models"))
    one.set_defaults(run=concurrency)
    two = commands.add_parser("streaming")
    two.add_argument("--once", type=int, help=argparse.SUPPRESS)
    two.set_defaults(run=streaming)
    for command, name in ((one, "annotation_concurrency"), (two, "annotation_streaming")):
        command.add_argument("--out", type=Path, default=OUT)
        command.add_argument("--name", default=name, help="base name of the result files")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
