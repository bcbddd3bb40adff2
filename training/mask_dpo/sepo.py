"""Token selection of SePO (arXiv 2408.13518): an oracle trained by DPO scores every token, only key tokens train.

The reward of a token is log oracle - log ref, ref being the model that training starts from. The best share of the
chosen and the worst share of the rejected tokens stay in the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from factuality_harness.training.mask_dpo.batches import PairCollator, to_dataset
from factuality_harness.training.mask_dpo.logps import CountingPositions, counting_token_logps
from factuality_harness.training.mask_dpo.masks import MaskedPair, MaskedResponse
from factuality_harness.training.mask_dpo.reference import load_columns, save_columns

Scores = list[list[float]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Counting tokens of all pairs before and after the selection."""

    chosen_before: int
    chosen_after: int
    rejected_before: int
    rejected_after: int

    def __str__(self) -> str:
        return (
            f"{self.chosen_after} of {self.chosen_before} chosen tokens kept "
            f"({self.chosen_after / self.chosen_before:.1%}), {self.rejected_after} of {self.rejected_before} "
            f"rejected ones ({self.rejected_after / self.rejected_before:.1%})"
        )


def select_share(mask: Sequence[int], scores: Sequence[float], share: float, *, best: bool) -> tuple[int, ...]:
    """The mask with only a share of its counting tokens left: the best or the worst by score, at least one.

    scores: one for every counting token, in order. Of equal scores the earlier token wins.
    """
    counting = [position for position, counts in enumerate(mask) if counts]
    keep = max(1, round(share * len(counting)))
    ranked = sorted(range(len(counting)), key=lambda i: (-scores[i] if best else scores[i], i))
    kept = {counting[i] for i in ranked[:keep]}
    return tuple(int(position in kept) for position in range(len(mask)))


def select_tokens(
    pairs: Sequence[MaskedPair], scores: tuple[Scores, Scores], chosen_share: float, rejected_share: float
) -> tuple[list[MaskedPair], Selection]:
    """Pairs whose masks hold key tokens only, and how many those are. scores: of chosen, of rejected tokens."""
    selected = []
    for pair, chosen, rejected in zip(pairs, *scores, strict=True):
        chosen_mask = select_share(pair.chosen.mask, chosen, chosen_share, best=True)
        rejected_mask = select_share(pair.rejected.mask, rejected, rejected_share, best=False)
        selected.append(MaskedPair(replace(pair.chosen, mask=chosen_mask), replace(pair.rejected, mask=rejected_mask)))

    def count(sides: Sequence[MaskedResponse]) -> int:
        return sum(sum(side.mask) for side in sides)

    return selected, Selection(
        count([p.chosen for p in pairs]),
        count([p.chosen for p in selected]),
        count([p.rejected for p in pairs]),
        count([p.rejected for p in selected]),
    )


def cached_scores(
    pairs: Sequence[MaskedPair],
    open_models: Callable[[], tuple[PreTrainedModel, PreTrainedModel]],
    *,
    folder: Path,
    key: str,
    device: torch.device,
    batch_size: int,
    progress: bool = True,
) -> tuple[Scores, Scores]:
    """Rewards of all counting tokens, from the cache when `key` is there, else by running oracle and reference.

    open_models: gives (oracle, reference); called only when something must be computed.
    """
    columns = load_columns(folder, key, len(pairs))
    if columns is None:
        oracle, reference = (model.to(device).eval() for model in open_models())  # type: ignore[arg-type]
        chosen, rejected = token_rewards(pairs, oracle, reference, device, batch_size, progress)
        columns = {"chosen": chosen, "rejected": rejected}
        save_columns(folder, key, columns)
    return columns["chosen"], columns["rejected"]


@torch.no_grad()
def token_rewards(
    pairs: Sequence[MaskedPair],
    oracle: PreTrainedModel,
    reference: PreTrainedModel,
    device: torch.device,
    batch_size: int,
    progress: bool = True,
) -> tuple[Scores, Scores]:
    """log oracle - log ref of every counting token of every pair, nats: chosen, then rejected, in the pairs' order."""
    dataset = to_dataset(pairs)
    order = sorted(range(len(pairs)), key=lambda row: dataset[row]["length"], reverse=True)
    collate, counting = PairCollator(pad_token_id=0), CountingPositions()
    for model in (oracle, reference):
        counting.attach(model)
    scores: tuple[Scores, Scores] = ([[] for _ in pairs], [[] for _ in pairs])
    with tqdm(total=len(pairs), desc="token rewards", unit="pair", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = {k: v.to(device) for k, v in collate([dataset[row] for row in rows]).items()}
            both = [
                counting_token_logps(model, counting, batch["input_ids"], batch["completion_mask"])
                for model in (oracle, reference)
            ]
            rewards = [(good - plain).tolist() for good, plain in zip(*both, strict=True)]
            for side, values in zip(scores, (rewards[: len(rows)], rewards[len(rows) :]), strict=True):
                for row, value in zip(rows, values, strict=True):
                    side[row] = value
            bar.update(len(rows))
    return scores
