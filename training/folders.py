"""Names and folders of models, looked at without loading anything."""

from __future__ import annotations

from pathlib import Path

from factuality_harness.harness.errors import HarnessError


def check_model_folder(name: str | None) -> str:
    """A hub name or the path of a checkpoint folder. Raises HarnessError for a path that is no such folder."""
    if not name:
        raise HarnessError("no model: set model_name_or_path to a checkpoint folder or a hub name")
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise HarnessError(f"{path}: not a checkpoint folder (no config.json); give one saved by transformers")
        return str(path)
    organisation, slash, rest = name.partition("/")
    looks_like_path = path.is_absolute() or not slash or "/" in rest or Path(organisation).expanduser().is_dir()
    if path.exists() or looks_like_path:
        raise HarnessError(f"{name}: no such checkpoint folder")
    return name
