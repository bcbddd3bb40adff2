"""Mask-DPO and its baselines in the fact world: tuned alike on validation topics, compared on fresh seeds.

    python -m training.world_methods --out results/world/methods [--seeds 0 1 2 3 4] [--tuning-seeds 100 101]

Per seed: base model, samples, exact labels, pairs on half of the clusters. Every method gets the same learning rates to
choose from, by factuality of sampled answers on near validation topics over the tuning seeds, a rate with more than
2 % unparsed sentences ruled out. Then the fresh seeds: lm_eval on test topics of the clusters trained on (near), of the
others (far), and on biographies of other kinds. Finished parts are kept in --work and not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from factuality_harness.harness.commands import call
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.manifest import manifest, write_manifest

RECIPES = Path(__file__).parent / "recipes" / "world"
METHODS = ("dpo", "dpop", "tdpo", "sepo", "mask_dpo", "mask_dpo_facts")
RATES = (1e-5, 2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
ORACLE_RATE = 1e-4  # of the DPO model that scores SePO's tokens, at every rate of SePO
MOST_UNPARSED = 0.02
SAMPLES = {"n": 3, "temperature": 1.0, "top_k": 40}
TASKS = {
    f"{name}{suffix}": f"world_{task}{suffix}"
    for name, task in (("near", "factuality_near"), ("far", "factuality_far"), ("bio", "bio"))
    for suffix in ("", "_sampled")
}
KEPT = ("factuality", "correct", "incorrect", "nofact_rate", "unparsed_rate", "sentences_per_response")


def _once(done: Path, make: Callable[[], Any]) -> Any:
    """The JSON in `done`; made first when it is not there, and written whole or not at all."""
    if not done.exists():
        result = make()
        done.parent.mkdir(parents=True, exist_ok=True)
        partial = done.with_suffix(".part")
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        partial.replace(done)
    return json.loads(done.read_text(encoding="utf-8"))


def prepare(seed: int, folder: Path) -> dict[str, Any]:
    """Base model, samples, labels and pairs of a seed, in `folder`; the report on its pairs."""
    from factuality_harness.harness.io.jsonl import write_jsonl
    from factuality_harness.harness.world import WorldConfig
    from factuality_harness.harness.world.base import build_base
    from factuality_harness.harness.world.generate import world_of
    from factuality_harness.training.preferences.command import label, pair, sample_answers

    base = build_base(folder / "base", WorldConfig(seed=seed))
    questions = folder / "questions.jsonl"
    write_jsonl(questions, (q.to_dict() for q in world_of(base).questions("train", "near")))
    options = ["--n", SAMPLES["n"], "--temperature", SAMPLES["temperature"], "--top-k", SAMPLES["top_k"]]
    options += ["--max-tokens", 64, "--seed", seed, "--engine-args", '{"batch_size": 128}']
    samples, labels = folder / "samples.jsonl", folder / "annotations.jsonl"
    call(sample_answers, [*map(str, ["--questions", questions, "--engine", f"hf:{base}", *options, "--out", samples])])
    call(label, [str(samples), "--judge", "world", "--out", str(labels)])
    call(pair, ["--annotations", str(labels), "--out", str(folder / "pairs.jsonl")])
    return json.loads((folder / "pairs.jsonl.report.json").read_text(encoding="utf-8"))


def train(seed: int, method: str, rate: float, folder: Path) -> Path:
    """Train a method at a learning rate on the seed's pairs; returns the checkpoint's folder."""
    from factuality_harness.training.mask_dpo import train as mask_dpo

    out = folder / f"{method}-{rate:g}"
    if (out / "manifest.json").exists():
        return out
    overrides: dict[str, Any] = {
        "model_name_or_path": folder / "base",
        "pairs": folder / "pairs.jsonl",
        "output_dir": out,
    }
    overrides |= {"learning_rate": rate, "seed": seed, "disable_tqdm": True}
    if method == "sepo":
        overrides["sepo_oracle"] = train(seed, "dpo", ORACLE_RATE, folder)
    argv = ["--config", str(RECIPES / f"{method}.yaml")]
    for key, value in overrides.items():
        argv += [f"--{key}", str(value)]
    mask_dpo.train(*mask_dpo.parse(argv))
    return out


def quick_score(model: Path, base: Path, seed: int) -> dict[str, float]:
    """Sampled answers to the near validation questions: what rates are chosen by."""
    from factuality_harness.harness.annotate import DocumentedResponse, annotate
    from factuality_harness.harness.annotators.spec import JudgeSpec
    from factuality_harness.harness.engines import Sampling, open_engine
    from factuality_harness.harness.metrics import count, summarise
    from factuality_harness.harness.world.generate import world_of

    questions = world_of(base).questions("validation", "near")
    conversations = [[{"role": "user", "content": q.question}] for q in questions]
    engine = open_engine(f"hf:{model}", batch_size=128)
    items = []
    for draw in range(4):
        sampling = Sampling(max_tokens=64, temperature=0.8, top_k=40, seed=1000 * seed + draw)
        replies = engine.complete(conversations, sampling)
        items += [
            DocumentedResponse(q.question, r.text or "", q.document, "en", q.topic)
            for q, r in zip(questions, replies, strict=True)
        ]
    return summarise([count([a]) for a in annotate(items, JudgeSpec("world").open(), progress=False)])


def full_score(model: Path, base: Path) -> dict[str, dict[str, float]]:
    """lm_eval on the test topics: metrics by task (near, far, bio; greedy and sampled)."""
    import lm_eval

    result = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "device": "cpu"},
        tasks=list(TASKS.values()),
        batch_size=128,
        apply_chat_template=True,
        metadata={"world": str(base)},
        bootstrap_iters=0,
        log_samples=False,
    )
    return {
        short: {name: result["results"][task][f"{name},annotation"] for name in KEPT}
        | {"responses": result["n-samples"][task]["effective"] * (4 if short.endswith("sampled") else 1)}
        for short, task in TASKS.items()
    }


def run(job: tuple[str, int, str, float], work: str) -> tuple[tuple[str, int, str, float], Any]:
    """One job in a worker process: ("prepare" | "tune" | "score", seed, method, rate)."""
    import torch

    torch.set_num_threads(1)
    stage, seed, method, rate = job
    folder = Path(work) / f"seed-{seed}"
    if stage == "prepare":
        return job, _once(folder / "prepared.json", lambda: prepare(seed, folder))
    name = folder / f"{stage}-{method}-{rate:g}.json"
    base = folder / "base"

    def make() -> Any:
        model = base if method == "base" else train(seed, method, rate, folder)
        return quick_score(model, base, seed) if stage == "tune" else full_score(model, base)

    result = _once(name, make)
    if stage == "tune" and (method, rate) != ("dpo", ORACLE_RATE):
        shutil.rmtree(folder / f"{method}-{rate:g}", ignore_errors=True)
    return job, result


def run_all(jobs: Sequence[tuple[str, int, str, float]], work: Path, workers: int, title: str) -> dict[Any, Any]:
    """All jobs over worker processes, with a bar. A failed job is reported and stops the stage after the others."""
    results, failed = {}, []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, tqdm(total=len(jobs), desc=title) as bar:
        futures = {pool.submit(run, job, str(work)): job for job in jobs}
        for future in as_completed(futures):
            try:
                job, result = future.result()
                results[job] = result
            except Exception as error:  # whatever it was, the other jobs' work is kept
                failed.append(f"{futures[future]}: {type(error).__name__}: {error}")
            bar.update()
    if failed:
        raise HarnessError(f"{len(failed)} of {len(jobs)} jobs failed; the others are kept. " + " | ".join(failed))
    return results


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean with a 95 % t interval over seeds; NaN limits for fewer than two."""
    data = np.asarray(list(values), dtype=float)
    if len(data) < 2:
        return float(data.mean()), math.nan, math.nan
    half = stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data))
    return float(data.mean()), float(data.mean() - half), float(data.mean() + half)


