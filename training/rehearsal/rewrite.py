"""An experiment as it is rehearsed: the same cells, stages and commands, everything large or far away replaced.

Every replacement is written down in `Rehearsal.changes`; what is not listed there runs as the file says.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from factuality_harness.harness.annotators.spec import JUDGES, JudgeSpec
from factuality_harness.harness.embeddings.models import EMBEDDINGS
from factuality_harness.harness.engines import ENGINES
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_text
from factuality_harness.harness.questions import is_named_source
from factuality_harness.harness.settings import option_defaults
from factuality_harness.training.rehearsal.data import Data
from factuality_harness.training.rehearsal.families import make_model
from factuality_harness.training.rehearsal.judge import ScriptedJudge
from factuality_harness.training.settings import read_settings
from factuality_harness.training.shipped import shipped
from factuality_harness.training.sweep.experiment import Experiment
from factuality_harness.training.sweep.schema import hidden_model

SAMPLES, TOKENS, QUESTIONS, POOL, PROCESSES = 4, 48, 6, 4, 2
GPU_KEYS = ("resources",)
"""Keys of an experiment that ask for machines."""
JUDGED = {"anah_v2", "dialogue", "factscore"}


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _on_cpu(step: dict[str, Any]) -> dict[str, Any]:
    """A step of training, its oracle's too, on the CPU."""
    step = step | {"arguments": {**step.get("arguments", {}), "use_cpu": True}}
    return step | ({"oracle": _on_cpu(step["oracle"])} if "oracle" in step else {})


