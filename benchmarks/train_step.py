"""Our training step against TRL's DPOTrainer: tokens per second and peak memory on the same pairs, model and batch.

    python -m benchmarks.train_step --labels FOLDER [--pairs 16] [--rounds 2]

Pairs: FActScore's human-labelled biographies, the more factual of ChatGPT's and InstructGPT's answer chosen, a sentence
wrong if it has an NS fact. Sides: TRL with its defaults (gradient checkpointing, live reference), TRL with precomputed
reference, the same without gradient checkpointing, and ours (masked). Each measurement is a process of its own, sides
in turn; tokens are the pairs' real ones, the same for every side. The one-off reference pass is timed apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_csv

OUT = Path("results/benchmarks/train_step")
SIDES: dict[str, dict[str, Any]] = {
    "TRL, defaults": {"precompute_ref_log_probs": False, "gradient_checkpointing": True},
    "TRL, precomputed reference": {"precompute_ref_log_probs": True, "gradient_checkpointing": True},
    "TRL, precomputed, no checkpointing": {"precompute_ref_log_probs": True, "gradient_checkpointing": False},
    "ours": {},
}


def biography_pairs(labels: Path, count: int, out: Path) -> None:
    """The first `count` topics both systems answered, in the official format."""
    from benchmarks.reference_mask_error import BIOGRAPHIES, labelled_response
    from factuality_harness.harness.annotation import Label
    from factuality_harness.harness.data.biographies import load_labelled
    from factuality_harness.training.mask_dpo.pairs import Pair, write_pairs

    answers: dict[str, list[Any]] = {}
    for system in BIOGRAPHIES:
        for row in load_labelled(labels / f"{system}.jsonl").rows:
            response = labelled_response(row)
            if response is not None:
                answers.setdefault(row.question, []).append(response)
    pairs = []
    for question, found in answers.items():
        if len(found) == 2:
            found.sort(key=lambda r: r.labels.count(Label.OK) / len(r.labels))
            if Label.OK in found[1].labels and Label.CONTRADICTORY in found[0].labels:
                pairs.append(Pair(({"role": "user", "content": question},), found[1], found[0]))
    if len(pairs) < count:
        raise HarnessError(f"{labels}: {len(pairs)} pairs, {count} wanted")
    write_pairs(out, pairs[:count])


def measure(side: str, pairs: Path, model_name: str, batch: int, scratch: Path) -> dict[str, Any]:
    """One epoch of one side in this process: seconds of its steps (the first one left out), of the reference pass, and
    the peak memory in GiB."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    from factuality_harness.training.mask_dpo.batches import to_dataset
    from factuality_harness.training.mask_dpo.config import MaskDPOConfig
    from factuality_harness.training.mask_dpo.masks import mask_pair
    from factuality_harness.training.mask_dpo.pairs import read_pairs
    from factuality_harness.training.mask_dpo.trainer import MaskDPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.steps: list[float] = []

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.steps.append(time.perf_counter() - self.start)

    tokenizer = AutoTokenizer.from_pretrained(model_name)
    rows = list(read_pairs(pairs))
    settings: dict[str, Any] = {
        "output_dir": str(scratch / "run"),
        "per_device_train_batch_size": batch,
        "max_steps": 1 + -(-len(rows) // batch),
        "learning_rate": 1e-6,
        "max_length": 1024,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
    clock = Clock()
    begin = time.perf_counter()
    trainer: DPOTrainer
    if side == "ours":
        masked = [m for m in (mask_pair(p, tokenizer, max_length=1024) for p in rows) if m is not None]
        trainer = MaskDPOTrainer(
            model=model,
            args=MaskDPOConfig(**settings, reference_cache=str(scratch / "cache")),
            train_dataset=to_dataset(masked),
            processing_class=tokenizer,
            callbacks=[clock],
        )
    else:
        data = [
            {
                "prompt": list(p.prompt),
                "chosen": [{"role": "assistant", "content": p.chosen.text}],
                "rejected": [{"role": "assistant", "content": p.rejected.text}],
            }
            for p in rows
        ]
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(**settings, **SIDES[side]),
            train_dataset=Dataset.from_list(data),
            processing_class=tokenizer,
            callbacks=[clock],
        )
    prepared = time.perf_counter() - begin
    trainer.train()
    whole = [mask_pair(p, tokenizer, masking="none", max_length=1024) for p in rows]
    tokens = sum(len(m.chosen.input_ids) + len(m.rejected.input_ids) for m in whole if m is not None)
    return {
        "side": side,
        "pairs": len(rows),
        "tokens": tokens,
        # The steps after the first cover one epoch or its equal in batches.
        "seconds": sum(clock.steps[1:]) / len(clock.steps[1:]) * len(rows) / batch,
        "before_training": prepared,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Run all sides in turn and write the table with its manifest."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--labels", type=Path, help="folder of ChatGPT.jsonl and InstructGPT.jsonl")
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="measure one side on --file and print it (used by the command)")
    parser.add_argument("--file", type=Path)
    args = parser.parse_args()
    if args.side:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measure(args.side, args.file, args.model, args.batch, Path(scratch))))
        return
    if args.labels is None:
        parser.error("--labels is needed")
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        biography_pairs(args.labels, args.pairs, file)
        for _ in range(args.rounds):
            for side in SIDES:
                command = [sys.executable, "-m", "benchmarks.train_step", "--side", side, "--file", str(file)]
                command += ["--model", args.model, "--batch", str(args.batch)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise HarnessError(f"{side}: {done.stderr[-2000:]}")
                found[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
                print(found[side][-1], flush=True)
    speed = {side: statistics.median(r["tokens"] / r["seconds"] for r in rows) for side, rows in found.items()}
    table = [
        {
            "side": side,
            "tokens_per_second": round(speed[side], 1),
            "ours_is_faster_by": round(speed["ours"] / speed[side], 2),
            "slowest": round(min(r["tokens"] / r["seconds"] for r in rows), 1),
            "fastest": round(max(r["tokens"] / r["seconds"] for r in rows), 1),
            "before_training_s": round(statistics.median(r["before_training"] for r in rows), 1),
            "peak_gib": round(statistics.median(r["peak_gib"] for r in rows), 2),
        }
        for side, rows in found.items()
    ]
    write_csv(OUT.with_suffix(".csv"), table)
    settings = {"pairs": args.pairs, "batch": args.batch, "rounds": args.rounds, "model": Path(args.model).name}
    inputs = [args.labels / f"{name}.jsonl" for name in ("ChatGPT", "InstructGPT")]
    size = f"--pairs {args.pairs} --batch {args.batch} --rounds {args.rounds}"
    line = f"python -m benchmarks.train_step --labels FOLDER {size}"
    write_manifest(OUT.with_suffix(".manifest.json"), manifest(inputs=inputs, command=line, **settings))
    for row in table:
        print(row)


if __name__ == "__main__":
    main()