def choose_rates(tuned: dict[Any, Any], seeds: Sequence[int]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Per method the rate of the highest mean factuality over the tuning seeds among those that stay parsable."""
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        for rate in RATES:
            found = [tuned["tune", seed, method, rate] for seed in seeds]
            rows.append(
                {"method": method, "rate": rate}
                | {name: float(np.mean([f[name] for f in found])) for name in ("factuality", "unparsed_rate")}
            )
    chosen = {}
    for method in METHODS:
        fit = [r for r in rows if r["method"] == method and r["unparsed_rate"] <= MOST_UNPARSED]
        if not fit:
            raise HarnessError(f"{method}: every learning rate leaves more than {MOST_UNPARSED:.0%} unparsed")
        chosen[method] = max(fit, key=lambda r: r["factuality"])["rate"]
    return chosen, rows


def tables(scores: dict[Any, Any], seeds: Sequence[int], rates: dict[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Levels by method and task, and paired differences of factuality between methods, with intervals over seeds."""
    rate_of = {"base": 0.0} | rates
    levels, differences = [], []
    for task in TASKS:
        values = {m: [scores["score", s, m, rate_of[m]][task] for s in seeds] for m in rate_of}
        for method, found in values.items():
            mean, low, high = interval(v["factuality"] for v in found)
            row = {"task": task, "method": method, "rate": rate_of[method], "seeds": len(seeds)}
            row |= {"factuality": mean, "low": low, "high": high}
            for name in ("correct", "incorrect"):
                row[f"{name}_per_response"] = float(np.mean([v[name] / v["responses"] for v in found]))
            for name in ("nofact_rate", "unparsed_rate", "sentences_per_response"):
                row[name] = float(np.mean([v[name] for v in found]))
            levels.append(row)
        for method in rates:
            for other in ("base", "dpo"):
                if method != other:
                    pairs = zip(values[method], values[other], strict=True)
                    mean, low, high = interval(a["factuality"] - b["factuality"] for a, b in pairs)
                    differences.append(
                        {"task": task, "method": method, "minus": other, "difference": mean, "low": low, "high": high}
                        | {"holds": not low <= 0 <= high}
                    )
    return pd.DataFrame(levels), pd.DataFrame(differences)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.world_methods", description=str(__doc__).split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/world_methods"), help="models and finished parts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    if set(args.seeds) & set(args.tuning_seeds):
        raise HarnessError("a seed is either for tuning or fresh, not both")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers inherit it
    everything = [*args.tuning_seeds, *args.seeds]
    prepared = run_all([("prepare", s, "", 0.0) for s in everything], args.work, args.workers, "worlds")
    jobs = [("tune", s, m, r) for s in args.tuning_seeds for m in METHODS for r in RATES]
    tuned = run_all(jobs, args.work, args.workers, "tuning")
    rates, tuning = choose_rates(tuned, args.tuning_seeds)
    jobs = [("score", s, m, r) for s in args.seeds for m, r in {"base": 0.0, **rates}.items()]
    scores = run_all(jobs, args.work, args.workers, "fresh seeds")
    args.out.mkdir(parents=True, exist_ok=True)
    levels, differences = tables(scores, args.seeds, rates)
    for name, table in (("tuning", pd.DataFrame(tuning)), ("levels", levels), ("differences", differences)):
        numbers = [c for c in table.select_dtypes("float") if c != "rate"]
        table.round(dict.fromkeys(numbers, 4)).to_csv(args.out / f"{name}.csv", index=False)
    record = manifest(
        seeds=args.seeds,
        tuning_seeds=args.tuning_seeds,
        rates=rates,
        grid=RATES,
        samples=SAMPLES,
        most_unparsed=MOST_UNPARSED,
        pairs={str(job[1]): report for job, report in sorted(prepared.items())},
        recipes={p.name: p.read_text(encoding="utf-8") for p in sorted(RECIPES.glob("*.yaml"))},
    )
    write_manifest(args.out / "manifest.json", record)
    print(levels.round(3).to_string(index=False))
    print(differences.round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
