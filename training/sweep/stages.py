"""What each kind of stage does: from its settings and the folders of what it needs to files in its own folder.

Sampling, annotating, training and scoring are the commands a user would type; they run inside the worker, or in a
process of their own where the experiment names a launcher for them.
"""

from __future__ import annotations

import json
import random
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from factuality_harness.harness.annotation import Annotation
from factuality_harness.harness.commands import call
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.embeddings.distances import DISTANCES, write_distances
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.samples import read_annotations
from factuality_harness.harness.io.write import write_json
from factuality_harness.harness.lm_eval_plugin.evaluation import evaluate
from factuality_harness.harness.lm_eval_plugin.lookup import find_tasks
from factuality_harness.harness.questions import load_questions
from factuality_harness.harness.world.base import build_base
from factuality_harness.harness.world.generate import BaseConfig, WorldConfig, world_of
from factuality_harness.training import sft
from factuality_harness.training.mask_dpo import token_scores
from factuality_harness.training.mask_dpo import train as mask_dpo
from factuality_harness.training.mask_dpo.pairs import write_pairs
from factuality_harness.training.preferences import Pairing, PairRules
from factuality_harness.training.preferences.command import label, sample_answers
from factuality_harness.training.shipped import shipped
from factuality_harness.training.sweep.distances import topic_distances
from factuality_harness.training.sweep.plan import Plan, Stage, relative, stages_of, task_files
from factuality_harness.training.sweep.process import environment, launch
from factuality_harness.training.sweep.scoring import refuse_test_topics
from factuality_harness.training.sweep.selection import choose, choose_half
from factuality_harness.training.sweep.store import Store

TRAINERS = {"mask_dpo": mask_dpo, "sft": sft}
QUESTIONS, SAMPLES, ANNOTATIONS, PAIRS = "questions.jsonl", "samples.jsonl", "annotations.jsonl", "pairs.jsonl"
SCORES = "scores.jsonl"


def resumes(stage: Stage) -> bool:
    """Whether what a killed run of the stage left is gone on with, and not thrown away.

    transformers draws a batch at a time, so its samples are only those of an unbroken run when they begin anew.
    """
    if stage.kind == "sample":
        return stage.settings["engine"] != "hf"
    if stage.kind == "train":
        return stage.settings["arguments"].get("save_strategy", "no") != "no"
    return stage.kind == "annotate"


def run_stage(stage: Stage, store: Store, folder: Path) -> list[str]:
    """Do the stage's work in `folder`; returns the command lines it is made of. Raises HarnessError."""
    inputs = {role: store.place(name) for role, name in stage.needs.items()}
    # Answers of another store would change which prompts share a batch, and so what transformers draws.
    cache = folder / "cache" if stage.kind == "sample" and not resumes(stage) else store.root / "cache"
    with environment(HARNESS_CACHE=str(cache)):
        for test in stage.tests:
            refuse_test_topics(Path(inputs["pair"]) / PAIRS, test, store)
        if stage.kind in COMMANDS:
            command = COMMANDS[stage.kind](stage, inputs, folder)
            if stage.launch:
                launcher = launcher_of(stage.launch)
                line = ["-m", command.module, *command.argv]
                launch(launcher, line)
                return [shlex.join([*launcher, *line])]
            command.inside()
            return [shlex.join([*command.shown.split(), *command.argv])]
        STEPS[stage.kind](stage.settings, inputs, folder)
    return []


@dataclass(frozen=True, slots=True)
class Command:
    """A stage that is a command. shown: what a user types before `argv`. module: what a launcher runs with `argv`.
    inside: does the same in this process."""

    shown: str
    module: str
    argv: list[str]
    inside: Callable[[], object]


def launcher_of(line: str) -> list[str]:
    """Words of a launcher; files that come with this package are named where they lie."""
    return [str(shipped(word)) if word.startswith("training/") else word for word in shlex.split(line)]


