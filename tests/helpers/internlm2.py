"""Tiny InternLM2 checkpoints with weights from a seed, in the files that the hub has."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

from factuality_harness.harness.data import anah
from factuality_harness.harness.internlm2.weights import InternLM2Config

ADDED = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
CONFIG: dict[str, Any] = {
    "architectures": ["InternLM2ForCausalLM"],
    "model_type": "internlm2",
    "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
    "attn_implementation": "eager",
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bias": False,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "tie_word_embeddings": False,
}


def weights(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint, from a fixed seed."""
    known = {name: config[name] for name in InternLM2Config.model_fields if name in config}
    random = torch.Generator().manual_seed(7)
    shapes = InternLM2Config(**known).shapes()
    return {
        name: torch.randn(shape, generator=random) * 0.2 + ("norm" in name) for name, shape in sorted(shapes.items())
    }


def texts() -> list[str]:
    """Sentences of the small corpus in both languages."""
    found = []
    for question in anah.load_mini("all"):
        found += [question.question, *question.document.split("\n")]
    return found


def train_sentencepiece(path: Path, **more: Any) -> None:
    """A BPE model with byte fallback and InternLM2's settings, 2 000 pieces large."""
    model = io.BytesIO()
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 2000,
        "byte_fallback": True,
        "character_coverage": 0.98,
    }
    settings |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "minloglevel": 2}
    settings |= {"add_dummy_prefix": False, "user_defined_symbols": [f"[UNUSED_TOKEN_{n}]" for n in range(141, 147)]}
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(sentence_iterator=iter(texts()), model_writer=model, **settings | more)
    path.write_bytes(model.getvalue())


def save_internlm2(
    folder: Path,
    *,
    files: int = 1,
    kind: str = "safetensors",
    drop: Sequence[str] = (),
    tokenizer: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A folder as the hub has it. files: of weights. kind: safetensors or bin. drop: tensors that are left out."""
    folder.mkdir(parents=True)
    settings = CONFIG | config
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = {name: tensor for name, tensor in weights(settings).items() if name not in drop}
    stem, end = {"safetensors": ("model", "safetensors"), "bin": ("pytorch_model", "bin")}[kind]
    names = [f"{stem}.{end}"] if files == 1 else [f"{stem}-{n + 1:05d}-of-{files:05d}.{end}" for n in range(files)]
    place = {tensor: names[n % files] for n, tensor in enumerate(tensors)}
    for name in names:
        part = {tensor: tensors[tensor] for tensor in tensors if place[tensor] == name}
        if kind == "bin":
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name)
    if files > 1:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    train_sentencepiece(folder / "tokenizer.model", **tokenizer or {})
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    first = pieces.piece_to_id("[UNUSED_TOKEN_141]")
    decoder = {number: {"content": text, "special": True} for number, text in enumerate(("<unk>", "<s>", "</s>"))}
    decoder |= {first + n: {"content": text, "special": True} for n, text in enumerate(ADDED)}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "InternLM2Tokenizer",
                "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "pad_token": "</s>",
                "added_tokens_decoder": decoder,
            }
        )
    )
    return folder
