"""Log-probabilities of the tokens that count, doing no work that cannot change them.

Vocabulary logits are computed only at positions that predict a counting token; sequences are cut after their last
counting token and run in groups of like length. Right padding needs no attention mask in a causal model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from factuality_harness.training.mask_dpo.losses import forward_kl, token_logps


class CountingPositions:
    """Lets a causal language model's head see chosen positions only.

    Inside `only(where)` the backbone of an attached model returns the hidden states at `where`, a boolean
    (batch, positions), as one row (1, chosen positions, width); outside it nothing changes.
    """

    def __init__(self) -> None:
        self._where: Tensor | None = None
        self._backbones: list[nn.Module] = []

    def attach(self, model: PreTrainedModel) -> None:
        """Put the selection between the model's backbone and its head, once."""
        backbone = model.base_model
        if not any(backbone is known for known in self._backbones):
            backbone.register_forward_hook(self._select)
            self._backbones.append(backbone)

    @contextmanager
    def only(self, where: Tensor) -> Iterator[None]:
        """Restrict the forward passes inside the block to `where`."""
        self._where = where
        try:
            yield
        finally:
            self._where = None

    def _select(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if self._where is not None:
            output.last_hidden_state = output.last_hidden_state[self._where].unsqueeze(0)
        return output


def length_groups(lengths: Sequence[int], most: int, overhead: int) -> list[list[int]]:
    """Split sequences into at most `most` groups of like length, longest first, so that padding costs least.

    The cost of a group is rows x longest row + `overhead` tokens. Returns row numbers; every row is in one group.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    if most <= 1 or len(order) <= 1:
        return [order]
    # best[k][end]: least cost of the first `end` rows in k groups, and where the last of them starts
    best: list[list[tuple[float, int]]] = [[(0.0, 0)] + [(float("inf"), 0)] * len(order)]
    for _ in range(min(most, len(order))):
        row: list[tuple[float, int]] = [(float("inf"), 0)]
        for end in range(1, len(order) + 1):
            row.append(
                min(
                    (best[-1][start][0] + (end - start) * lengths[order[start]] + overhead, start)
                    for start in range(end)
                )
            )
        best.append(row)
    count = min(range(1, len(best)), key=lambda k: best[k][-1][0])
    groups, end = [], len(order)
    for k in range(count, 0, -1):
        start = best[k][end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]


def counting_lengths(mask: Tensor) -> list[int]:
    """Number of tokens up to and including the last counting one, for every row of a (batch, positions) mask."""
    positions = torch.arange(1, mask.size(1) + 1, device=mask.device)
    return (mask.bool() * positions).amax(1).tolist()


def sequence_logps(
    model: nn.Module,
    counting: CountingPositions,
    input_ids: Tensor,
    mask: Tensor,
    *,
    groups: Sequence[Sequence[int]],
    lengths: Sequence[int],
    fused: bool = False,
) -> Tensor:
    """Sum of log pi over the counting tokens of every row, (batch,), nats, float32. input_ids, mask (batch, positions).

    fused: the model has TRL's fused head (`add_fused_lm_head`), which never holds a whole row of logits.
    """
    summed = []
    for ids, where, labels in _parts(input_ids, mask, groups, lengths):
        with counting.only(where):
            if fused:
                output = model(input_ids=ids, shift_labels=labels.unsqueeze(0), fused_lm_head=True, use_cache=False)
                logps = output.log_probs.squeeze(0).float()
            else:
                logps = token_logps(model(input_ids=ids, use_cache=False).logits.squeeze(0), labels)
        summed.append(_row_sums(logps, where))
    return _in_order(summed, groups)


def sequence_logps_and_kl(
    model: nn.Module,
    reference: nn.Module,
    counting: CountingPositions,
    input_ids: Tensor,
    mask: Tensor,
    *,
    groups: Sequence[Sequence[int]],
    lengths: Sequence[int],
    reference_context: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over counting tokens of log pi, log ref and KL(ref || pi), each (batch,); see `sequence_logps`.

    reference_context: makes a context in which `reference` is the reference model (an adapter disabled, say).
    """
    summed: list[tuple[Tensor, Tensor, Tensor]] = []
    for ids, where, labels in _parts(input_ids, mask, groups, lengths):
        with counting.only(where):
            with torch.no_grad(), reference_context():
                reference_logits = reference(input_ids=ids, use_cache=False).logits.squeeze(0)
            logits = model(input_ids=ids, use_cache=False).logits.squeeze(0)
        policy, ref, divergence = forward_kl(logits, reference_logits, labels)
        summed.append((_row_sums(policy, where), _row_sums(ref, where), _row_sums(divergence, where)))
    policy, ref, divergence = (_in_order(list(column), groups) for column in zip(*summed, strict=True))
    return policy, ref, divergence


def counting_token_logps(
    model: nn.Module,
    counting: CountingPositions,
    input_ids: Tensor,
    mask: Tensor,
) -> list[Tensor]:
    """log pi of every counting token, one tensor (counting tokens,) a row, in token order."""
    where = mask[:, 1:].bool()
    with counting.only(where):
        logits = model(input_ids=input_ids[:, :-1], use_cache=False).logits.squeeze(0)
    return list(token_logps(logits, input_ids[:, 1:][where]).split(where.sum(1).tolist()))


def _parts(
    input_ids: Tensor, mask: Tensor, groups: Sequence[Sequence[int]], lengths: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for group in groups:
        rows = torch.tensor(group, device=input_ids.device)
        longest = max(lengths[row] for row in group)
        ids = input_ids[rows, :longest]
        where = mask[rows, 1:longest].bool()
        # The last counting token is only a label: the model need not read it.
        yield ids[:, :-1], where, ids[:, 1:][where]


def _row_sums(values: Tensor, where: Tensor) -> Tensor:
    return values.new_zeros(where.shape).masked_scatter(where, values).sum(1)


def _in_order(parts: list[Tensor], groups: Sequence[Sequence[int]]) -> Tensor:
    rows = torch.tensor([row for group in groups for row in group], device=parts[0].device)
    return torch.cat(parts)[rows.argsort()]
