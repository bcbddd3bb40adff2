"""Losses and gradients with the weights in pieces over two processes (FSDP2 on gloo) against whole weights.

Accelerate turns FSDP off on the CPU, so PyTorch's `fully_shard` is called here, in the way Accelerate does on GPUs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from factuality_harness.training.mask_dpo.batches import PairCollator, to_dataset
from factuality_harness.training.mask_dpo.logps import (
    CountingPositions,
    counting_lengths,
    length_groups,
    sequence_logps,
)
from factuality_harness.training.mask_dpo.losses import preference_loss
from factuality_harness.training.mask_dpo.masks import MaskedPair, mask_pair
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_model, tiny_pairs, tiny_tokenizer


def loss_of(model: torch.nn.Module, counting: CountingPositions, rows: list[dict]) -> torch.Tensor:
    batch = PairCollator(pad_token_id=256)(rows)
    lengths = counting_lengths(batch["completion_mask"])
    logps = sequence_logps(
        model,
        counting,
        batch["input_ids"],
        batch["completion_mask"],
        groups=length_groups(lengths, 1, 0),
        lengths=lengths,
    )
    reference = [torch.full((len(rows),), value) for value in (-150.0, -170.0)]
    return preference_loss(*logps.chunk(2), *reference, loss_type="sigmoid", beta=0.1).mean()


def compare() -> None:
    """One process of two: half the batch on sharded weights, the whole batch on whole ones."""
    init_process_group("gloo")
    rank = torch.distributed.get_rank()
    pairs = [mask_pair(pair, tiny_tokenizer()) for pair in tiny_pairs(8)]
    rows = list(to_dataset([pair for pair in pairs if isinstance(pair, MaskedPair)]))
    assert len(rows) == 8

    whole, counting = tiny_model(), CountingPositions()
    counting.attach(whole)
    expected = loss_of(whole, counting, rows)
    expected.backward()

    sharded, counting = tiny_model(), CountingPositions()
    counting.attach(sharded)
    mesh = init_device_mesh("cpu", (2,))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    loss = loss_of(sharded, counting, rows[4 * rank : 4 * rank + 4])
    loss.backward()

    mean = loss.detach().clone()
    torch.distributed.all_reduce(mean)
    torch.testing.assert_close(mean / 2, expected.detach(), rtol=0, atol=1e-5)
    for (name, ours), (_, theirs) in zip(sharded.named_parameters(), whole.named_parameters(), strict=True):
        assert type(ours).__name__ == "DTensor", name
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad, rtol=0, atol=1e-5, msg=name)
    destroy_process_group()
    if not rank:
        print("equal")


@pytest.mark.slow
def test_fsdp_has_the_loss_and_gradients_of_whole_weights() -> None:
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29653", __file__],
        env={**os.environ, "PYTHONPATH": f"{root}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal" in done.stdout


if __name__ == "__main__":
    compare()
