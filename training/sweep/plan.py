"""From cells to stages: what has to run, in which order, and what each stage reads."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import sha256
from factuality_harness.harness.io.models import check_model_folder, weights_at_a_glance
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.questions import digest, load_questions
from factuality_harness.harness.world.generate import BaseConfig, WorldConfig
from factuality_harness.training.settings import read_settings
from factuality_harness.training.sweep.experiment import Cell, Experiment
from factuality_harness.training.sweep.schema import hidden_model

FORMAT = 1  # of what stages write; raising it makes every stage run again
UNSCORED = frozenset(
    [
        "learning_rate",
        "num_train_epochs",
        "sepo_gamma",
        "sepo_chosen_share",
        "sepo_rejected_share",
        "seed",
    ]
)
"""Settings of a training that do not change what SePO's oracle says of a token."""
SEED_GAP = 1000  # sample k of a stage has seed + k


@dataclass(frozen=True, slots=True)
class Stage:
    """A unit of work. settings: plain data, all it depends on besides needs. needs: role to the id of another stage.

    What decides no result is not part of the id. launch: command that starts it outside the worker. threads: CPU
    threads inside it (0: as it comes). tests: of training, what its model is scored on, to refuse those topics.
    """

    kind: str
    id: str
    settings: dict[str, Any]
    needs: dict[str, str]
    launch: str = field(default="", compare=False)
    threads: int = field(default=0, compare=False)
    tests: list[dict[str, Any]] = field(default_factory=list, compare=False)


