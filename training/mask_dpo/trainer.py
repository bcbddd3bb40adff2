"""Mask-DPO and its baselines on TRL's DPOTrainer.

    factuality train mask_dpo --config FILE.yaml [--learning_rate 1e-6 …]

Under `accelerate launch -m factuality_harness.training.mask_dpo` or `torchrun -m …` the same runs distributed. From
Python: `train(PairArguments(…), MaskDPOConfig(…), ModelConfig(…))` of `training/mask_dpo/train.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object, is_peft_model
from datasets import Dataset
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOTrainer
from trl.models.utils import disable_gradient_checkpointing, prepare_deepspeed
from trl.trainer.utils import add_fused_lm_head, use_adapter

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.mask_dpo.batches import LengthGroupedOrder, PairCollator
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.mask_dpo.logps import (
    CountingPositions,
    counting_lengths,
    length_groups,
    sequence_logps,
    sequence_logps_and_kl,
)
from factuality_harness.training.mask_dpo.losses import preference_loss, sepo_loss
from factuality_harness.training.mask_dpo.reference import (
    cache_folder,
    content_key,
    dataset_digest,
    load_columns,
    model_key,
    save_columns,
)

# Padding tokens worth one more forward pass: launching one costs a GPU far more than a CPU.
GROUP_OVERHEAD = {"cpu": 48}
GPU_GROUP_OVERHEAD = 2048


class MaskDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer on masked pairs: the mask says which tokens count, and only their logits are computed.

    train_dataset, eval_dataset: rows of `to_dataset`. With every response token counting and loss `sigmoid` this is
    TRL's DPO. Everything but data, reference values and the loss is TRL's.
    """

    args: MaskDPOConfig
    model: Any
    ref_model: Any
    train_dataset: Any
    processing_class: Any
    _signature_columns: Any
    _precompute_engine: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: MaskDPOConfig,
        *,
        train_dataset: Dataset,
        processing_class: PreTrainedTokenizerBase,
        eval_dataset: Dataset | None = None,
        loaded_from: tuple[str, str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        """loaded_from: checkpoint (and its revision on the hub) whose files hold the reference's weights; a model
        without files is told by its tensors."""
        self._counting = CountingPositions()
        self._loaded_from = loaded_from or (None, None)
        self._model_key = ""
        self._tokens_seen, self._clock = 0.0, time.perf_counter()
        pad = processing_class.pad_token_id
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=PairCollator(processing_class.eos_token_id if pad is None else pad),
            **kwargs,
        )
        self._attach()

    # Data

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [
            "chosen_ids",
            "chosen_mask",
            "rejected_ids",
            "rejected_mask",
            "ref_chosen_logps",
            "ref_rejected_logps",
        ]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroupedOrder:
        args = self.args
        return LengthGroupedOrder(
            self.train_dataset["length"],
            args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            epoch=lambda: self.state.epoch or 0,
            grouped=args.group_by_length,
        )

    # Forward passes

    def _attach(self) -> None:
        """Selection between backbone and head; of TRL's fused head only what the loss needs, and only where it pays.

        Off CUDA that head scores every position and does so twice, so the model's own head is used there.
        """
        for model in (self.model, self.ref_model):
            if model is None:
                continue
            inner = self.accelerator.unwrap_model(model)
            inner = inner.get_base_model() if is_peft_model(inner) else inner
            self._counting.attach(inner)
            inner.__dict__.pop("forward", None)
            if self._fused:
                add_fused_lm_head(inner)

    @property
    def _fused(self) -> bool:
        return self.args.device.type in ("cuda", "xpu") and self.args.preference_loss != "tdpo"

    @property
    def _checkpointing_options(self) -> Any:
        return self.args.gradient_checkpointing_kwargs

    @property
    def _sharded(self) -> bool:
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        most = 1 if self._sharded else self.args.forward_groups
        return length_groups(lengths, most, GROUP_OVERHEAD.get(self.args.device.type, GPU_GROUP_OVERHEAD))

    @contextlib.contextmanager
    def _as_reference(self) -> Iterator[None]:
        """The policy with its adapter off; a reference model of its own needs nothing."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(disable_gradient_checkpointing(self.model, self._checkpointing_options))
            if self.ref_model is None and is_peft_model(self.model):
                adapter = "ref" if "ref" in self.model.peft_config else None
                stack.enter_context(use_adapter(self.accelerator.unwrap_model(self.model), adapter_name=adapter))
            yield

    # Reference

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if self.args.preference_loss == "sepo":
            return dataset
        folder = cache_folder(self.args.reference_cache)
        key = [self._reference_key(dataset) if self.accelerator.is_main_process else ""]
        found = [load_columns(folder, key[0], len(dataset)) if self.accelerator.is_main_process else None]
        broadcast_object_list(found, from_process=0)
        columns = found[0]
        if columns is None:
            columns = self._reference_logps(dataset, name, batch_size)
            if self.accelerator.is_main_process:
                save_columns(folder, key[0], columns)
            self.accelerator.wait_for_everyone()
        for column, values in columns.items():
            dataset = dataset.add_column(column, values)
        return dataset

    def _reference_key(self, dataset: Dataset) -> str:
        model = self.ref_model if self.ref_model is not None else self.model
        self._model_key = self._model_key or model_key(self.accelerator.unwrap_model(model), *self._loaded_from)
        return content_key(
            "reference_logps", self._model_key, str(self.accelerator.mixed_precision), dataset_digest(dataset)
        )

    def _reference_logps(self, dataset: Dataset, name: str, batch_size: int) -> dict[str, list[float]]:
        model: nn.Module = self.ref_model if self.ref_model is not None else self.model
        if self.ref_model is None and self.is_deepspeed_enabled:
            if self._precompute_engine is None:
                self._precompute_engine = prepare_deepspeed(self.model, self.accelerator)
            model = self._precompute_engine
        self._attach()
        order = sorted(range(len(dataset)), key=lambda row: -dataset[row]["length"])
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        # Every process runs as many passes as any other: sharded models need all of them for each.
        mine = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        rounds = -(-len(batches) // self.accelerator.num_processes)
        values: list[tuple[int, float, float]] = []
        training = model.training
        model.eval()
        bar = tqdm(
            total=len(dataset),
            desc=f"reference of {name}",
            unit="pair",
            disable=self.args.disable_tqdm or not self.accelerator.is_main_process,
        )
        with torch.no_grad(), self._as_reference(), self.accelerator.autocast(), bar:
            for index in range(rounds):
                rows = mine[index] if index < len(mine) else batches[0][:1]
                batch = self.data_collator([dataset[row] for row in rows])
                logps = self._logps(
                    model, batch["input_ids"].to(self.args.device), batch["completion_mask"].to(self.args.device)
                )
                if index < len(mine):
                    chosen, rejected = logps.cpu().chunk(2)
                    values += zip(rows, chosen.tolist(), rejected.tolist(), strict=True)
                bar.update(min(len(rows) * self.accelerator.num_processes, len(dataset) - bar.n))
        model.train(training)
        gathered = sorted(gather_object(values))
        return {
            "ref_chosen_logps": [chosen for _, chosen, _ in gathered],
            "ref_rejected_logps": [rejected for _, _, rejected in gathered],
        }

    def _logps(self, model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
        lengths = counting_lengths(mask)
        return sequence_logps(
            model,
            self._counting,
            input_ids,
            mask,
            groups=self._groups(lengths),
            lengths=lengths,
            fused=self._fused,
        )

    # Loss

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's; the clock of `tokens_per_second` starts here."""
        self._tokens_seen, self._clock = 0.0, time.perf_counter()
        return super().train(*args, **kwargs)

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False) -> Tensor:
        if return_outputs:
            raise HarnessError("compute_metrics is not supported: the logits are never all computed")
        args, ids, mask = self.args, inputs["input_ids"], inputs["completion_mask"]
        loss_of = partial(
            preference_loss,
            loss_type=args.preference_loss,
            beta=args.beta,
            label_smoothing=args.label_smoothing,
            dpop_lambda=args.dpop_lambda,
            tdpo_alpha=args.tdpo_alpha,
        )
        tokens = mask[:, 1:].sum(1)
        if args.preference_loss == "tdpo":
            lengths = counting_lengths(mask)
            reference = self.ref_model if self.ref_model is not None else self.model
            logps, ref_logps, divergence = sequence_logps_and_kl(
                model,
                reference,
                self._counting,
                ids,
                mask,
                groups=self._groups(lengths),
                lengths=lengths,
                reference_context=self._as_reference,
            )
            (chosen, rejected), (ref_chosen, ref_rejected) = logps.chunk(2), ref_logps.chunk(2)
            chosen_kl, rejected_kl = divergence.chunk(2)
            losses = loss_of(chosen, rejected, ref_chosen, ref_rejected, chosen_kl=chosen_kl, rejected_kl=rejected_kl)
            rewards = args.beta * (chosen - ref_chosen), args.beta * (rejected - ref_rejected)
        elif args.preference_loss == "sepo":
            chosen, rejected = self._logps(model, ids, mask).chunk(2)
            chosen_tokens, rejected_tokens = tokens.chunk(2)
            losses = sepo_loss(chosen, rejected, chosen_tokens, rejected_tokens, args.sepo_gamma)
            rewards = args.sepo_gamma * chosen / chosen_tokens, args.sepo_gamma * rejected / rejected_tokens
        else:
            chosen, rejected = self._logps(model, ids, mask).chunk(2)
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
            losses = loss_of(chosen, rejected, ref_chosen, ref_rejected)
            rewards = args.beta * (chosen - ref_chosen), args.beta * (rejected - ref_rejected)
        self._note(rewards, (chosen, rejected), tokens, mask)
        return losses.mean()

    @torch.no_grad()
    def _note(self, rewards: tuple[Tensor, Tensor], logps: tuple[Tensor, Tensor], tokens: Tensor, mask: Tensor) -> None:
        """Metrics of a batch, gathered over the processes in one exchange and left on the device until the log."""
        positions = torch.arange(1, mask.size(1) + 1, device=mask.device)
        read = (mask.bool() * positions).amax(1)
        table = torch.stack(
            [*rewards, *logps, *(half.float() for half in tokens.chunk(2)), *(half.float() for half in read.chunk(2))],
            1,
        )
        table = self.accelerator.gather(table.detach())
        won, lost, chosen, rejected, chosen_tokens, rejected_tokens, *lengths = table.unbind(1)
        kept = self._metrics["train" if self.model.training else "eval"]
        kept["rewards/chosen"].append(won.mean())
        kept["rewards/rejected"].append(lost.mean())
        kept["rewards/margins"].append((won - lost).mean())
        kept["rewards/accuracies"].append((won > lost).float().mean())
        kept["logps/chosen"].append(chosen.mean())
        kept["logps/rejected"].append(rejected.mean())
        kept["counting_tokens"].append((chosen_tokens + rejected_tokens).sum())
        if self.model.training:
            self._tokens_seen = self._tokens_seen + (lengths[0] + lengths[1]).sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics gathered since the last log; `tokens_per_second` counts tokens read, padding left out."""
        kept = self._metrics["train" if self.model.training else "eval"]
        for key, values in kept.items():
            kept[key] = [torch.stack(values).mean().item()]
        if self.model.training and kept:
            now = time.perf_counter()
            kept["tokens_per_second"] = [float(self._tokens_seen) / (now - self._clock)]
            self._tokens_seen, self._clock = 0.0, now
        super().log(logs, start_time)