def _sample(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    s = stage.settings
    argv = ["--questions", f"{inputs['questions']}/{QUESTIONS}", "--out", str(folder / SAMPLES)]
    argv += ["--engine", f"{s['engine']}:{inputs['model']}"]
    for key in ("n", "seed", "temperature", "top_k", "top_p", "max_tokens"):
        if key in s:
            argv += [f"--{key.replace('_', '-')}", str(s[key])]
    if s.get("with_document"):
        argv.append("--with-document")
    if "engine_args" in s:
        argv += ["--engine-args", json.dumps(s["engine_args"])]
    return Command("factuality", "factuality_harness", ["sample", *argv], lambda: call(sample_answers, argv))


def _annotate(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    argv = ["--samples", f"{inputs['sample']}/{SAMPLES}", "--out", str(folder / ANNOTATIONS)]
    argv += ["--judge", stage.settings["judge"], "--judge-args", json.dumps(stage.settings["judge_args"])]
    return Command("factuality", "factuality_harness", ["label", *argv], lambda: call(label, argv))


def _train(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    name = stage.settings["trainer"]
    trainer = TRAINERS[name]
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_arguments(stage, inputs, folder), sort_keys=True), encoding="utf-8")
    argv = ["--config", str(recipe)]

    def inside() -> None:
        trainer.train(*trainer.parse([*argv, "--disable_tqdm", "true"]))

    return Command(f"factuality train {name}", f"factuality_harness.training.{name}", argv, inside)


def _arguments(stage: Stage, inputs: Mapping[str, str], folder: Path) -> dict[str, Any]:
    arguments = {**stage.settings["arguments"], "model_name_or_path": inputs["model"], "output_dir": str(folder)}
    arguments["pairs"] = f"{inputs['pair']}/{PAIRS}"
    if "oracle" in inputs:
        arguments["sepo_oracle"] = inputs["oracle"]
        arguments["sepo_scores"] = f"{inputs.get('tokens', folder)}/{SCORES}"
    return arguments


def _tokens(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_arguments(stage, inputs, folder), sort_keys=True), encoding="utf-8")
    argv = ["train", "token_scores", "--config", str(recipe), "--disable_tqdm", "true"]
    return Command("factuality", "factuality_harness", argv, lambda: token_scores.main(*argv[2:]))


def check_stages(plan: Plan, store: Store) -> None:
    """Look at what is left to run for what would show only when its turn comes: arguments that a trainer refuses, and
    tasks that lm_eval does not know. Raises HarnessError with the first cell concerned."""
    seen: list[Any] = []
    for cell, roles in plan.cells:
        for stage in (plan.stages[name] for name in stages_of(plan, roles) if not store.done(name)):
            what = stage.settings.get("tasks") or {**stage.settings.get("arguments", {}), "seed": 0}
            if (stage.kind, what) in seen or stage.kind not in ("train", "score"):
                continue
            seen.append((stage.kind, what))
            try:
                if stage.kind == "train":
                    _check_arguments(stage)
                elif others := [task for task in stage.settings["tasks"] if not task_files(task)]:
                    find_tasks(others, {})
            except HarnessError as error:
                raise HarnessError(f"{cell.name}, {stage.kind}: {error}") from error


def _check_arguments(stage: Stage) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        inputs = dict.fromkeys(stage.needs, "not-yet")
        recipe.write_text(yaml.safe_dump(_arguments(stage, inputs, Path(folder))), encoding="utf-8")
        # as on a machine without GPUs, where it may be looked at
        TRAINERS[stage.settings["trainer"]].parse(["--config", str(recipe), "--use_cpu", "true"])


