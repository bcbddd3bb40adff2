"""YAML files of settings, recipes and experiments: one may extend another.

    extends: ../_common.yaml    # a file, its place given from this one, or the name of a shipped one
    learning_rate: 1.0e-5

Mappings are merged key by key, null takes a key of the extended file away, lists and plain values replace.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.shipped import Kind, find_shipped


def read_settings(name: str | Path, kind: Kind, _children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Settings of a file or of a shipped one (see `find_shipped`), those of the file it extends included.

    Raises HarnessError naming the file that is not there, not YAML, no mapping, or extends itself.
    """
    path = find_shipped(name, kind)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: the {kind[:-1]} is no mapping of settings")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise HarnessError(f"{path}, extends: must be the name of a file, not {parent!r}")
    beside = path.parent / parent
    extended = beside if beside.exists() else find_shipped(parent, kind)
    children = (*_children, path.resolve())
    if extended.resolve() in children:
        raise HarnessError(f"{path}, extends: {parent} extends itself")
    return merged(read_settings(extended, kind, children), data)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the changes of `new`; neither is touched."""
    out = deepcopy(dict(old))
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            below = out.get(key)
            out[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            out[key] = deepcopy(value)
    return out
