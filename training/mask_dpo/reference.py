"""Values that a frozen model gives a dataset, computed once and kept by content.

The key is a digest of the weights and of every token and mask, so another learning rate, another output folder or
the same pairs under another name compute nothing, and other weights or masks never meet old values.
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
from transformers import PreTrainedModel

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl

TOKEN_COLUMNS = ("chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask")


def cache_folder(path: str | None = None) -> Path:
    """Where values are kept: `path`, else $HARNESS_CACHE, else ~/.cache/factuality-harness; in `reference_logps`."""
    root = Path(path or os.environ.get("HARNESS_CACHE") or Path.home() / ".cache" / "factuality-harness")
    return root.expanduser() / "reference_logps"


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's own weights; those of adapters are left out."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in sorted(model.state_dict().items()):
        if ".lora_" in name or ".modules_to_save." in name:
            continue
        digest.update(f"{name.replace('.base_layer', '')} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous()
        digest.update(memoryview(data.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def files_digest(folder: str | Path) -> str:
    """SHA-256 over the weight and configuration files of a checkpoint folder, in order of their names.

    Serves models whose weights no process holds in full (ZeRO-3). Raises HarnessError when there is no weight file.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".bin"})
    if not files:
        raise HarnessError(f"{folder}: holds no weights (*.safetensors or *.bin)")
    digest = hashlib.sha256()
    settings = [p for p in (folder / "config.json", folder / "adapter_config.json") if p.is_file()]
    for path in [*settings, *files]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
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
