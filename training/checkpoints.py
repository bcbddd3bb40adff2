"""Opening models and finding where a run stopped, for every trainer here."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, get_quantization_config

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.card import model_card
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.manifest import manifest, sha256, write_manifest
from factuality_harness.harness.io.models import adapter_base, check_model_folder
from factuality_harness.harness.io.tokenizers import check_tokenizer
from factuality_harness.harness.io.write import json_text, write_text
from factuality_harness.training.arguments import PairArguments

PACKAGES = ("trl", "peft", "accelerate", "deepspeed", "datasets")


def load_model(name: str | None, model_args: ModelConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """The causal language model of a checkpoint, in the type, attention and quantization that `model_args` asks for.

    An adapter's folder gives its base with the adapter merged in. Raises HarnessError naming the folder when it cannot
    be loaded.
    """
    name = check_model_folder(name)
    options: dict[str, Any] = {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
        "trust_remote_code": trust_remote_code,
    }
    quantization = get_quantization_config(model_args)
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}
    base = adapter_base(name)
    if base and (quantization is not None or is_deepspeed_zero3_enabled()):
        raise HarnessError(
            f"{name}: an adapter cannot be merged into quantized or partitioned weights; merge it first "
            "(merge_adapter: true where it is trained)"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(base or name, **options)
        return PeftModel.from_pretrained(model, name).merge_and_unload() if base else model
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise HarnessError(f"{name}: cannot be loaded as a causal language model ({_short(error)})") from error


def load_tokenizer(name: str | None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, with a padding token.

    Raises HarnessError when there is none to load, and for one that loses what it reads (`check_tokenizer`).
    """
    name = check_model_folder(name, ("tokenizer.json", "tokenizer_config.json", "config.json"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(f"{name}: its tokenizer cannot be loaded ({_short(error)})") from error
    check_tokenizer(tokenizer, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def checkpoint_to_resume(wanted: str | bool | None, output_dir: str) -> str | None:
    """Folder to resume from: None to start fresh, a path as it is; "true" the last whole checkpoint of `output_dir`.

    A checkpoint cut short by a kill has no readable trainer state, which is written last, and is passed over.
    Raises HarnessError for a path that is not a trainer's checkpoint.
    """
    if wanted is None or wanted is False or str(wanted).lower() in {"", "false", "none"}:
        return None
    if wanted is True or str(wanted).lower() in {"true", "last"}:
        found = [p for p in Path(output_dir).glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
        whole = [p for p in sorted(found, key=lambda p: int(p.name.split("-")[-1])) if _is_whole(p)]
        return str(whole[-1]) if whole else None
    if not _is_whole(Path(wanted)):
        raise HarnessError(
            f"{wanted}: not a trainer checkpoint (no readable trainer_state.json); name a checkpoint-N folder, or say "
            "true for the last one of output_dir"
        )
    return str(wanted)


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class LossCurve(TrainerCallback):
    """Writes every log entry of a run to a JSONL file as it comes; a resumed run keeps the entries before it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file with what the trainer remembers."""
        if state.is_world_process_zero:
            write_jsonl(self.path, state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the latest entry."""
        if state.is_world_process_zero and state.log_history:
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json_text(state.log_history[-1]) + "\n")


def training_packages() -> dict[str, str]:
    """Versions of the packages only training uses, for a manifest."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main_process() -> bool:
    """Whether this process speaks for all of a distributed run."""
    return os.environ.get("RANK", "0") == "0"


def tell(text: str) -> None:
    """A line on standard error, from one process only."""
    if main_process():
        print(text, file=sys.stderr)


def train_and_save(
    trainer: Trainer,
    script_args: PairArguments,
    model_args: ModelConfig,
    *,
    resume: str | None,
    method: Mapping[str, Any],
    save: Callable[[Path], None],
    **settings: Any,
) -> None:
    """Train, then save by `save(output_dir)` with `loss_curve.jsonl` and `manifest.json` beside the model.

    The manifest holds inputs, versions, settings that are not defaults, and `settings`; the model card beside it what
    the model is. method: trainer, loss, masking and other settings that name what was done.
    """
    output = Path(trainer.args.output_dir or ".")
    output.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {
        "model": model_args.model_name_or_path,
        "method": method,
        "data": _data_of(script_args, settings),
    }
    # Ours in place of TRL's, which is written wherever a model is pushed.
    trainer.create_model_card = lambda *_, **__: _write_card(trainer, output, about)  # type: ignore[method-assign]
    trainer.create_model_card()
    trainer.add_callback(LossCurve(output / "loss_curve.jsonl"))
    result = trainer.train(resume_from_checkpoint=resume)
    save(output)
    trainer.create_model_card()  # PEFT adds to it
    if not trainer.is_world_process_zero():
        return
    record = manifest(
        inputs=[path for path in (script_args.pairs, script_args.eval_pairs) if path and Path(path).is_file()],
        training_packages=training_packages(),
        **about,
        peft=changed_settings(model_args) if model_args.use_peft else None,
        config=changed_settings(trainer.args),
        processes=trainer.args.world_size,
        resumed_from=resume,
        result=result.metrics,
        **settings,
    )
    write_manifest(output / "manifest.json", record)


def _data_of(script_args: PairArguments, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the pairs: where they came from, checksum, judges where the report beside them says so, how many were kept."""
    path = Path(script_args.pairs)
    data: dict[str, Any] = {"pairs": script_args.pairs, "sha256": sha256(path) if path.is_file() else None}
    with contextlib.suppress(OSError, ValueError):
        data["judges"] = json.loads(Path(f"{path}.report.json").read_text(encoding="utf-8")).get("judges")
    kept = (settings.get("pairs") or {}).get("train") or {}
    data["trained_on"] = f"{kept['kept']} of {kept['pairs']} pairs" if {"kept", "pairs"} <= kept.keys() else None
    return data


def _write_card(trainer: Trainer, output: Path, about: Mapping[str, Any]) -> None:
    if trainer.is_world_process_zero():
        name = trainer.args.hub_model_id or output.resolve().name
        write_text(output / "README.md", model_card(name.rpartition("/")[2], about))


def changed_settings(config: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ from their defaults; secrets are left out."""
    changed = {}
    for known in fields(config):
        default = known.default_factory() if known.default_factory is not MISSING else known.default
        value = getattr(config, known.name)
        if value != default and not known.name.endswith("_token"):
            changed[known.name] = value
    return changed
