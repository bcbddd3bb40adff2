"""Muon in float32. PyTorch's own orthogonalises in bfloat16, which a CPU without such instructions computes ten times
slower, and each kind of CPU a little differently."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration (Jordan et al., 2024)
ITERATIONS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T, by Newton-Schulz iteration. Shape (n, rows, columns), in and out."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum whose update of each matrix is orthogonalised; matrices of one shape go together."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    gradient = parameter.grad
                    assert gradient is not None
                    mean = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                    mean.lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(mean, group["momentum"]))
                scale = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for parameter, update in zip(parameters, orthogonalised(torch.stack(updates)), strict=True):
                    parameter.add_(update, alpha=-scale)
