"""What a plan will take before it runs: time, judge calls and tokens, GPU hours, disk.

Times are those measured in the store; before any, those of the experiment's `estimate`, which also says what cannot be
known yet: questions, answer lengths, sentences. Everything is an estimate; calls of a judge are an upper bound.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.questions import load_questions
from factuality_harness.training.settings import read_settings
from factuality_harness.training.sweep.experiment import Experiment
from factuality_harness.training.sweep.plan import Plan, Stage, stages_of
from factuality_harness.training.sweep.schema import STAGES
from factuality_harness.training.sweep.store import Store

ASSUMED: dict[str, float] = {
    "sentences": 6,  # a response
    "facts": 4,  # a sentence
    "answer_tokens": 250,
    "document_tokens": 2000,
    "test_questions": 0,
    "train_questions": 0,
}
"""Where the experiment does not say."""
PROMPT = 300  # tokens of a judge's own words
VERDICT = 30  # tokens of an answer of the judge
TURNS = 3  # most judge calls a sentence: the protocol of ANAH-v2 and `dialogue`
QUESTIONS_A_TOPIC = 3
BYTES_A_TOKEN = 5
WEIGHTS, RESUMABLE = 2, 14  # bytes a parameter: of a model saved in bf16; of one with AdamW's states in fp32


@dataclass(slots=True)
class Load:
    """calls: of a judge that is a model. read, written: its tokens. generated: the policy's tokens. seconds: None where
    nothing is known. gpu_hours: of those seconds. disk: bytes left behind."""

    calls: float = 0.0
    read: float = 0.0
    written: float = 0.0
    generated: float = 0.0
    seconds: float | None = None
    gpu_hours: float = 0.0
    disk: float = 0.0

    def add(self, other: Load) -> None:
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            setattr(self, f.name, theirs if mine is None else mine if theirs is None else mine + theirs)


def of_stage(stage: Stage, plan: Plan, given: Mapping[str, float], seconds: float | None = None) -> Load:
    """What one stage takes. given: the experiment's `estimate`."""
    about = ASSUMED | dict(given)
    load = Load(seconds=given.get(stage.kind) if seconds is None else seconds)
    responses = 0.0
    if stage.kind in ("sample", "annotate"):
        sample = stage if stage.kind == "sample" else plan.stages[stage.needs["sample"]]
        responses = (
            _questions(plan.stages[sample.needs["questions"]], plan) or about["train_questions"]
        ) * sample.settings["n"]
    elif stage.kind == "score":
        responses = about["test_questions"]
    if stage.kind in ("sample", "score"):
        load.generated = responses * about["answer_tokens"]
    if stage.kind in ("annotate", "score"):
        _add_judge(load, JudgeSpec.from_results(stage.settings.get("judge", "")), responses, about)
    load.disk = responses * BYTES_A_TOKEN * (about["answer_tokens"] + about["document_tokens"])
    if stage.kind == "train":
        load.disk = _checkpoints(stage, plan)
    load.gpu_hours = (load.seconds or 0.0) / 3600 * gpus(stage)
    return load


def _add_judge(load: Load, judge: JudgeSpec, responses: float, about: Mapping[str, float]) -> None:
    if not judge.engine:
        return
    sentences, page = responses * about["sentences"], about["document_tokens"]
    if judge.name.startswith("factscore"):
        facts = sentences * about["facts"]
        verdicts = responses if judge.name == "factscore_sheet" else facts
        load.calls = sentences + verdicts
        passages = min(page, 5 * 256)
        load.read = load.calls * PROMPT + verdicts * passages + sentences * PROMPT  # demonstrations
        load.written = (sentences + facts) * VERDICT
    elif judge.name == "sheet":
        load.calls = responses
        load.read = responses * (PROMPT + page + about["answer_tokens"])
        load.written = sentences * VERDICT
    else:  # the document is in the last two turns
        load.calls = sentences * TURNS
        load.read = sentences * (TURNS * PROMPT + (TURNS - 1) * page)
        load.written = load.calls * VERDICT


def _questions(stage: Stage, plan: Plan) -> int:
    if "base" in stage.needs:
        world = plan.stages[stage.needs["base"]].settings["world"]
        return QUESTIONS_A_TOPIC * world["clusters"] * world["topics"][0]
    return _counted(stage.settings["file"], stage.settings.get("split"))


@cache
def _counted(source: str, split: str | None) -> int:
    if source.startswith("hf:") or not (source.startswith("mini") or Path(source).exists()):
        return 0  # nothing is downloaded for an estimate
    try:
        return len(load_questions(source, split))
    except HarnessError:
        return 0


def gpus(stage: Stage) -> int:
    """GPUs that a stage holds: processes of its launcher's configuration, or what vLLM spreads a model over."""
    s = stage.settings
    options = [s.get(key) or {} for key in ("engine_args", "model_args", "judge_args")]
    spread = max([int(o.get("tensor_parallel_size", 1)) * int(o.get("data_parallel_size", 1)) for o in options])
    judge = JudgeSpec.from_results(s.get("judge", "")).engine
    if stage.kind == "train":
        return processes(stage.launch)
    return spread if "vllm" in (s.get("engine"), judge) else 0


