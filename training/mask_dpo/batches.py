"""From preference pairs to batches: masked token rows, little padding, an order that a seed fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.arguments import PairArguments
from factuality_harness.training.checkpoints import main_process, tell
from factuality_harness.training.mask_dpo.masks import MaskedPair, MaskSummary, kept_masks
from factuality_harness.training.mask_dpo.pairs import read_pairs


def masked_datasets(
    script_args: PairArguments, tokenizer: PreTrainedTokenizerBase, *, progress: bool, **options: Any
) -> tuple[dict[str, Dataset], dict[str, MaskSummary]]:
    """Rows (see `to_dataset`) of the files to train on ("train") and, where given, to evaluate on ("eval"), and what
    became of their pairs.

    options: see `masks_or_reasons`. Raises HarnessError when no file is named or one holds no usable pair.
    """
    if not script_args.pairs:
        raise HarnessError("no pairs: set pairs to a file of preference pairs")
    sources: dict[str, tuple[str, int | None]] = {"train": (script_args.pairs, script_args.max_pairs)}
    if script_args.eval_pairs:
        sources["eval"] = (script_args.eval_pairs, None)
    datasets, summaries = {}, {}
    for kind, (file, limit) in sources.items():
        summary = MaskSummary()
        hidden = not (progress and main_process())
        pairs = tqdm(islice(read_pairs(file), limit), desc=f"masks of {file}", unit="pair", disable=hidden)
        kept = list(kept_masks(pairs, tokenizer, summary, **options))
        if not summary.pairs:
            raise HarnessError(f"{file}: holds no pair; make some with `factuality pair`")
        if not kept:
            raise HarnessError(f"{file}: no pair can be trained on ({summary})")
        datasets[kind], summaries[kind] = to_dataset(kept), summary
        tell(f"{file}: {summary}")
    return datasets, summaries


def to_dataset(pairs: Iterable[MaskedPair]) -> Dataset:
    """One `pair_row` per pair."""
    sides = ((pair.chosen, pair.rejected) for pair in pairs)
    return Dataset.from_list([pair_row(won.input_ids, won.mask, lost.input_ids, lost.mask) for won, lost in sides])


def pair_row(
    chosen_ids: Sequence[int], chosen_mask: Sequence[int], rejected_ids: Sequence[int], rejected_mask: Sequence[int]
) -> dict[str, Any]:
    """A dataset's row: token ids (prompt included) and mask of both sides, and `length`, tokens of the longer side.

    Cut after the last counting token: what follows cannot change a causal model's loss.
    """
    chosen, rejected = _last_counting(chosen_mask), _last_counting(rejected_mask)
    return {
        "chosen_ids": list(chosen_ids[:chosen]),
        "chosen_mask": list(chosen_mask[:chosen]),
        "rejected_ids": list(rejected_ids[:rejected]),
        "rejected_mask": list(rejected_mask[:rejected]),
        "length": max(chosen, rejected),
    }


def _last_counting(mask: Sequence[int]) -> int:
    return len(mask) - mask[::-1].index(1)


@dataclass(frozen=True, slots=True)
class PairCollator:
    """Rows to a batch shaped like TRL's: the chosen half, then the rejected half, padded on the right.

    `input_ids` and `completion_mask` (2 x pairs, positions); `ref_chosen_logps` and `ref_rejected_logps` (pairs,)
    where the rows have them.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
        masks = [row["chosen_mask"] for row in rows] + [row["rejected_mask"] for row in rows]
        longest = max(map(len, ids))
        batch = {
            "input_ids": torch.tensor([row + [self.pad_token_id] * (longest - len(row)) for row in ids]),
            "completion_mask": torch.tensor([row + [0] * (longest - len(row)) for row in masks]),
        }
        for key in ("ref_chosen_logps", "ref_rejected_logps"):
            if key in rows[0]:
                batch[key] = torch.tensor([row[key] for row in rows], dtype=torch.float32)
        return batch


class LengthGroupedOrder(Sampler[int]):
    """Row numbers so that every `batch` consecutive ones are of like length; the batches come in random order.

    Like lengths are sought among some 50 batches at a time, drawn anew every epoch. Seed and epoch fix the order, so
    a resumed run and every process of a distributed one see the same. batch: rows of one optimizer step over all
    processes, so the order does not depend on how a step is divided. epoch: asked when an epoch begins; the samplers
    that skip ahead on resuming do not hand `set_epoch` down.
    """

    def __init__(
        self, lengths: Sequence[int], batch: int, *, seed: int, epoch: Callable[[], float], grouped: bool = True
    ) -> None:
        self.lengths, self.batch, self.seed, self.epoch, self.grouped = lengths, batch, seed, epoch, grouped

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.epoch()))
        rows = torch.randperm(len(self.lengths), generator=generator).tolist()
        if not self.grouped:
            yield from rows
            return
        span = self.batch * max(1, min(50, len(rows) // (4 * self.batch)))
        batches = []
        for start in range(0, len(rows), span):
            window = sorted(rows[start : start + span], key=lambda row: self.lengths[row])
            batches += [window[i : i + self.batch] for i in range(0, len(window), self.batch)]
        # A smaller last batch stays last: anywhere else it would shift the borders of all that follow.
        last = batches.pop() if len(batches[-1]) < self.batch else []
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[index]
        yield from last
