"""Supervised fine-tuning on the chosen responses of preference pairs, with TRL's SFTTrainer.

    python -m training.sft --config FILE.yaml [--learning_rate 1e-5 …]

The file holds fields of PairArguments, SFTArguments (TRL's SFTConfig and more) and TRL's ModelConfig. Prompt and
response are tokenized as for the preference losses; only the response is learnt. What comes out is an ordinary
checkpoint folder: the first stage of "SFT, then Mask-DPO" and of FLAME.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.training.arguments import PairArguments, parse_arguments
from factuality_harness.training.checkpoints import (
    LossCurve,
    checkpoint_to_resume,
    load_model,
    load_tokenizer,
    write_run_manifest,
)
from factuality_harness.training.mask_dpo.batches import cut, masked_files
from factuality_harness.training.mask_dpo.masks import MaskedPair


@dataclass
class SFTArguments(SFTConfig):
    """TRL's SFTConfig and what counts of a response. Defaults that differ from TRL's are set here."""

    end_of_turn: bool = field(default=True, metadata={"help": "Whether end-of-turn tokens are learnt."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute activations in the backward pass: less memory, slower."}
    )

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = not self.fp16 and not self.use_cpu and torch.cuda.is_available()
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False
        super().__post_init__()
        if self.packing:
            raise HarnessError("packing would lose which tokens are learnt; remove it")


def to_sft_dataset(pairs: Sequence[MaskedPair]) -> Dataset:
    """Rows `input_ids` and `completion_mask` of the chosen responses, cut after the last token to learn."""
    rows = [cut(pair.chosen) for pair in pairs]
    return Dataset.from_list([{"input_ids": ids, "completion_mask": mask} for ids, mask in rows])


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

    Arguments, files written and errors as in `training.mask_dpo.train`.
    """
    resume = checkpoint_to_resume(config.resume_from_checkpoint, config.output_dir or "")
    if tokenizer is None:
        tokenizer = load_tokenizer(model_args.model_name_or_path, config.trust_remote_code)
    masked, counts = masked_files(
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
        train_dataset=to_sft_dataset(masked["train"]),
        eval_dataset=to_sft_dataset(masked["eval"]) if "eval" in masked else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        callbacks=[*callbacks],
    )
    output = Path(config.output_dir or ".")
    output.mkdir(parents=True, exist_ok=True)
    trainer.add_callback(LossCurve(output / "loss_curve.jsonl"))
    result = trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(str(output))
    write_run_manifest(
        trainer,
        script_args,
        model_args,
        resumed_from=resume,
        result=result.metrics,
        pairs={name: asdict(count) for name, count in counts.items()},
    )
    return trainer


def parse(argv: list[str] | None = None) -> tuple[PairArguments, SFTArguments, ModelConfig]:
    """Arguments of `train` from a command line. Raises HarnessError for an unreadable file or an unknown key."""
    return parse_arguments(SFTArguments, "python -m training.sft", argv)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    train(*parse(argv))


if __name__ == "__main__":
    sys.exit(main())
