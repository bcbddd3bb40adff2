"""The demo: the whole loop in the fact world, by the commands a user would type.

    python -m training.demo [--out results/demo/world] [--seed 0]

World and base model, sampled answers, labels, pairs, DPO and Mask-DPO, lm_eval on topics that training did not see;
then a table with intervals, a figure, and a page of coloured sentences before and after. Finished parts are kept in
--work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from harness.errors import HarnessError, command
from harness.manifest import manifest, write_manifest
from harness.page import write_comparison
from harness.samples import samples_file

RECIPES = Path(__file__).parent / "recipes" / "world"
TASKS = {
    "near, greedy": "world_factuality_near",
    "near, sampled": "world_factuality_near_sampled",
    "far, greedy": "world_factuality_far",
    "far, sampled": "world_factuality_far_sampled",
}
MODELS = {"base": "base model", "dpo": "DPO", "mask_dpo": "Mask-DPO"}


def step(*arguments: object) -> None:
    """Run `python -m …` in a process of its own, shown first. Raises HarnessError when it fails."""
    words = [str(a) for a in arguments]
    print("\n$ python -m", " ".join(words), flush=True)
    if subprocess.run([sys.executable, "-m", *words]).returncode:
        raise HarnessError(f"{words[0]} failed; its message stands above")


def loop(work: Path, base: Path, seed: int) -> None:
    """Everything up to lm_eval's result files, each part only if it is not there yet."""
    step("harness.data.world.base", "--out", base, "--seed", seed)
    step("harness.data.world", base, "--part", "train", "--side", "near", "--out", work / "questions.jsonl")
    sampling = ["--n", 3, "--temperature", 1.0, "--top-k", 40, "--max-tokens", 64, "--seed", seed]
    engine = ["--engine", f"hf:{base}", "--engine-args", '{"batch_size": 128}']
    preferences = "training.preferences"
    samples, labels, pairs = work / "samples.jsonl", work / "annotations.jsonl", work / "pairs.jsonl"
    step(preferences, "sample", "--questions", work / "questions.jsonl", *engine, *sampling, "--out", samples)
    step(preferences, "annotate", "--samples", samples, "--judge", "world", "--out", labels)
    step(preferences, "pair", "--annotations", labels, "--out", pairs)
    for method in ("dpo", "mask_dpo"):
        if not (work / method / "manifest.json").exists():
            given = ["--model_name_or_path", base, "--pairs", pairs, "--output_dir", work / method, "--seed", seed]
            step("training.mask_dpo", "--config", RECIPES / f"{method}.yaml", *given)
    for model in MODELS:
        results = work / "lm_eval" / model
        if not list(results.rglob("results_*.json")):
            folder = base if model == "base" else work / model
            given = ["--model_args", f"pretrained={folder}", "--metadata", json.dumps({"world": str(base)})]
            given += ["--batch_size", 128, "--device", "cpu", "--apply_chat_template", "--log_samples"]
            step("lm_eval", "--model", "hf", *given, "--tasks", ",".join(TASKS.values()), "--output_path", results)


def table(work: Path) -> pd.DataFrame:
    """One row a model and task, from lm_eval's result files."""
    rows = []
    for model, shown in MODELS.items():
        data = json.loads(next((work / "lm_eval" / model).rglob("results_*.json")).read_text(encoding="utf-8"))
        for topics, task in TASKS.items():
            found = {key.split(",")[0]: value for key, value in data["results"][task].items()}
            responses = data["n-samples"][task]["effective"] * data["configs"][task]["repeats"]
            rows.append(
                {
                    "topics": topics,
                    "model": shown,
                    "factuality": found["factuality"],
                    "low": found["factuality_ci95_low"],
                    "high": found["factuality_ci95_high"],
                    "correct": found["correct"],
                    "incorrect": found["incorrect"],
                    "unparsed_rate": found["unparsed_rate"],
                    "responses": responses,
                }
            )
    return pd.DataFrame(rows).sort_values("topics", kind="stable", ignore_index=True)


def figure(scores: pd.DataFrame, out: Path) -> None:
    """Factuality by model, near and far, with 95 % intervals over topics."""
    colours = dict(zip(MODELS.values(), ("#999999", "#0072b2", "#d55e00"), strict=True))
    marks = dict(zip(MODELS.values(), ("o", "s", "^"), strict=True))
    fig, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for place, model in enumerate(MODELS.values()):
        part = scores[scores["model"] == model].set_index("topics").loc[list(TASKS)]
        x = [i + 0.2 * (place - 1) for i in range(len(part))]
        errors = [part["factuality"] - part["low"], part["high"] - part["factuality"]]
        axis.errorbar(x, part["factuality"], errors, fmt=marks[model], color=colours[model], capsize=3, label=model)
    axis.set_xticks(range(len(TASKS)), list(TASKS))
    axis.set_ylabel("factuality (95 % interval over topics)")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    fig.savefig(out, dpi=150)
    plt.close(fig)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=str(__doc__).split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/demo/world"))
    parser.add_argument("--work", type=Path, default=Path("out/demo"), help="models, pairs and lm_eval's files")
    parser.add_argument("--seed", type=int, default=0, help="of the world and everything in it")
    args = parser.parse_args(argv)
    work = args.work / f"world-{args.seed}"
    base = work / "base"
    work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    loop(work, base, args.seed)
    scores = table(work)
    scores.round(4).to_csv(args.out / "scores.csv", index=False)
    figure(scores, args.out / "scores.png")
    pages = {}
    for model, shown in MODELS.items():
        files = sorted((work / "lm_eval" / model).rglob(f"samples_{TASKS['near, greedy']}_2*.jsonl"))
        pages[shown] = samples_file(files[-1])
    write_comparison(pages, args.out / "before_after.html", "One question, before and after", questions=1)
    record = manifest(
        command=f"python -m training.demo --seed {args.seed}",
        world=json.loads((base / "world.json").read_text(encoding="utf-8")),
        pairs=json.loads((work / "pairs.jsonl.report.json").read_text(encoding="utf-8")),
        recipes={m: (RECIPES / f"{m}.yaml").read_text(encoding="utf-8") for m in ("dpo", "mask_dpo")},
    )
    write_manifest(args.out / "manifest.json", record)
    print("\n" + scores.round(3).to_string(index=False))
    print(f"\ntable: {args.out / 'scores.csv'}\nfigure: {args.out / 'scores.png'}")
    print(f"one question before and after: {args.out / 'before_after.html'}")


if __name__ == "__main__":
    sys.exit(main())
