"""The card of a model judge behind a real vLLM server on this machine's CPU.

    .venv-vllm/bin/python -m benchmarks.judge_card --biographies FOLDER --unit sentence --out DIR [--limit-topics N]

Starts the server (environment of `make test-vllm`), runs `factuality judge-card` with a judge over it and stops the
server. Everything but --judge-kind, --model and --log is an option of that command. Interrupted? The same
command asks only for what is not in the answer cache yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.vllm_server import Server
from factuality_harness.harness.commands import entry
from factuality_harness.harness.judging.card import judge_card


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge_card", description=__doc__.split("\n")[0])
    parser.add_argument("--judge-kind", choices=("dialogue", "factscore"), default="dialogue")
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"), help="Hugging Face folder")
    parser.add_argument("--log", type=Path, default=Path("out/judge_card_server.log"), help="the server's output")
    args, rest = parser.parse_known_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    server = Server(args.model, args.log)
    server.start()
    try:
        options = ["--judge-args", '{"guided": true}'] if args.judge_kind == "dialogue" else []
        return entry(judge_card, ["--judge", f"{args.judge_kind}@{server.target}", *options, *rest])
    finally:
        server.kill()


if __name__ == "__main__":
    sys.exit(main())
