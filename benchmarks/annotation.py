"""Speed of annotation, measured and never asserted.

    python -m benchmarks.annotation concurrency   # dialogue in batches against one sentence, one turn at a time
    python -m benchmarks.annotation streaming     # 8 k, 82 k, 822 k sentences through an instant engine

`concurrency` runs the same sentences with the same prompts through the same engine and model (vLLM's server on the
CPU, started afresh for each side, the answer cache empty) and compares labels. The reference's order of work is one
sentence, one turn at a time; its prompts put the document behind the sentence, where prefix caching finds nothing to
share, so its side runs without; a third side gives it our prompts' shared prefix as well. The first turn is constrained
to <Facts Present>: left alone, SmolLM2 finds no facts anywhere and every dialogue would end after one turn.
Results and manifests go to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from benchmarks.vllm_server import Server
from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators import dialogue
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.data import anah
from factuality_harness.harness.engines import AnswerCache, CachedEngine, Conversation, Reply, Sampling, open_engine
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.models import fetch
from factuality_harness.harness.io.write import write_csv
from factuality_harness.harness.sentences import split

OUT = Path("results/benchmarks")
SIZES = (8_220, 82_200, 822_000)
SENTENCES = 10  # a response


@dataclass(frozen=True)
class Side:
    """One order of work. share: part of the sentences it runs over, since some sides take an hour."""

    name: str
    batched: bool
    prefix_caching: bool
    share: float = 1.0


SIDES = (
    Side("all together, prefix caching", batched=True, prefix_caching=True),
    Side("one sentence, one turn at a time", batched=False, prefix_caching=False),
    Side("one sentence, one turn at a time, prefix caching", batched=False, prefix_caching=True, share=1 / 3),
)


def corpus_claims(count: int) -> list[Claim]:
    """Claims in the shape of the ANAH questions: for a topic's three questions eight sentences each, one document.

    The sentences are those of the small corpus's English documents.
    """
    questions = [q for q in anah.load_mini("all") if q.language == "en"]
    claims = [Claim(q.question, s.text, q.document, "en") for q in questions for s in split(q.document, "en")[:8]]
    return claims[:count]


Timed = tuple[float, list[Judgement]]


def _run(side: Side, model: Path, claims: list[Claim], args: argparse.Namespace) -> Timed:
    """Seconds and judgements. Each finished piece of work is written down with its time, so a killed run goes on."""
    log = args.out / "partial" / f"{args.name}-{SIDES.index(side)}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    done = [row for _, row in read_jsonl(log)][: len(claims)] if log.exists() else []
    judgements = [Judgement(Label(j["label"]), tuple(j["evidence"])) for row in done for j in row["judgements"]]
    seconds = sum(row["seconds"] for row in done)
    if len(judgements) == len(claims):
        return seconds, judgements
    options = args.server_option + ([] if side.prefix_caching else ["--no-enable-prefix-caching"])
    with tempfile.TemporaryDirectory() as work, log.open("a", encoding="utf-8") as out:
        server = Server(model, Path(work) / "server.log", options)
        server.start()
        try:
            concurrency = args.concurrency if side.batched else 1
            engine = open_engine(server.target, AnswerCache(Path(work) / "answers.sqlite"), concurrency=concurrency)
            annotator = DialogueAnnotator(engine, guided=True, max_tokens=args.max_tokens)
            annotator.judge([Claim("Warm up?", "The sky is blue.", "The sky is blue. Grass is green.", "en")])
            left = claims[len(judgements) :]
            for piece in tqdm([left] if side.batched else [[claim] for claim in left], desc=side.name, mininterval=20):
                begin = time.perf_counter()
                answers = annotator.judge(piece)
                row = {"seconds": time.perf_counter() - begin, "judgements": [asdict(j) for j in answers]}
                out.write(json.dumps(row) + "\n")
                out.flush()
                seconds += row["seconds"]
                judgements += answers
        finally:
            server.kill()
    return seconds, judgements


def concurrency(args: argparse.Namespace) -> None:
    """All sides, one after the other, each on a fresh server with an empty cache."""
    dialogue.CHOICES["1_fact"]["en"] = ("<Facts Present>",)
    model = fetch("smollm2-135m", args.models / "smollm2-135m").resolve()
    claims = corpus_claims(args.sentences)
    rows: list[dict[str, Any]] = []
    ours: list[Judgement] = []
    for side in SIDES:
        limit = len(claims) if side.batched else round(side.share * args.alone)
        part = claims[:limit]
        seconds, judgements = _run(side, model, part, args)
        ours = ours or judgements
        speed = len(part) / seconds
        row: dict[str, Any] = {"order of work": side.name, "sentences": len(part), "seconds": round(seconds, 1)}
        row["sentences per second"] = round(speed, 3)
        row["all together is faster by"] = round(rows[0]["sentences per second"] / speed, 2) if rows else 1.0
        row["labels as all together"] = sum(a.label == b.label for a, b in zip(ours, judgements, strict=False))
        row["quotations as all together"] = sum(
            a.evidence == b.evidence for a, b in zip(ours, judgements, strict=False)
        )
        rows.append(row)
        print(row, flush=True)
        _write(
            args.out / args.name,
            rows,
            concurrency=args.concurrency,
            max_tokens=args.max_tokens,
            server_options=args.server_option,
            model=json.loads((model / "harness_source.json").read_text()),
            labels={label.value: sum(j.label is label for j in ours) for label in Label},
        )


class InstantEngine:
    """Answers at once, by a fixed rule of the prompt: what is left is the harness's own cost."""

    settings: ClassVar[dict[str, Any]] = {}
    remote = False
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


def synthetic_items(sentences: int) -> Iterator[DocumentedResponse]:
    """Responses of ten sentences, no two alike; three questions a topic share its document of about 100 words."""
    for number in range(sentences // SENTENCES):
        topic = number // 3
        document = " ".join(f"Fact {i} of topic {topic} is value {topic * 31 + i}." for i in range(12))
        text = " ".join(f"Item {number} has property {i} equal to {number * 7 + i}." for i in range(SENTENCES))
        yield DocumentedResponse(f"What is known about item {number}?", text, document, "en", f"topic {topic}")


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
    write_csv(path.with_suffix(".csv"), rows)
    command = "python -m benchmarks.annotation " + " ".join(sys.argv[1:])
    write_manifest(path.with_suffix(".manifest.json"), manifest(command=command, **settings))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("concurrency", help="needs vLLM (make bench-vllm)")
    one.add_argument("--sentences", type=int, default=300)
    one.add_argument("--alone", type=int, default=300, help="sentences for one at a time, which takes seconds each")
    one.add_argument("--concurrency", type=int, default=64)
    one.add_argument("--max-tokens", type=int, default=32, help="limit of the quoted passages")
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
