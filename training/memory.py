"""An estimate of the GPU memory a recipe needs, from its model on the meta device: no weights are loaded.

    factuality memory --config llama31-8b/mask_dpo.yaml --processes 4

Mixed precision with AdamW (bf16 weights and gradients, fp32 master weights and two moments), ZeRO-3 or full sharding
over the processes. Activations assume sequences of full length in a batch, the logits that every token of them counts:
with sentence masks less is used. It is an estimate: fragmentation and communication buffers come on top.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig
from trl import ModelConfig, get_peft_config

from factuality_harness.harness.commands import Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training import sft
from factuality_harness.training.mask_dpo import train as mask_dpo
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.settings import read_settings
from factuality_harness.training.sft import SFTArguments
from factuality_harness.training.shipped import find_shipped

GIB = 2**30
_GROUPED: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
# Published sizes, so that the estimate needs no hub. InternLM2's blocks are Llama's but for their layout in the files.
SIZES: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B-Instruct": _GROUPED | {"intermediate_size": 14336, "vocab_size": 128256},
    "out/models/internlm2-chat-7b": _GROUPED | {"intermediate_size": 14336, "vocab_size": 92544},
}


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB a GPU, by what it is for; parameters in billions."""

    parameters: float
    trainable: float
    weights: float
    gradients: float
    optimizer: float
    reference: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """GiB a GPU."""
        return sum(list(asdict(self).values())[2:])


def parse_recipe(path: str | Path) -> tuple[MaskDPOConfig | SFTArguments, ModelConfig]:
    """A recipe's settings by the trainer's own parser: SFT's where it sets no `masking`.

    Parsed for the CPU, so that a recipe for GPUs can be read anywhere. A recipe that starts from what another one in
    its folder writes gets that one's model. Raises HarnessError as the trainers do.
    """
    path = find_shipped(path, "recipes")
    argv = ["--config", str(path), "--use_cpu", "true"]
    config: MaskDPOConfig | SFTArguments
    if "masking" in read_settings(path, "recipes"):
        _, config, model_args = mask_dpo.parse(argv)
    else:
        _, config, model_args = sft.parse(argv)
    for other in (read_settings(file, "recipes") for file in sorted(path.parent.glob("*.yaml"))):
        if other.get("output_dir") == model_args.model_name_or_path:
            model_args.model_name_or_path = other["model_name_or_path"]
    return config, model_args


def architecture(name: str) -> PreTrainedConfig:
    """Configuration of a model: its published sizes where they stand in SIZES, else read from its folder or the hub."""
    if name in SIZES:
        return LlamaConfig(**SIZES[name], tie_word_embeddings=False)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise HarnessError(f"{name}: no configuration to be had ({str(error)[:200]})") from error


def estimate(config: MaskDPOConfig | SFTArguments, model_args: ModelConfig, processes: int = 1) -> Memory:
    """Memory a GPU for a parsed recipe whose states are sharded over `processes` GPUs."""
    shape = architecture(model_args.model_name_or_path or "")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
        parameters = sum(p.numel() for p in model.parameters())
        peft_config = get_peft_config(model_args)
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sides = 2 if isinstance(config, MaskDPOConfig) else 1
    tokens = sides * config.per_device_train_batch_size * (config.max_length or shape.max_position_embeddings)
    # Bytes a token and layer: the block's input alone when it is recomputed, else all that its backward pass reads.
    block = 2 * (10 * shape.hidden_size + 4 * shape.intermediate_size)
    kept = 2 * shape.hidden_size if config.gradient_checkpointing else block
    activations = tokens * (shape.num_hidden_layers * kept + block)
    copies = 2 if getattr(config, "preference_loss", "") == "tdpo" else 1
    reference = 2 * parameters / processes if copies == 2 and peft_config is None else 0.0
    return Memory(
        parameters=parameters / 1e9,
        trainable=trainable / 1e9,
        weights=2 * parameters / processes / GIB,
        gradients=2 * trainable / processes / GIB,
        optimizer=12 * trainable / processes / GIB,
        reference=reference / GIB,
        activations=activations / GIB,
        logits=copies * 6 * tokens * shape.vocab_size / GIB,
    )


def memory(*, config: Annotated[list[Path], Several], processes: int = 4) -> None:
    """Memory a GPU that recipes need, estimated.

    Parameters
    ----------
    config
        Recipes, as files or by the names of shipped ones. Files called _….yaml, which recipes extend, are left out.
    processes
        GPUs that the states are sharded over.
    """
    names = [*Memory.__dataclass_fields__, "total"]
    print(f"GiB a GPU on {processes}; parameters and trainable in billions")
    print(f"{'recipe':<24}" + "".join(f"{name:>12}" for name in names))
    for path in (path for path in config if not path.name.startswith("_")):
        needed = estimate(*parse_recipe(path), processes)
        print(f"{path.stem:<24}" + "".join(f"{getattr(needed, name):>12.2f}" for name in names))
