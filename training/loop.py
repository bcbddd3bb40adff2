"""The whole loop by the commands a user would type: sample, label, pair, train, score unseen topics.

    python -m training.loop world --out results/demo/world
    python -m training.loop smollm2 --out results/smollm2

`world` makes a fact world and its base model first (minutes on two cores); `smollm2` takes SmolLM2-135M-Instruct, the
small corpus and the `lexical` judge. Both train DPO and Mask-DPO on the same pairs and end in a table with intervals, a
figure, and a page of coloured sentences before and after. Finished parts are kept in --work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.samples import samples_file
from factuality_harness.harness.page.render import write_comparison

RECIPES = Path(__file__).parent / "recipes"
MODELS = {"base": "base model", "dpo": "DPO", "mask_dpo": "Mask-DPO"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What the loop runs on. questions: source for sampling. sampling: options of `preferences sample`. tasks: shown
    name to lm_eval task, the first one's answers make the page. options: further ones of lm_eval. shown: questions on
    the page."""

    base: Path
    questions: str
    judge: str
    sampling: tuple[object, ...]
    recipes: Path
    tasks: dict[str, str]
    options: tuple[object, ...]
    shown: int


def world_setup(work: Path, seed: int) -> Setup:
    """The fact world with this seed; makes its base model and question file."""
    base, questions = work / "base", work / "questions.jsonl"
    step("factuality_harness", "world", "base", "--out", base, "--seed", seed)
    step("factuality_harness", "world", "questions", base, "--part", "train", "--side", "near", "--out", questions)
    return Setup(
        base=base,
        questions=str(questions),
        judge="world",
        sampling=("--n", 3, "--temperature", 1.0, "--max-tokens", 64, "--engine-args", '{"batch_size": 128}'),
        recipes=RECIPES / "world",
        tasks={
            f"{side}, {how}": f"world_factuality_{side}{'_sampled' if how == 'sampled' else ''}"
            for side in ("near", "far")
            for how in ("greedy", "sampled")
        },
        options=("--metadata", json.dumps({"world": str(base)}), "--batch_size", 128),
        shown=1,
    )


def smollm2_setup(work: Path, seed: int) -> Setup:
    """SmolLM2-135M-Instruct on the small corpus; fetches the model."""
    base = Path("models/smollm2-135m")
    step("factuality_harness", "model", "fetch", "smollm2-135m", "--out", base)
    return Setup(
        base=base,
        questions="mini:train",
        judge="lexical",
        sampling=("--n", 8, "--temperature", 0.8, "--max-tokens", 96, "--engine-args", '{"batch_size": 32}'),
        recipes=RECIPES / "smollm2-135m",
        tasks={"small corpus, greedy": "anah_factuality_mini"},
        options=("--gen_kwargs", "max_gen_toks=96", "--batch_size", 32),
        shown=3,
    )


SETUPS = {"world": world_setup, "smollm2": smollm2_setup}


def step(*arguments: object) -> None:
    """Run `python -m …` in a process of its own, shown first. Raises HarnessError when it fails."""
    words = [str(a) for a in arguments]
    print("\n$ python -m", " ".join(words), flush=True)
    if subprocess.run([sys.executable, "-m", *words]).returncode:
        raise HarnessError(f"{words[0]} failed; its message stands above")


def loop(setup: Setup, work: Path, seed: int) -> None:
    """Everything up to lm_eval's result files, each part only if it is not there yet."""
    factuality = "factuality_harness"
    samples, labels, pairs = work / "samples.jsonl", work / "annotations.jsonl", work / "pairs.jsonl"
    sampling = ["--engine", f"hf:{setup.base}", *setup.sampling, "--top-k", 40, "--seed", seed]
    step(factuality, "sample", "--questions", setup.questions, *sampling, "--out", samples)
    step(factuality, "label", samples, "--judge", setup.judge, "--out", labels)
    step(factuality, "pair", "--annotations", labels, "--out", pairs)
    for method in ("dpo", "mask_dpo"):
        if not (work / method / "manifest.json").exists():
            given = ["--model_name_or_path", setup.base, "--pairs", pairs, "--output_dir", work / method]
            step("training.mask_dpo", "--config", setup.recipes / f"{method}.yaml", *given, "--seed", seed)
    for model in MODELS:
        results = work / "lm_eval" / model
        if not list(results.rglob("results_*.json")):
            folder = setup.base if model == "base" else work / model
            given = ["--model_args", f"pretrained={folder}", *setup.options, "--device", "cpu"]
            given += ["--apply_chat_template", "--log_samples", "--output_path", results]
            step("lm_eval", "--model", "hf", *given, "--tasks", ",".join(setup.tasks.values()))


