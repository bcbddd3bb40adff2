"""Token selection of SePO (arXiv 2408.13518): an oracle trained by DPO scores every token, only key tokens train.

The reward of a token is log oracle - log ref, ref being the model that training starts from. The best share of the
chosen and the worst share of the rejected tokens stay in the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from factuality_harness.training.mask_dpo.batches import PairCollator, pair_row
from factuality_harness.training.mask_dpo.logps import CountingPositions, counting_token_logps

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
    dataset: Dataset, scores: tuple[Scores, Scores], chosen_share: float, rejected_share: float
) -> tuple[Dataset, Selection]:
    """Rows whose masks hold key tokens only, and how many those are. scores: of chosen, of rejected tokens."""
    rows = []
    for row, chosen, rejected in zip(dataset, *scores, strict=True):
        chosen_mask = select_share(row["chosen_mask"], chosen, chosen_share, best=True)
        rejected_mask = select_share(row["rejected_mask"], rejected, rejected_share, best=False)
        rows.append(pair_row(row["chosen_ids"], chosen_mask, row["rejected_ids"], rejected_mask))
    selected = Dataset.from_list(rows)

    def counting(side: str) -> tuple[int, int]:
        before, after = (sum(map(sum, of[f"{side}_mask"])) for of in (dataset, selected))
        return before, after

    return selected, Selection(*counting("chosen"), *counting("rejected"))


@torch.no_grad()
def token_rewards(
    dataset: Dataset,
    models: Sequence[Callable[[], PreTrainedModel]],
    device: torch.device,
    batch_size: int,
    progress: bool = True,
) -> tuple[Scores, Scores]:
    """log oracle - log ref of every counting token of every row, nats: chosen, then rejected, in the rows' order.

    models: open the oracle and the reference, which are on the device one after the other.
    """

    def scored(model: Any) -> tuple[Scores, Scores]:
        return _token_logps(dataset, model.to(device).eval(), device, batch_size, progress)

    good, plain = (scored(opened()) for opened in models)
    chosen, rejected = (
        [[a - b for a, b in zip(*row, strict=True)] for row in zip(*side, strict=True)]
        for side in zip(good, plain, strict=True)
    )
    return chosen, rejected


def _token_logps(
    dataset: Dataset, model: PreTrainedModel, device: torch.device, batch_size: int, progress: bool
) -> tuple[Scores, Scores]:
    order = sorted(range(len(dataset)), key=lambda row: dataset[row]["length"], reverse=True)
    collate, counting = PairCollator(pad_token_id=0), CountingPositions()
    counting.attach(model)
    logps: tuple[Scores, Scores] = ([[] for _ in order], [[] for _ in order])
    with tqdm(total=len(dataset), desc="token scores", unit="pair", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = {k: v.to(device) for k, v in collate([dataset[row] for row in rows]).items()}
            found = counting_token_logps(model, counting, batch["input_ids"], batch["completion_mask"])
            values = [v.tolist() for v in found]
            for side, of_side in zip(logps, (values[: len(rows)], values[len(rows) :]), strict=True):
                for row, value in zip(rows, of_side, strict=True):
                    side[row] = value
            bar.update(len(rows))
    return logps
