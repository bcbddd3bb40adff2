"""Supervised fine-tuning on the chosen responses of preference pairs, with TRL's SFTTrainer.

    factuality train sft --config FILE.yaml [--learning_rate 1e-5 …]

Prompt and response are tokenized as for the preference losses; only the response is learnt. What comes out is an
ordinary checkpoint folder: the first stage of "SFT, then Mask-DPO" and of FLAME.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.arguments import (
    PairArguments,
    TrainerDefaults,
    Words,
    fill_defaults,
    launched,
    parse_arguments,
)
from factuality_harness.training.checkpoints import checkpoint_to_resume, load_model, load_tokenizer, train_and_save
from factuality_harness.training.mask_dpo.batches import masked_datasets


@dataclass
class SFTArguments(TrainerDefaults, SFTConfig):  # type: ignore[misc]  # as MaskDPOConfig
    """TRL's SFTConfig and what counts of a response. Defaults that differ from TRL's are set here."""

    def __post_init__(self) -> None:
        fill_defaults(self)
        super().__post_init__()
        if self.packing:
            raise HarnessError("packing would lose which tokens are learnt; remove it")


def chosen_side(dataset: Dataset) -> Dataset:
    """Rows `input_ids` and `completion_mask` of the chosen responses, of a dataset of pairs."""
    columns = {"chosen_ids": "input_ids", "chosen_mask": "completion_mask"}
    return dataset.select_columns([*columns]).rename_columns(columns)


def train(
    script_args: PairArguments,
    config: SFTArguments,
    model_args: ModelConfig,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> SFTTrainer:
    """Train on the chosen responses and save to `config.output_dir`; returns the trainer, its model trained.

    Arguments, files written and errors as of `factuality_harness.training.mask_dpo.train.train`.
    """
    resume = checkpoint_to_resume(config.resume_from_checkpoint, config.output_dir or "")
    if tokenizer is None:
        tokenizer = load_tokenizer(model_args.model_name_or_path, config.trust_remote_code)
    datasets, summaries = masked_datasets(
        script_args,
        tokenizer,
        masking="none",
        end_of_turn=config.end_of_turn,
        max_length=config.max_length,
        progress=not config.disable_tqdm,
    )
    if model is None:
        model = load_model(model_args.model_name_or_path, model_args, config.trust_remote_code)
    # The rows are cut to max_length already, with their masks.
    config.max_length = None
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=chosen_side(datasets["train"]),
        eval_dataset=chosen_side(datasets["eval"]) if "eval" in datasets else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        callbacks=[*callbacks],
    )
    pairs = {name: summary.to_dict() for name, summary in summaries.items()}

    def save(output: Path) -> None:
        trainer.save_model(str(output))

    method = {"trainer": "sft", "learning_rate": config.learning_rate, "num_train_epochs": config.num_train_epochs}
    train_and_save(trainer, script_args, model_args, resume=resume, method=method, save=save, pairs=pairs)
    return trainer


def parse(argv: Sequence[str]) -> tuple[PairArguments, SFTArguments, ModelConfig]:
    """Arguments of `train`; see `parse_arguments`."""
    return parse_arguments(SFTArguments, "factuality train sft", argv)


def main(*arguments: Words) -> None:
    """Fine-tune on the chosen responses: `--config RECIPE`, and any setting after it. `--help` lists TRL's and ours.

    The recipe holds fields of PairArguments, SFTArguments (TRL's SFTConfig and more) and TRL's ModelConfig.
    """
    train(*parse(arguments))


if __name__ == "__main__":  # for launchers: `accelerate launch -m factuality_harness.training.sft …`
    launched(main)