def table(work: Path, tasks: dict[str, str]) -> pd.DataFrame:
    """One row a model and task, from lm_eval's result files."""
    rows = []
    for model, shown in MODELS.items():
        data = json.loads(next((work / "lm_eval" / model).rglob("results_*.json")).read_text(encoding="utf-8"))
        for topics, task in tasks.items():
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
                    "nofact_rate": found["nofact_rate"],
                    "unparsed_rate": found["unparsed_rate"],
                    "sentences_per_response": found["sentences_per_response"],
                    "responses": responses,
                }
            )
    return pd.DataFrame(rows).sort_values("topics", kind="stable", ignore_index=True)


def figure(scores: pd.DataFrame, out: Path) -> None:
    """Factuality by model and task, with 95 % intervals over topics."""
    tasks = list(dict.fromkeys(scores["topics"]))
    colours = dict(zip(MODELS.values(), ("#999999", "#0072b2", "#d55e00"), strict=True))
    marks = dict(zip(MODELS.values(), ("o", "s", "^"), strict=True))
    fig, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for place, model in enumerate(MODELS.values()):
        part = scores[scores["model"] == model].set_index("topics").loc[tasks]
        x = [i + 0.2 * (place - 1) for i in range(len(part))]
        errors = [part["factuality"] - part["low"], part["high"] - part["factuality"]]
        axis.errorbar(x, part["factuality"], errors, fmt=marks[model], color=colours[model], capsize=3, label=model)
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set_ylabel("factuality (95 % interval over topics)")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    fig.savefig(out, dpi=150)
    plt.close(fig)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.loop", description=str(__doc__).split("\n")[0])
    parser.add_argument("setup", choices=SETUPS)
    parser.add_argument("--out", type=Path, required=True, help="table, figure, page and manifest")
    parser.add_argument("--work", type=Path, default=Path("out/loop"), help="models, pairs and lm_eval's files")
    parser.add_argument("--seed", type=int, default=0, help="of the world, the sampling and the training")
    args = parser.parse_args(argv)
    work = args.work / f"{args.setup}-{args.seed}"
    work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    setup = SETUPS[args.setup](work, args.seed)
    loop(setup, work, args.seed)
    scores = table(work, setup.tasks)
    scores.round(4).to_csv(args.out / "scores.csv", index=False)
    figure(scores, args.out / "scores.png")
    first = next(iter(setup.tasks.values()))
    pages = {
        shown: samples_file(max((work / "lm_eval" / model).rglob(f"samples_{first}_2*.jsonl")))
        for model, shown in MODELS.items()
    }
    title = "Before and after" if setup.shown > 1 else "One question, before and after"
    write_comparison(pages, args.out / "before_after.html", title, questions=setup.shown)
    record: dict[str, Any] = {
        "base": setup.base.name,
        "questions": setup.questions,
        "judge": setup.judge,
        "sampling": setup.sampling,
        "pairs": json.loads((work / "pairs.jsonl.report.json").read_text(encoding="utf-8")),
        "recipes": {m: (setup.recipes / f"{m}.yaml").read_text(encoding="utf-8") for m in ("dpo", "mask_dpo")},
    }
    line = f"python -m training.loop {args.setup} --seed {args.seed}"
    write_manifest(args.out / "manifest.json", manifest(command=line, **record))
    print("\n" + scores.round(3).to_string(index=False))
    print(f"\ntable: {args.out / 'scores.csv'}\nfigure: {args.out / 'scores.png'}")
    print(f"before and after: {args.out / 'before_after.html'}")


if __name__ == "__main__":
    sys.exit(main())
