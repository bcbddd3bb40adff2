"""From preference pairs to batches: masked token rows, little padding, an order that a seed fixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
from factuality_harness.training.mask_dpo.masks import COUNTING, MaskedPair, MaskedResponse, mask_pair
from factuality_harness.training.mask_dpo.pairs import Pair, read_pairs


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What became of a file's pairs. dropped: pairs by reason. tokens: counting tokens of the kept pairs."""

    read: int
    kept: int
    tokens: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = "".join(f"; {count} dropped: {reason}" for reason, count in self.dropped.items())
        return f"{self.kept} of {self.read} pairs kept, {self.tokens} counting tokens{reasons}"


def cut(response: MaskedResponse) -> tuple[list[int], list[int]]:
    """Token ids and mask up to the last counting token: what follows cannot change a causal model's loss."""
    end = len(response.mask) - response.mask[::-1].index(1)
    return list(response.input_ids[:end]), list(response.mask[:end])


def mask_pairs(
    pairs: Iterable[Pair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    masking: str,
    end_of_turn: bool,
    max_length: int | None,
    name: str,
    progress: bool = True,
) -> tuple[list[MaskedPair], PairCounts]:
    """Masked token rows of all pairs, and how many were dropped for which reason.

    name: what to call the source in messages. Raises HarnessError when no pair is left.
    """
    kept: list[MaskedPair] = []
    read, tokens = 0, 0
    dropped: Counter[str] = Counter()
    for pair in tqdm(pairs, desc=f"masks of {name}", unit="pair", disable=not progress):
        read += 1
        masked = mask_pair(pair, tokenizer, masking=masking, end_of_turn=end_of_turn, max_length=max_length)
        if masked is None:
            dropped[_why(pair, masking)] += 1
            continue
        kept.append(masked)
        tokens += sum(masked.chosen.mask) + sum(masked.rejected.mask)
    counts = PairCounts(read, len(kept), tokens, dict(dropped))
    if not read:
        raise HarnessError(f"{name}: holds no pair; make some with `factuality pair`")
    if not kept:
        raise HarnessError(f"{name}: no pair can be trained on ({counts})")
    return kept, counts


def masked_files(
    script_args: PairArguments, tokenizer: PreTrainedTokenizerBase, *, progress: bool, **options: Any
) -> tuple[dict[str, list[MaskedPair]], dict[str, PairCounts]]:
    """Masked pairs and counts of the files to train on ("train") and, where given, to evaluate on ("eval").

    options: see `mask_pairs`. Raises HarnessError when no file is named or one holds no usable pair.
    """
    if not script_args.pairs:
        raise HarnessError("no pairs: set pairs to a file of preference pairs")
    sources = {"train": islice(read_pairs(script_args.pairs), script_args.max_pairs)}
    if script_args.eval_pairs:
        sources["eval"] = islice(read_pairs(script_args.eval_pairs), None)
    names = {"train": script_args.pairs, "eval": script_args.eval_pairs or ""}
    masked, counts = {}, {}
    for kind, pairs in sources.items():
        masked[kind], counts[kind] = mask_pairs(
            pairs, tokenizer, name=names[kind], progress=progress and main_process(), **options
        )
        tell(f"{names[kind]}: {counts[kind]}")
    return masked, counts


def _why(pair: Pair, masking: str) -> str:
    if masking == "sentences":
        if not any(label in COUNTING["chosen"] for label in pair.chosen.labels):
            return "no correct sentence in the chosen response"
        if not any(label in COUNTING["rejected"] for label in pair.rejected.labels):
            return "no wrong sentence in the rejected response"
    return "nothing that counts within max_length"


def to_dataset(pairs: Sequence[MaskedPair]) -> Dataset:
    """Rows `chosen_ids`, `chosen_mask`, `rejected_ids`, `rejected_mask` (prompt included), and `length` in tokens."""
    rows = []
    for pair in pairs:
        (chosen_ids, chosen_mask), (rejected_ids, rejected_mask) = cut(pair.chosen), cut(pair.rejected)
        rows.append(
            {
                "chosen_ids": chosen_ids,
                "chosen_mask": chosen_mask,
                "rejected_ids": rejected_ids,
                "rejected_mask": rejected_mask,
                "length": max(len(chosen_ids), len(rejected_ids)),
            }
        )
    return Dataset.from_list(rows)


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
