"""The `factuality` command: one door to everything a user does.

Commands are loaded when they are used, so `factuality --help` imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App

from factuality_harness.harness.commands import entry, new_app

ROOT = "factuality_harness"
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Train and score in the fact world, then score a small real model; offline, minutes."),
    "score": ("harness.lm_eval_plugin.score:score", "A model's factuality on your own questions, through lm_eval."),
    "annotate": ("harness.annotate:annotate_file", "Judge answers sentence by sentence, without lm_eval."),
    "score-facts": (
        "harness.factscore.command:score_facts",
        "Judge answers fact by fact (FActScore).",
    ),
    "sentences": ("harness.sentences:split_file", "Split text into sentences with their offsets."),
    "page": ("harness.page.render:page", "One page of responses, every sentence coloured by its label."),
    "export": ("harness.io.export:export", "Annotations in the file formats of the ANAH reference."),
    "sample": ("training.preferences.command:sample_answers", "Several answers to every question."),
    "label": ("training.preferences.command:label", "Label every sentence of sampled answers."),
    "pair": ("training.preferences.command:pair", "Best against worst answer of every question."),
    "masks": ("training.mask_dpo.command:write_masks", "Token masks of preference pairs, as JSON rows."),
    "train mask_dpo": ("training.mask_dpo.train:main", "Mask-DPO, DPO and the other preference losses."),
    "train token_scores": ("training.mask_dpo.token_scores:main", "SePO's token scores, for training under ZeRO-3."),
    "train sft": ("training.sft:main", "Supervised fine-tuning on the chosen answers."),
    "memory": ("training.memory:memory", "Memory a GPU that a recipe needs, estimated."),
    "doctor": ("training.sweep.command:doctor", "What a run needs, and what of it is missing."),
    "sweep run": ("training.sweep.command:run", "Run experiments cell by cell, on this machine or Slurm."),
    "sweep rehearse": ("rehearse:rehearse", "The same with tiny models, before the real ones are paid for."),
    "sweep status": ("training.sweep.command:show_status", "What has run, what is left, what failed."),
    "collect": ("analysis.collect:collect_results", "One small folder of everything a sweep measured."),
    "tables": ("analysis.tables.command:tables", "The paper's tables, ours beside the published numbers."),
    "figures": ("analysis.figures.command:figures", "The figures, PDF and PNG."),
    "hypothesis": ("analysis.hypothesis.command:hypothesis", "Gain of each test topic, by distance to training."),
    "compare": ("analysis.compare.command:compare", "Two or more checkpoints, paired by question, with a verdict."),
    "report": ("analysis.report.command:report", "Scores, figures and responses on one page."),
    "judge-card": ("harness.judging.card:judge_card", "A judge checked against human labels."),
    "correct": ("harness.judging.correction:correct_run", "Factuality corrected for the judge's errors."),
    "cache list": ("harness.cache_command:list_cache", "Whose answers the answer cache holds."),
    "cache prune": ("harness.cache_command:prune_cache", "Delete a judge's answers from the answer cache."),
    "contamination": ("harness.contamination:contamination", "Overlap between training and test data."),
    "model card": ("analysis.card:card", "A checkpoint's model card, with scores; and the checkpoint on the hub."),
    "model fetch": ("harness.io.models:fetch_model", "A small real model as a Hugging Face folder."),
    "model llamafy": ("harness.internlm2.llamafy:llamafy_model", "InternLM2 or ANAH-v2 as a plain Llama folder."),
    "world base": ("harness.world.base:make_base", "A fact world and its base model."),
    "world questions": ("harness.world.command:write_questions", "Questions of a fact world as a file."),
}
"""Command to `module:function` below the package, and its line in the help."""

GROUPS = {
    "train": "Train a checkpoint.",
    "sweep": "Run experiments.",
    "model": "Models as folders.",
    "cache": "The answer cache.",
    "world": "The fact world, a test bed.",
}
PASSED_ON = ("train mask_dpo", "train sft", "train token_scores")  # their options, --help too, are TRL's to read


def make_app() -> App:
    """The command with all its subcommands, none of them loaded."""
    app = new_app("factuality", help="Measure and improve how factual language models are, sentence by sentence.")
    parents = {"": app} | {name: new_app(name, help=text) for name, text in GROUPS.items()}
    for name in GROUPS:
        app.command(parents[name])
    for name, (target, text) in COMMANDS.items():
        group, _, rest = name.rpartition(" ")
        options: dict[str, Any] = {"help_flags": []} if name in PASSED_ON else {}
        parents[group].command(f"{ROOT}.{target}", name=rest, help=text, **options)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return entry(make_app(), sys.argv[1:] if argv is None else argv)