@dataclass(slots=True)
class Rehearsal:
    """Replaces what an experiment names. folder: where models and files go. server: the scripted judge. changes: what
    was replaced, by kind, each with what took its place."""

    folder: Path
    data: Data
    server: ScriptedJudge
    vllm: bool = field(default_factory=lambda: _installed("vllm"))
    deepspeed: bool = field(default_factory=lambda: _installed("deepspeed"))
    quick: bool = False
    prompts: bool = False  # whether ANAH-v2's own prompt file is here
    changes: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, kind: str, before: object, after: str) -> None:
        self.changes.setdefault(kind, {})[str(before)] = after

    def listed(self) -> str:
        """All changes, for people."""
        width = max((len(kind) for kind in self.changes), default=0)
        return "\n".join(
            f"  {kind:{width}}  {before} -> {after}"
            for kind, found in self.changes.items()
            for before, after in found.items()
        )

    def experiment(self, experiment: Experiment, seeds: list[int] | None = None) -> Path:
        """Write the experiment as it is rehearsed; returns the file, which has the same name.

        Raises HarnessError for a model of an unknown family, and for a judge that has no script.
        """
        data = read_settings(experiment.path, "experiments")
        given = data.get("seeds", [0])
        data["seeds"] = seeds or given[:1]
        if data["seeds"] != given:
            self.note("seeds", given, str(data["seeds"]))
        for key in GPU_KEYS:
            if data.pop(key, None) is not None:
                self.note("machines", key, "none")
        data.pop("grid", None)
        data.pop("defaults", None)
        once = [cell for cell in experiment.cells if cell.seed == experiment.cells[0].seed]
        data["cells"] = [{"labels": cell.labels, **self.cell(cell.settings)} for cell in once]
        launch = {kind: self.launcher(line) for kind, line in data.get("launch", {}).items()}
        data["launch"] = {kind: line for kind, line in launch.items() if not self.quick}
        if len(data["launch"]) < len(launch):
            self.changes["launcher"] = dict.fromkeys(launch.values(), "inside the workers (--quick)")
        path = self.folder / experiment.path.resolve().parent.name / experiment.path.name
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
        return path

    def cell(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A cell's settings as they are rehearsed."""
        s = deepcopy(dict(settings))
        if isinstance(s.get("model"), str) and s["model"] != "world":
            s["model"] = self.model(s["model"])
        if "file" in s.get("questions", {}):
            s["questions"]["file"] = self.source(s["questions"]["file"])
        for side in ("sample", "chosen"):
            if side in s:
                s[side] = self.sampling(s[side])
        self.judge(s)
        for key in ("select", "distances"):
            if key in s:
                s[key] = self.embedded(s[key])
        if s.get("train"):
            s["train"] = [_on_cpu(step) for step in s["train"]]
            self.note("training", "GPU", "CPU (use_cpu: true); steps, batches and precision as the recipe says")
        s["score"] = self.score(s.get("score", {}))
        return s

    def model(self, name: str) -> str:
        """Folder of the tiny model in place of a named one."""
        folder = self.folder.resolve() / "models" / Path(name).name
        if not folder.is_dir():
            family = make_model(name, folder, self.data.texts)
            self.note("model", name, f"random weights, {family.title}, 2 layers of width 32, bfloat16")
        return str(folder)

    def source(self, name: str) -> str:
        """Questions in place of a file's or the hub's."""
        kind = name.partition(":")[0]
        if is_named_source(name) and kind not in ("anah", "hf"):
            return name
        file = self.data.anah if kind == "anah" else self.data.anah_v2
        self.note("questions", name, f"{file.name}, the small corpus in the same format")
        return str(file)

    def sampling(self, sample: dict[str, Any]) -> dict[str, Any]:
        if sample.get("model"):
            sample["model"] = self.model(sample["model"])
        for key, most in (("n", SAMPLES), ("max_tokens", TOKENS)):
            if sample.get(key, most) > most:
                self.note("sampling", f"{key} {sample[key]}", str(most))
                sample[key] = most
        return self.engine(sample, "engine_args") if "engine" in sample else sample

    def engine(self, s: dict[str, Any], arguments: str) -> dict[str, Any]:
        """vLLM on the CPU where it is installed, else transformers, with what of its arguments fits."""
        if s.get("engine") != "vllm":
            return s
        given = s.pop(arguments, {})
        dropped = {"tensor_parallel_size", "data_parallel_size", "gpu_memory_utilization", "trust_remote_code"}
        kept = {key: value for key, value in given.items() if key not in dropped}
        if self.vllm:
            s[arguments] = kept | {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048}
            self.note("engine", "vllm", "vllm on the CPU: float32, enforce_eager, max_model_len 2048")
        else:
            s["engine"] = "hf"
            if arguments == "model_args":
                s["batch_size"] = 16
            self.note("engine", "vllm", "hf (vLLM is not installed here), without vLLM's arguments")
        return s

    def judge(self, s: dict[str, Any]) -> None:
        """The scripted judge in place of a model, in `s`; options of judge and server stay."""
        spec = JudgeSpec.from_results(s.get("judge", ""))
        if not spec.engine:
            return
        if spec.name not in JUDGED:
            raise HarnessError(f"judge {s['judge']}: has no script; those that have are {', '.join(sorted(JUDGED))}")
        known = {*option_defaults(JUDGES[spec.name].load()), *option_defaults(ENGINES["openai"])}
        options = {key: value for key, value in s.get("judge_args", {}).items() if key in known}
        if spec.name == "anah_v2" and not self.prompts:
            options |= {"prompt_file": str(self.data.prompts), "any_checksum": True}
            self.note("prompts", "ANAH-v2's file", "one of the same form (ANAH-v2's is not here)")
        s["judge"] = f"{spec.name}@openai:{self.server.stand_for(Path(spec.model).name)}"
        s["judge_args"] = options
        self.note("judge", spec, f"{spec.name}, scripted, behind {self.server.url}")

    def embedded(self, s: dict[str, Any]) -> dict[str, Any]:
        if "relative_to" in s and "file" in s["relative_to"]:
            s["relative_to"]["file"] = self.source(s["relative_to"]["file"])
        kind, _, target = s.get("embedding", "").partition(":")
        if kind == "hidden":
            name, layer = hidden_model(s["embedding"])
            if isinstance(name, str) and name != "policy":
                s["embedding"] = f"hidden:{self.model(name)}" + (f"@{layer}" if layer else "")
        elif kind == "openai":
            s["embedding"] = "openai:" + self.server.stand_for(target.partition("#")[2])
            self.note("embedding", target, f"scripted, behind {self.server.url}")
        if "embedding_args" in s and kind in EMBEDDINGS:
            s["embedding_args"].pop("trust_remote_code", None)
        return s

    def score(self, s: dict[str, Any]) -> dict[str, Any]:
        self.judge(s)
        s = self.engine(s, "model_args")
        if s.get("engine", "hf") == "hf":
            s["arguments"] = {"device": "cpu", **s.get("arguments", {})}
        s["arguments"] = {**s.get("arguments", {}), "limit": QUESTIONS}
        self.note("scoring", "all test questions", f"{QUESTIONS} a task")
        s["gen_kwargs"] = {**s.get("gen_kwargs", {}), "max_gen_toks": TOKENS}
        self.note("scoring", "longest answer", f"{TOKENS} tokens")
        metadata = s.get("metadata", {})
        for key, value in (("data", None), ("entities", self.data.entities), ("knowledge", self.data.knowledge)):
            if key in metadata:
                metadata[key] = self.source(metadata[key]) if value is None else str(value)
        if any("best_of" in task for task in s.get("tasks", [])):
            self.note("scoring", f"pool {metadata.get('pool', 'of the task')}", str(POOL))
            metadata["pool"] = POOL
        if metadata:
            s["metadata"] = metadata
        return s

    def launcher(self, line: str) -> str:
        """A launcher's command line with two processes on the CPU in place of its configuration's."""
        words = shlex.split(line)
        if words[:2] != ["accelerate", "launch"] or "--config_file" not in words:
            return line
        place = words.index("--config_file") + 1
        file = Path(shipped(words[place]))
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        processes = min(int(config.get("num_processes", 1)), PROCESSES)
        kind = config.get("distributed_type", "NO")
        config |= {"num_processes": processes, "main_process_port": 0, "mixed_precision": "no"}
        if kind == "DEEPSPEED" and self.deepspeed:
            how = "DeepSpeed"
        else:
            for key in [key for key in config if re.fullmatch(r"(deepspeed|fsdp)_config", key)]:
                del config[key]
            config["distributed_type"] = "MULTI_GPU" if processes > 1 else "NO"  # torchrun; on the CPU it is gloo
            how = "gloo" + (", without ZeRO: DeepSpeed is not installed here" if kind == "DEEPSPEED" else "")
        words[place] = str((self.folder / "accelerate" / file.name).resolve())
        write_text(Path(words[place]), yaml.safe_dump(config))
        self.note("launcher", line, f"{processes} processes on the CPU, {how}")
        return shlex.join(words)
