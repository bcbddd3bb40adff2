"""A training run from files of pairs to a saved checkpoint and its manifest."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import ModelConfig, get_peft_config

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.arguments import PairArguments, Words, parse_arguments
from factuality_harness.training.checkpoints import (
    checkpoint_to_resume,
    load_model,
    load_tokenizer,
    train_and_save,
)
from factuality_harness.training.mask_dpo.batches import masked_datasets
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.mask_dpo.token_scores import key_tokens
from factuality_harness.training.mask_dpo.trainer import MaskDPOTrainer


def train(
    script_args: PairArguments,
    config: MaskDPOConfig,
    model_args: ModelConfig,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> MaskDPOTrainer:
    """Train on a file of pairs and save to `config.output_dir`; returns the trainer, its model trained.

    model, tokenizer: already loaded ones, used instead of `model_args.model_name_or_path`; `model` is trained in
    place. output_dir then holds the model, `loss_curve.jsonl` and `manifest.json`.
    Raises HarnessError for bad input: no pairs, a folder that is no checkpoint, …
    """
    resume = checkpoint_to_resume(config.resume_from_checkpoint, config.output_dir or "")
    if tokenizer is None:
        tokenizer = load_tokenizer(model_args.model_name_or_path, config.trust_remote_code)
    datasets, summaries = masked_datasets(
        script_args,
        tokenizer,
        masking=config.masking,
        end_of_turn=config.end_of_turn,
        max_length=config.max_length,
        progress=not config.disable_tqdm,
    )
    given = model
    if model is None:
        model = load_model(model_args.model_name_or_path, model_args, config.trust_remote_code)
    settings: dict[str, Any] = {}
    if config.preference_loss == "sepo":
        datasets, settings = key_tokens(datasets, model, config, model_args, given is not None)

    peft_config = get_peft_config(model_args)
    reference = None
    if config.preference_loss == "tdpo" and peft_config is None and given is not None:
        reference = copy.deepcopy(given)
    trainer = MaskDPOTrainer(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=datasets["train"],
        eval_dataset=datasets.get("eval"),
        processing_class=tokenizer,
        peft_config=peft_config,
        loaded_from=None if given else (model_args.model_name_or_path or "", model_args.model_revision),
        callbacks=[*callbacks],
    )
    if config.merge_adapter and trainer._sharded:
        raise HarnessError("merge_adapter needs the whole weights: leave it out under FSDP and DeepSpeed")
    settings |= {"pairs": {name: summary.to_dict() for name, summary in summaries.items()}}
    names = ["preference_loss", "masking", "beta", "learning_rate", "num_train_epochs"]
    names += {"dpop": ["dpop_lambda"], "tdpo": ["tdpo_alpha"], "sepo": ["sepo_oracle"]}.get(config.preference_loss, [])
    method = {"trainer": "mask_dpo", **{name: getattr(config, name) for name in names}}
    train_and_save(
        trainer, script_args, model_args, resume=resume, method=method, save=partial(save, trainer), **settings
    )
    return trainer


def save(trainer: MaskDPOTrainer, output: Path) -> None:
    """Model and tokenizer as a Hugging Face folder; a LoRA adapter alone, or merged with the adapter beside it."""
    if not (trainer.args.merge_adapter and is_peft_model(trainer.model)):
        trainer.save_model(str(output))
        return
    trainer.save_model(str(output / "adapter"))
    if trainer.is_world_process_zero():
        merged = copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model)).merge_and_unload()
        merged.save_pretrained(output)
        trainer.processing_class.save_pretrained(output)


def parse(argv: Sequence[str]) -> tuple[PairArguments, MaskDPOConfig, ModelConfig]:
    """Arguments of `train`; see `parse_arguments`."""
    return parse_arguments(MaskDPOConfig, "factuality train mask_dpo", argv)


def main(*arguments: Words) -> None:
    """Train on preference pairs: `--config RECIPE`, and any setting after it. `--help` lists TRL's settings and ours.

    The recipe holds fields of PairArguments, MaskDPOConfig (TRL's DPOConfig and more) and TRL's ModelConfig.
    """
    train(*parse(arguments))
