"""Weights of InternLM2 under Llama's names.

InternLM2 is a Llama whose query, key and value matrices lie in one, `wqkv`: for each key head its query heads, then the
key, then the value (arXiv 2403.17297, section 2.2). Apart from that only names differ, so logits are equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json
from factuality_harness.harness.settings import Settings, read_settings

Shape = tuple[int, ...]
SHARD_BYTES = 2 * 1024**3
"""Size of a written file at most, and so about what is held in memory."""
_KINDS = ("safetensors", "bin")
_STEMS = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}
_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "attention.wo.bias": "self_attn.o_proj.bias",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
}
_TOP = {
    "model.tok_embeddings.weight": "model.embed_tokens.weight",
    "model.norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class InternLM2Config(Settings):
    """What decides the computation, of the checkpoint's config.json."""

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    hidden_act: str = "silu"
    max_position_embeddings: PositiveInt = 2048
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bias: bool = True
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    def llama(self, tokens: Mapping[str, Any], dtype: str) -> dict[str, Any]:
        """config.json of the same model as a Llama. tokens: its special tokens' ids. dtype: of the weights."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **self.model_dump(exclude={"bias", "num_key_value_heads", "rope_scaling"}),
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head_dim,
            "attention_bias": self.bias,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "rope_scaling": self._rope_scaling(),
            "torch_dtype": dtype,
            **tokens,
        }

    def _rope_scaling(self) -> dict[str, Any] | None:
        if self.rope_scaling is None:
            return None
        kind = self.rope_scaling.get("rope_type") or self.rope_scaling.get("type")
        return {"rope_type": kind, "factor": float(self.rope_scaling["factor"])}

    def check(self, where: Path) -> None:
        """Raise HarnessError for what a Llama does not compute."""
        heads, keys = self.num_attention_heads, self.key_heads
        if self.hidden_size % heads or heads % keys:
            width = self.hidden_size
            raise HarnessError(f"{where}: {heads} heads, {keys} of keys, do not divide hidden_size {width}")
        if self.rope_scaling is not None and (
            (self.rope_scaling.get("rope_type") or self.rope_scaling.get("type")) not in ("dynamic", "linear")
            or not isinstance(self.rope_scaling.get("factor"), int | float)
        ):
            raise HarnessError(
                f"{where}: rope_scaling {self.rope_scaling} is not known; dynamic or linear with a factor"
            )

    def shapes(self) -> dict[str, Shape]:
        """Every tensor that the checkpoint must hold, and its shape."""
        hidden, inner, width = self.hidden_size, self.intermediate_size, self.head_dim
        fused = (self.num_attention_heads + 2 * self.key_heads) * width
        layer: dict[str, Shape] = {
            "attention_norm.weight": (hidden,),
            "attention.wqkv.weight": (fused, hidden),
            "attention.wo.weight": (hidden, hidden),
            "ffn_norm.weight": (hidden,),
            "feed_forward.w1.weight": (inner, hidden),
            "feed_forward.w2.weight": (hidden, inner),
            "feed_forward.w3.weight": (inner, hidden),
        }
        if self.bias:
            layer |= {"attention.wqkv.bias": (fused,), "attention.wo.bias": (hidden,)}
        layers = {f"model.layers.{n}.{k}": s for n in range(self.num_hidden_layers) for k, s in layer.items()}
        ends: dict[str, Shape] = {
            "model.tok_embeddings.weight": (self.vocab_size, hidden),
            "model.norm.weight": (hidden,),
        }
        head: dict[str, Shape] = {} if self.tie_word_embeddings else {"output.weight": (self.vocab_size, hidden)}
        return ends | layers | head


def read_config(folder: Path) -> tuple[InternLM2Config, dict[str, Any]]:
    """The checkpoint's configuration, checked and as it stands.

    Raises HarnessError naming the file for another kind of model or a field that is missing or wrong.
    """
    path = folder / "config.json"
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(f"{path}: cannot be read ({error}); name the folder of an InternLM2 checkpoint") from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind != "internlm2":
        more = " (a Llama needs no conversion)" if kind == "llama" else ""
        raise HarnessError(f"{path}: model_type is {kind!r}, not internlm2{more}")
    architectures = raw.get("architectures") or ["InternLM2ForCausalLM"]
    if architectures != ["InternLM2ForCausalLM"]:
        raise HarnessError(f"{path}: {', '.join(map(str, architectures))} is no causal language model")
    if raw.get("quantization_config"):
        raise HarnessError(f"{path}: the weights are quantized; convert the original ones")
    known = {name: raw[name] for name in InternLM2Config.model_fields if name in raw}
    config = read_settings(InternLM2Config, known, str(path))
    config.check(path)
    return config, raw


class Checkpoint:
    """Tensors of a folder, one at a time, one file open at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises HarnessError where the folder holds no weights, its index names files that are not there, or a file
        cannot be read."""
        self.folder = folder
        for self.kind in _KINDS:
            single, index = folder / _STEMS[self.kind], folder / f"{_STEMS[self.kind]}.index.json"
            if index.is_file():
                self._files = self._indexed(index)
                break
            if single.is_file():
                self._files = [single]
                break
        else:
            names = ", ".join(f"{stem}[.index.json]" for stem in _STEMS.values())
            raise HarnessError(f"{folder}: no weights in it ({names})")
        self.shapes: dict[str, Shape] = {}
        for file in self._files:
            try:
                with self._open(file) as tensors:
                    self.shapes |= {name: shape for name, (shape, _) in tensors.items()}
            except Exception as error:  # each library has its own kinds for a file that is cut or another thing
                raise HarnessError(f"{file}: cannot be read as weights ({error})") from error

    def _indexed(self, index: Path) -> list[Path]:
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise HarnessError(f"{index}: not an index of weights ({error})") from error
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            count = f"{len(missing)} of {len(names)} files"
            raise HarnessError(f"{index}: names {missing[0]}, which is not there ({count})")
        return [self.folder / name for name in names]

    @contextmanager
    def _open(self, file: Path) -> Iterator[dict[str, tuple[Shape, Callable[[], torch.Tensor]]]]:
        """Every tensor's shape, and what reads it."""
        if self.kind == "safetensors":
            with safe_open(file, framework="pt") as opened:
                names = list(opened.keys())
                yield {n: (tuple(opened.get_slice(n).get_shape()), partial(opened.get_tensor, n)) for n in names}
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            copy = partial(torch.clone, memory_format=torch.contiguous_format)
            yield {name: (tuple(tensor.shape), partial(copy, tensor)) for name, tensor in loaded.items()}

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for file in self._files:
            with self._open(file) as tensors:
                for name, (_, read) in tensors.items():
                    yield name, read()

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Raise HarnessError unless the tensors are the expected ones, each in its shape."""
        found = {name: shape for name, shape in self.shapes.items() if not name.endswith("rotary_emb.inv_freq")}
        unknown, missing = sorted(found.keys() - expected.keys()), sorted(expected.keys() - found.keys())
        odd = sorted(name for name, shape in expected.items() if name in found and found[name] != shape)
        for names, what in ((missing, "missing"), (unknown, "not of an InternLM2"), (odd, "of another shape")):
            if names:
                shape = f" {found[names[0]]}, not {expected[names[0]]}" if names is odd else ""
                raise HarnessError(f"{self.folder}: {len(names)} tensors are {what}: {names[0]}{shape}, …")


def as_llama(name: str, tensor: torch.Tensor, config: InternLM2Config) -> dict[str, torch.Tensor]:
    """A tensor of InternLM2 as Llama's tensors.

    `wqkv` (heads of keys x (queries a key head + 2) x head width rows) becomes q_proj, k_proj and v_proj.
    """
    if name in _TOP:
        return {_TOP[name]: tensor}
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    prefix = f"model.layers.{layer}."
    if rest in _LAYER:
        return {prefix + _LAYER[rest]: tensor}
    groups = config.num_attention_heads // config.key_heads
    fused = tensor.reshape(config.key_heads, groups + 2, config.head_dim, *tensor.shape[1:])
    parts = {"q": fused[:, :groups], "k": fused[:, groups], "v": fused[:, groups + 1]}
    of = rest.rpartition(".")[2]
    return {f"{prefix}self_attn.{p}_proj.{of}": t.reshape(-1, *tensor.shape[1:]).clone() for p, t in parts.items()}


def convert(source: Path, config: InternLM2Config, out: Path) -> str:
    """Write the checkpoint's tensors to `out` as a Llama's, file by file; returns their type (`bfloat16`).

    Raises HarnessError, before anything is written, for tensors that are missing, unknown or of another shape.
    """
    index: dict[str, str] = {}
    held: dict[str, torch.Tensor] = {}
    files: list[Path] = []
    dtypes: dict[str, int] = {}
    total = size = 0

    def flush() -> None:
        nonlocal held, size
        files.append(out / f"part-{len(files)}")
        save_file(held, files[-1], metadata={"format": "pt"})
        index.update(dict.fromkeys(held, str(len(files) - 1)))
        held, size = {}, 0

    checkpoint = Checkpoint(source)
    checkpoint.check(config.shapes())
    for name, tensor in tqdm(checkpoint, total=len(checkpoint.shapes), unit="tensor", desc="llamafy"):
        if name.endswith("rotary_emb.inv_freq"):
            continue
        for new, part in as_llama(name, tensor, config).items():
            count = part.numel() * part.element_size()
            if held and size + count > SHARD_BYTES:
                flush()
            held[new] = part
            size, total = size + count, total + count
            of = str(part.dtype).removeprefix("torch.")
            dtypes[of] = dtypes.get(of, 0) + part.numel()
    flush()
    names = [f"model-{n + 1:05d}-of-{len(files):05d}.safetensors" for n in range(len(files))]
    for file, name in zip(files, names, strict=True):
        file.rename(out / name)
    weights = {tensor: names[int(number)] for tensor, number in sorted(index.items())}
    write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weights})
    return max(dtypes, key=lambda name: dtypes[name])
