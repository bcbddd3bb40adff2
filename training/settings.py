"""YAML files of settings, recipes and experiments alike: read, and merged with the file they extend."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from factuality_harness.harness.errors import HarnessError


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the changes of `new`: mappings key by key, null removes a key, lists and plain values replace.

    Neither is touched.
    """
    out = deepcopy(dict(old))
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merged(out[key], value)
        elif isinstance(value, Mapping):
            out[key] = merged({}, value)
        else:
            out[key] = deepcopy(value)
    return out


def read_settings(path: Path, what: str, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, on top of that in the file beside it which `extends` names.

    what: recipe or experiment, for messages. children: files that extend this one. Raises HarnessError for a file that
    is missing, unreadable, no mapping, or extends itself.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: no such {what} file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: the {what} is no mapping of settings")
    parent = data.pop("extends", None)
    if parent is None:
        return merged({}, data)
    if not isinstance(parent, str):
        raise HarnessError(f"{path}, extends: must be the name of a file beside this one, not {parent!r}")
    children += (path.resolve(),)
    if (path.parent / parent).resolve() in children:
        raise HarnessError(f"{path}, extends: {parent} extends itself")
    return merged(read_settings(path.parent / parent, what, children), data)
