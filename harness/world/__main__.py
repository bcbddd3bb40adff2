"""Questions of a world as ANAH rows, for sampling and for tools that read such files.

python -m harness.data.world BASE --part train --side near --out questions.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from factuality_harness.harness.errors import command
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.world.generate import PARTS, SIDES, world_of


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.data.world", description=str(__doc__).split("\n")[0])
    parser.add_argument("base", type=Path, help="folder of the world's base model")
    parser.add_argument("--part", choices=(*PARTS, "bio"), default="train")
    parser.add_argument("--side", choices=SIDES, default="all")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    questions = world_of(args.base).questions(args.part, args.side)
    write_jsonl(args.out, (q.to_dict() for q in questions))
    print(f"{args.out}: {len(questions)} questions")


if __name__ == "__main__":
    sys.exit(main())
