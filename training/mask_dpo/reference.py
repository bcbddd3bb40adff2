"""Values that a frozen model gives a dataset, computed once and kept by content.

The key is taken of the files that the model was loaded from, of its configuration as loaded, and of every token and
mask, so another learning rate, another output folder or the same pairs under another name compute nothing, and other
weights, settings or masks never meet old values. Weights in memory are read only where there are no files and every
tensor is there whole: ZeRO-3 and FSDP leave empty or partial ones, of which two models look the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.io.models import adapter_base

TOKEN_COLUMNS = ("chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask")


def cache_folder(path: str | None = None) -> Path:
    """Where values are kept: `path`, else $HARNESS_CACHE, else ~/.cache/factuality-harness; in `reference_logps`."""
    root = Path(path or os.environ.get("HARNESS_CACHE") or Path.home() / ".cache" / "factuality-harness")
    return root.expanduser() / "reference_logps"


NO_MATTER = ("_name_or_path", "transformers_version", "_commit_hash", "use_cache", "architectures")
"""What a configuration holds besides what decides a forward pass."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "*.gguf")


def model_key(model: PreTrainedModel, name: str | None = None, revision: str | None = None) -> str:
    """What decides a frozen model's values: its files, its configuration, type and attention as loaded, and the adapter
    called `ref`, which TRL's reference has on.

    name: checkpoint folder or hub name that the weights were loaded from, revision: of the hub; None for a model made
    in memory, whose tensors are read instead. Raises HarnessError for one that has no files and lies in pieces.
    """
    source = None
    if name and Path(name).expanduser().is_dir():
        source = files_digest(Path(name).expanduser())
    elif name and (commit := getattr(model.config, "_commit_hash", None)):
        source = f"{name}@{commit}"
    config = {key: value for key, value in model.config.to_dict().items() if key not in NO_MATTER}
    attention = getattr(model.config, "_attn_implementation", None)
    return content_key(source or tensors_digest(model), config, str(model.dtype), attention, _reference_adapter(model))


def tensors_digest(model: PreTrainedModel) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's own weights; those of adapters are left out.

    Raises HarnessError for a model of which this process holds only a part.
    """
    if any(not p.numel() or p.is_meta or hasattr(p, "ds_id") or isinstance(p, DTensor) for p in model.parameters()):
        raise HarnessError(
            "the model lies in pieces over the processes (ZeRO-3, FSDP) and names no checkpoint, so its values cannot "
            "be told from another's: save it to a folder and name that as model_name_or_path"
        )
    digest = hashlib.sha256(type(model).__name__.encode())
    adapter = f".{getattr(getattr(model, 'base_model', None), 'prefix', 'lora_')}"
    for name, tensor in sorted(model.state_dict().items()):
        if adapter not in name and ".modules_to_save." not in name:
            _add(digest, name.replace(".base_layer", ""), tensor)
    return digest.hexdigest()


def _reference_adapter(model: PreTrainedModel) -> str | None:
    settings = getattr(model, "peft_config", {}).get("ref")
    if settings is None:
        return None
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True, default=_plain).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if ".ref." in name:
            _add(digest, name, tensor)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def _add(digest: Any, name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    data = tensor.detach().cpu().contiguous()
    digest.update(data.reshape(-1).view(torch.uint8).numpy())


def files_digest(folder: str | Path) -> str:
    """SHA-256 over the weight and configuration files of a checkpoint folder, in order of their names; of an adapter's
    folder, over its base model's too.

    Raises HarnessError when there is no weight file.
    """
    folder = Path(folder)
    files = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    if not files:
        raise HarnessError(f"{folder}: holds no weights ({', '.join(WEIGHTS)})")
    digest = hashlib.sha256()
    settings = [p for p in (folder / "config.json", folder / "adapter_config.json") if p.is_file()]
    for path in [*settings, *files]:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    if base := adapter_base(folder):
        digest.update((files_digest(base) if Path(base).is_dir() else base).encode())
    return digest.hexdigest()


def dataset_digest(dataset: Dataset, columns: Sequence[str] = TOKEN_COLUMNS) -> str:
    """SHA-256 over the given columns of a dataset, row by row."""
    digest = hashlib.sha256()
    for row in dataset.select_columns(list(columns)):
        digest.update(json.dumps([row[c] for c in columns], separators=(",", ":")).encode())
    return digest.hexdigest()


def content_key(*parts: Any) -> str:
    """One hexadecimal key from digests and settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def load_columns(folder: Path, key: str, rows: int) -> dict[str, list[Any]] | None:
    """Columns kept under `key`, or None. Raises HarnessError when the file does not have `rows` rows."""
    path = folder / f"{key}.jsonl"
    if not path.is_file():
        return None
    found = [row for _, row in read_jsonl(path)]
    if len(found) != rows:
        raise HarnessError(f"{path}: {len(found)} rows for {rows} pairs; delete it")
    return {name: [row[name] for row in found] for name in found[0]}


def save_columns(folder: Path, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Keep columns of equal length under `key`; a killed writer leaves nothing."""
    names = list(columns)
    write_jsonl(
        folder / f"{key}.jsonl",
        (dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)),
    )