@dataclass(slots=True)
class Plan:
    """stages: by id, every stage after those it needs. cells: each cell with the ids of its stages by role. missing:
    errors for files and checkpoints that are not there (yet), with the first cell that needs them."""

    stages: dict[str, Stage] = field(default_factory=dict)
    cells: list[tuple[Cell, dict[str, str]]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class _Builder:
    def __init__(self, plan: Plan, experiment: Experiment) -> None:
        self.plan = plan
        self.experiment = experiment

    def stage(self, kind: str, settings: Mapping[str, Any], **needs: str) -> str:
        deciding = {role: name for role, name in needs.items() if role != "tokens"}  # they follow from the others
        models = [name.removeprefix("model:") for name in deciding.values() if name.startswith("model:")]
        files = [weights_at_a_glance(name) for name in models if Path(name).is_dir()]
        text = json.dumps([FORMAT, kind, settings, deciding, *files], sort_keys=True)
        name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        plain = json.loads(json.dumps(settings))
        launch = self.experiment.launch.get(kind, "")
        self.plan.stages.setdefault(name, Stage(kind, name, plain, needs, launch, self.experiment.threads.get(kind, 0)))
        return name

    def cell(self, cell: Cell) -> dict[str, str]:
        """The stages of a cell by role."""
        s = cell.settings
        where = f"{self.experiment.path}, {cell.name}"
        roles: dict[str, str] = {}
        base = self.model(s.get("model", "world"), s, cell.seed, where)
        if base.startswith("base-"):
            roles["base"] = base
        model = base
        if steps := s.get("train", []):
            roles |= self.pairs(s, cell.seed, base, where)
            for step in steps:
                step = {**step, "arguments": {**s.get("train_arguments", {}), **step.get("arguments", {})}}
                model = self.train(step, model, roles["pair"], cell.seed, where)
            roles["train"] = model
        score = {"engine": "hf", "batch_size": 128, "chat_template": True} | s.get("score", {})
        if not score.get("tasks"):
            raise HarnessError(f"{where}: score names no tasks")
        if "judge" not in score:
            score |= {key: s[key] for key in ("judge", "judge_args") if s.get(key)}
        if base.startswith("model:") and _draws(score):
            score["seed"] = cell.seed  # the same untrained model under every seed: without it, the same draws
        roles["score"] = self.stage("score", score, **_model(model), **_world(base))
        if model != base:
            test = {"tasks": score["tasks"], "metadata": score.get("metadata", {}), **_world(base)}
            if test not in self.plan.stages[model].tests:
                self.plan.stages[model].tests.append(test)
        if "distances" in s and "pair" in roles:
            roles["distances"] = self.distances(s, cell.seed, base, roles["pair"], where)
        return roles

    def model(self, name: Any, s: dict[str, Any], seed: int, where: str) -> str:
        """Id of a base stage, or `model:` and the name or folder of an existing model."""
        if name == "world" or isinstance(name, dict):
            world = WorldConfig.from_dict({**s.get("world", {}), "seed": seed})
            base = BaseConfig(**{**s.get("base", {}), **(name if isinstance(name, dict) else {})})
            return self.stage("base", {"world": asdict(world), "base": asdict(base)})
        try:
            return f"model:{check_model_folder(name)}"
        except HarnessError as error:
            self.plan.missing.setdefault(f"missing checkpoint: {error}", where)
            return f"model:{name}"

    def pairs(self, s: dict[str, Any], seed: int, base: str, where: str) -> dict[str, str]:
        for name in ("questions", "sample", "judge"):
            if name not in s:
                raise HarnessError(f"{where}: training needs {name}")
        roles = {"questions": self.questions(s["questions"], base, where)}
        roles |= self.labelled(s["sample"], s, seed, base, roles["questions"], where)
        inputs = {"annotate": roles["annotate"]}
        if "chosen" in s:
            # Draws of their own, or the two sides would share their random numbers.
            chosen = self.labelled({**s["sample"], **s["chosen"]}, s, seed, base, roles["questions"], where, apart=500)
            inputs["chosen"] = chosen["annotate"]
        if "select" in s:
            roles["select"] = inputs["select"] = self.select(s, seed, base, roles["questions"], where)
        roles["pair"] = self.stage("pair", {**s.get("pair", {}), "seed": seed}, **inputs)
        return roles

    def questions(self, source: dict[str, Any], base: str, where: str) -> str:
        if "file" in source:
            return self.stage("questions", source | self.source_digest(source, where))
        if not base.startswith("base-"):
            raise HarnessError(f"{where}: name a file of questions; parts and sides are the world's")
        return self.stage("questions", {"part": "train", "side": "all"} | source, base=base)

    def source_digest(self, source: dict[str, Any], where: str) -> dict[str, str]:
        """What tells the questions of a source from others under its name; those shipped here need nothing."""
        if source["file"].partition(":")[0] == "mini":
            return {}
        if Path(source["file"]).is_file():
            return {"sha256": sha256(source["file"])}
        try:
            return {"sha256": digest(load_questions(source["file"], source.get("split")))}
        except HarnessError as error:
            self.plan.missing.setdefault(str(error), where)
            return {"sha256": ""}

    def labelled(
        self,
        sampling: dict[str, Any],
        s: dict[str, Any],
        seed: int,
        base: str,
        questions: str,
        where: str,
        apart: int = 0,
    ) -> dict[str, str]:
        settings = {"engine": "hf", "n": 8, **sampling, "seed": SEED_GAP * seed + apart}
        other = settings.pop("model", None)
        model = base if other is None else self.model(other, s, seed, where)
        sample = self.stage("sample", settings, **_model(model), questions=questions)
        judge = {"judge": s["judge"], "judge_args": s.get("judge_args", {})}
        return {"sample": sample, "annotate": self.stage("annotate", judge, sample=sample)}

    def select(self, s: dict[str, Any], seed: int, base: str, questions: str, where: str) -> str:
        settings = {"seed": seed, **s["select"]}
        needs = {"questions": questions, **_world(base)}
        if source := settings.get("relative_to"):
            needs["targets"] = self.questions(source, base, where)
        embedding = settings.get("embedding", "")
        if embedding.startswith("hidden:"):
            name, layer = hidden_model(embedding)
            model = base if name == "policy" else self.model(name, s, seed, where)
            settings["embedding"] = f"hidden:@{layer}" if layer else "hidden:"
            needs |= _model(model)
        return self.stage("select", settings, **needs)

    def distances(self, s: dict[str, Any], seed: int, base: str, pairs: str, where: str) -> str:
        settings = {"text": "{topic}", "k": 1, "centre": True, **s["distances"]}
        needs = {"pair": pairs, "targets": self.questions(settings.pop("relative_to"), base, where), **_world(base)}
        if settings["embedding"].startswith("hidden:"):
            name, _ = hidden_model(settings["embedding"])
            needs |= _model(base if name == "policy" else self.model(name, s, seed, where))
        return self.stage("distances", settings, **needs)

    def train(self, step: dict[str, Any], model: str, pairs: str, seed: int, where: str) -> str:
        try:
            recipe = read_settings(step["recipe"], "recipes")
        except HarnessError as error:
            raise HarnessError(f"{where}: {error}") from error
        for place in ("model_name_or_path", "pairs", "output_dir", "sepo_oracle", "sepo_scores"):
            recipe.pop(place, None)  # the sweep's to say
        arguments = {**recipe, **step.get("arguments", {}), "seed": seed}
        needs = {**_model(model), "pair": pairs}
        if "oracle" in step:
            needs["oracle"] = self.train(step["oracle"], model, pairs, seed, where)
            # A stage of its own: training may hold no model whole. Only what decides the scores is part of it.
            scored = {key: value for key, value in arguments.items() if key not in UNSCORED}
            needs["tokens"] = self.stage("tokens", {"arguments": scored}, **needs)
        return self.stage("train", {"trainer": step.get("trainer", "mask_dpo"), "arguments": arguments}, **needs)


def _model(name: str) -> dict[str, str]:
    return {"model": name}


def _world(base: str) -> dict[str, str]:
    return {"base": base} if base.startswith("base-") else {}


def _draws(score: Mapping[str, Any]) -> bool:
    """Whether scoring samples, as gen_kwargs and this project's task files say."""
    if any(score.get("gen_kwargs", {}).get(key) for key in ("do_sample", "temperature")):
        return True
    files = [file for task in score["tasks"] for file in task_files(task)]
    return any("do_sample: true" in file.read_text(encoding="utf-8") for file in files)


def task_files(task: str) -> list[Path]:
    """The file of a task of this project; none of another."""
    return [*tasks_folder().glob(f"*/{glob.escape(task)}.yaml")]


def make_plan(experiments: Iterable[Experiment]) -> Plan:
    """All stages of the experiments; what is missing is listed in the plan.

    Raises HarnessError for settings that cannot work.
    """
    plan = Plan()
    for experiment in experiments:
        builder = _Builder(plan, experiment)
        plan.cells += [(cell, builder.cell(cell)) for cell in experiment.cells]
    return plan


def stages_of(plan: Plan, roles: Mapping[str, str]) -> list[str]:
    """Ids of a cell's stages and all they depend on, in running order."""
    wanted, left = set(), [*roles.values()]
    while left:
        name = left.pop()
        if name in plan.stages and name not in wanted:
            wanted.add(name)
            left += plan.stages[name].needs.values()
    return [name for name in plan.stages if name in wanted]


def relative(path: Path) -> str:
    """The path from here, for people and for files that move with the folder."""
    return os.path.relpath(path)