def _score(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    s = stage.settings
    metadata = dict(s.get("metadata", {}))
    metadata |= {key: s[key] for key in ("judge", "judge_args") if s.get(key)}
    if "base" in inputs:
        metadata["world"] = relative(Path(inputs["base"]))
    model = inputs["model"]
    model_args = {"pretrained": relative(Path(model)) if Path(model).is_dir() else model}
    seeds = {"torch_random_seed": s["seed"]} if "seed" in s else {}
    if seeds and s["engine"] == "vllm":  # which draws by a seed of its own
        model_args["seed"] = s["seed"]
    arguments = {
        "model": s["engine"],
        "model_args": model_args | s.get("model_args", {}),
        "tasks": s["tasks"],
        "batch_size": s["batch_size"],
        "apply_chat_template": s["chat_template"],
        "gen_kwargs": s.get("gen_kwargs"),
        "metadata": metadata or None,
        **seeds,
        **s.get("arguments", {}),
    }
    out = folder / "lm_eval"
    argv = ["run", "--log_samples", "--output_path", str(out)]
    for key, value in arguments.items():
        if value is True:
            argv.append(f"--{key}")
        elif key == "torch_random_seed":
            argv += ["--seed", f"0,1234,{value},1234"]  # the others as lm_eval has them
        elif value not in (None, False):
            plain = key in ("model_args", "gen_kwargs")
            text = ",".join(f"{k}={v}" for k, v in value.items()) if plain else value
            text = json.dumps(text) if isinstance(text, dict) else ",".join(text) if isinstance(text, list) else text
            argv += [f"--{key}", str(text)]
    return Command("lm_eval", "lm_eval", argv, lambda: evaluate(arguments, out))


def _base(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    build_base(folder, WorldConfig.from_dict(settings["world"]), BaseConfig(**settings["base"]))


def _questions(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    write_jsonl(folder / QUESTIONS, (q.to_dict() for q in _load(settings, inputs.get("base"))))


def _load(settings: Mapping[str, Any], base: str | None) -> list[Question]:
    if base is not None:
        return world_of(base).questions(settings["part"], settings["side"])
    return load_questions(settings["file"], settings.get("split"))


def _select(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    questions = load_questions(f"{inputs['questions']}/{QUESTIONS}")
    world = world_of(inputs["base"]) if "base" in inputs else None
    chosen = choose(questions, settings, world)
    if "embedding" in settings and chosen:
        targets = load_questions(f"{inputs['targets']}/{QUESTIONS}") if "targets" in inputs else []
        chosen = choose_half(chosen, targets, settings, inputs.get("model"), world)
    if not chosen:
        raise HarnessError(f"select {settings}: leaves none of {len(questions)} questions")
    write_jsonl(folder / QUESTIONS, (q.to_dict() for q in chosen))
    topics = sorted({q.topic for q in chosen})
    record = {"questions": len(chosen), "topics": len(topics)}
    if world is not None:
        record["clusters"] = len({t.cluster for t in world.topics if t.name in {*topics}})
    write_json(folder / "selection.json", record)


def _distances(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    targets = load_questions(f"{inputs['targets']}/{QUESTIONS}")
    world = world_of(inputs["base"]) if "base" in inputs else None
    found = topic_distances(Path(inputs["pair"]) / PAIRS, targets, settings, inputs.get("model"), world)
    write_distances(folder / DISTANCES, found)


def _pair(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    rules = dict(settings)
    limit = rules.pop("limit", None)
    chosen_from = inputs.get("chosen")
    kept = None
    if "select" in inputs:
        kept = {(q.language, q.topic, q.question) for q in load_questions(f"{inputs['select']}/{QUESTIONS}")}

    def annotations(place: str) -> list[Annotation]:
        found = read_annotations(f"{place}/{ANNOTATIONS}")
        return [a for a in found if kept is None or (a.language, a.topic, a.question) in kept]

    pairing = Pairing(
        annotations(inputs["annotate"]), PairRules(**rules), annotations(chosen_from) if chosen_from else None
    )
    pairs = list(pairing)
    report = pairing.report()
    if limit is not None:
        if len(pairs) < limit:
            raise HarnessError(f"pair: {len(pairs)} pairs, fewer than the limit of {limit}")
        pairs = random.Random(f"limit {settings['seed']}").sample(pairs, limit)
    write_pairs(folder / PAIRS, pairs)
    write_json(folder / f"{PAIRS}.report.json", report | {"kept": len(pairs)})


COMMANDS: dict[str, Callable[[Stage, Mapping[str, str], Path], Command]] = {
    "sample": _sample,
    "annotate": _annotate,
    "tokens": _tokens,
    "train": _train,
    "score": _score,
}
STEPS: dict[str, Callable[[dict[str, Any], Mapping[str, str], Path], None]] = {
    "base": _base,
    "questions": _questions,
    "select": _select,
    "pair": _pair,
    "distances": _distances,
}