def processes(launch: str) -> int:
    """Processes that an `accelerate launch --config_file FILE` line starts on GPUs; 0 for none of its kind."""
    words = launch.split()
    if "--num_processes" in words:
        return int(words[words.index("--num_processes") + 1])
    if "--config_file" not in words:
        return 0
    settings = launcher_settings(launch)
    return int(settings.get("num_processes", 1)) if not settings.get("use_cpu") else 0


def launcher_settings(launch: str) -> dict[str, Any]:
    """The configuration that a launcher's line names; empty where it names none. Raises HarnessError for a file that
    is not there."""
    words = launch.split()
    if "--config_file" not in words:
        return {}
    return read_settings(words[words.index("--config_file") + 1].removeprefix("training/recipes/"), "recipes")


def _checkpoints(stage: Stage, plan: Plan) -> float:
    arguments = stage.settings["arguments"]
    model = stage.needs["model"]
    while not model.startswith("model:") and model in plan.stages and "model" in plan.stages[model].needs:
        model = plan.stages[model].needs["model"]
    size = parameters(model.removeprefix("model:")) if model.startswith("model:") else 0
    kept = 0.0
    if arguments.get("save_strategy", "no") != "no" and not arguments.get("use_peft"):
        kept = min(float(arguments.get("save_total_limit") or 99), float(arguments.get("num_train_epochs", 3)))
    return size * (WEIGHTS + RESUMABLE * kept)


@cache
def parameters(model: str) -> int:
    """Of a published or local shape, else as its name says (`…-72B-…`); 0 where none is known without the hub."""
    named = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![\w.])", model)
    if not Path(model).is_dir():
        return round(float(named[1]) * 1e9) if named else 0
    import torch
    from transformers import AutoModelForCausalLM

    from factuality_harness.training.memory import architecture

    try:
        with torch.device("meta"):
            return sum(p.numel() for p in AutoModelForCausalLM.from_config(architecture(model)).parameters())
    except (HarnessError, ValueError):
        return 0


def loads(experiments: Sequence[Experiment], plan: Plan, store: Store) -> dict[str, Load]:
    """What every stage that is left takes, by its id; a stage that experiments share counts once, as the first says."""
    measured: dict[str, list[float]] = defaultdict(list)
    for path in store.root.glob("stages/*/stage.json"):
        record = store.record(path.parent.name)
        measured[record["kind"]].append(record["seconds"])
    given = {experiment.name: experiment.estimate for experiment in experiments}
    found: dict[str, Load] = {}
    for cell, roles in plan.cells:
        for name in stages_of(plan, roles):
            if name not in found and not store.done(name):
                kind = plan.stages[name].kind
                seconds = mean(measured[kind]) if measured[kind] else None
                found[name] = of_stage(plan.stages[name], plan, given[cell.experiment], seconds)
    return found


def total(found: Iterable[Load]) -> Load:
    """All of it together."""
    load = Load()
    for one in found:
        load.add(one)
    return load


def estimate(experiments: Sequence[Experiment], plan: Plan, store: Store, workers: int) -> str:
    """Stages left by kind, with time (measured here, else as the experiment says), and what all of them take."""
    found = loads(experiments, plan, store)
    kinds = {path.parent.name.rpartition("-")[0] for path in store.root.glob("stages/*/stage.json")}
    lines, unknown = [], []
    for kind in STAGES:
        of_kind = {name: load for name, load in found.items() if plan.stages[name].kind == kind}
        if not of_kind:
            continue
        load = total(of_kind.values())
        timed = [one.seconds for one in of_kind.values() if one.seconds is not None]
        known = "time unknown"
        if timed:
            known = f"{mean(timed):.0f} s each, {'measured' if kind in kinds else 'given'}"
        unknown += [] if len(timed) == len(of_kind) else [kind]
        said = [f"up to {load.calls:.0f} judge calls"] if load.calls else []
        said += [f"{load.gpu_hours:.0f} GPU hours"] if load.gpu_hours >= 0.5 else []
        lines.append(f"  {len(of_kind):4} {kind:9} ({known}){', ' + ', '.join(said) if said else ''}")
    everything = total(found.values())
    seconds = everything.seconds
    time = (
        f"about {seconds / 60 / workers:.0f} min with {workers} workers" if seconds else "nothing is known about time"
    )
    rest = f", not counting {', '.join(unknown)}" if unknown and seconds else ""
    lines.insert(0, f"{len(found)} of {len(plan.stages)} stages to run, {time}{rest}")
    return "\n".join([*lines, *_totals(everything)])


def _totals(load: Load) -> list[str]:
    said = []
    if load.calls:
        said.append(
            f"judge: up to {load.calls:.0f} calls, about {_short(load.read)} tokens read (mostly shared prefixes) and "
            f"{_short(load.written)} written"
        )
    if load.generated:
        said.append(f"answers: about {_short(load.generated)} tokens generated")
    if load.gpu_hours >= 0.5:
        said.append(f"about {load.gpu_hours:.0f} GPU hours")
    if load.disk >= 2**30:
        said.append(f"about {load.disk / 2**30:.0f} GiB of disk")
    return ["; ".join(said)] if said else []


def _short(count: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f}"
