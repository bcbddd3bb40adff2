"""InternLM2, InternLM2.5 and ANAH-v2 folders as plain Llama folders.

    factuality model llamafy SRC --out DIR

The code that these models bring from the hub does not run under transformers 5, and their tokenizer loses every space
there. Written as a Llama they need neither: transformers, vLLM and PEFT read the folder as any other, without
`trust_remote_code`. Weights are read and written file by file, so a 7B model takes a few GB of memory.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from factuality_harness.harness.commands import Out
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.internlm2 import tokenizer as fast
from factuality_harness.harness.internlm2.weights import convert, read_config
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.models import check_model_folder, weights_at_a_glance
from factuality_harness.harness.io.write import write_json

END = "<|im_end|>"
"""What ends a turn of the chat models; generation stops there."""


def llamafy(source: str | Path, out: Path) -> Path:
    """Write the checkpoint `source`, a folder or a hub name, to the new folder `out` as a Llama.

    Raises HarnessError for anything but an InternLM2 causal language model, a tokenizer that would read texts
    otherwise, and a folder that exists; then nothing is left in `out`.
    """
    folder = _local(str(source))
    config, raw = read_config(folder)
    if out.exists():
        raise HarnessError(f"{out}: is there already; name a new folder, or remove it")
    tokenizer, tokenizer_config = fast.build(folder)
    size = tokenizer.get_vocab_size()
    if size > config.vocab_size:
        raise HarnessError(f"{folder}: the tokenizer has {size} tokens, the model only {config.vocab_size}")
    end = tokenizer.token_to_id(END)
    ids: dict[str, Any] = {
        f"{name}_token_id": tokenizer.token_to_id(tokenizer_config[f"{name}_token"]) for name in ("bos", "eos", "pad")
    }
    stops = [ids["eos_token_id"], *([end] if end is not None else [])]
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        dtype = convert(folder, config, work)
        write_json(work / "config.json", config.llama(ids, dtype))
        write_json(work / "generation_config.json", ids | {"eos_token_id": stops})
        fast.save(tokenizer, tokenizer_config, work)
        record = manifest(source=str(source), weights=weights_at_a_glance(str(folder)), config=raw)
        write_manifest(work / "llamafy.manifest.json", record)
        work.chmod(0o755)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _local(source: str) -> Path:
    name = check_model_folder(source, ("config.json",))
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.bin", "tokenizer.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises many kinds, those of its HTTP library among them
        raise HarnessError(f"{name}: cannot be had from the hub ({str(error).splitlines()[0]})") from error


def llamafy_model(source: str, *, out: Out) -> None:
    """An InternLM2, InternLM2.5 or ANAH-v2 checkpoint as a plain Llama folder, without code from the hub.

    Parameters
    ----------
    source
        Folder of the checkpoint, or its name on the hub.
    out
        Folder to write; it must not exist.
    """
    print(llamafy(source, out))
