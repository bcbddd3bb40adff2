"""Preference losses: one function a loss, from sequence log-probabilities to one loss a pair.

Notation: w is the chosen and l the rejected response, pi the policy and ref the reference, log-probabilities in nats
summed over the tokens that count, r = log pi - log ref.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils.checkpoint import checkpoint

LOSS_TYPES = ("sigmoid", "robust", "hinge", "ipo", "kto_pair", "sppo_hard", "nca_pair", "dpop", "tdpo")


def preference_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    loss_type: str,
    beta: float,
    label_smoothing: float = 0.0,
    dpop_lambda: float = 50.0,
    tdpo_alpha: float = 0.5,
    chosen_kl: Tensor | None = None,
    rejected_kl: Tensor | None = None,
) -> Tensor:
    """Loss of every pair, shape (pairs,); `kto_pair` gives (2 * pairs,), the chosen half first. Inputs (pairs,).

    Summed log-probabilities over masked tokens make this Mask-DPO (arXiv 2503.02846), over all response tokens DPO
    and its kin. chosen_kl, rejected_kl: `tdpo` only, the sequence KL of `forward_kl` summed over positions.
    Raises ValueError for an unknown loss_type, or `tdpo` without its divergences.
    """
    chosen = policy_chosen_logps - reference_chosen_logps
    rejected = policy_rejected_logps - reference_rejected_logps
    match loss_type:
        case "sigmoid":
            return sigmoid_loss(chosen - rejected, beta, label_smoothing)
        case "robust":
            return robust_loss(chosen - rejected, beta, label_smoothing)
        case "hinge":
            return hinge_loss(chosen - rejected, beta)
        case "ipo":
            return ipo_loss(chosen - rejected, beta)
        case "kto_pair":
            return kto_pair_loss(chosen, rejected, beta)
        case "sppo_hard":
            return sppo_hard_loss(chosen, rejected, beta)
        case "nca_pair":
            return nca_pair_loss(chosen, rejected, beta)
        case "dpop":
            return dpop_loss(chosen, rejected, beta, dpop_lambda)
        case "tdpo":
            if chosen_kl is None or rejected_kl is None:
                raise ValueError("tdpo needs chosen_kl and rejected_kl")
            return tdpo_loss(chosen, rejected, chosen_kl, rejected_kl, beta, tdpo_alpha)
    raise ValueError(f"unknown loss {loss_type!r}; choose one of {', '.join(LOSS_TYPES)}")


def sigmoid_loss(margin: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """DPO, arXiv 2305.18290 eq. 7: -log sigmoid(beta * (r_w - r_l)).

    label_smoothing: share of flipped labels assumed by conservative DPO (ericmitchell.ai/cdpo.pdf).
    """
    return -(1 - label_smoothing) * logsigmoid(beta * margin) - label_smoothing * logsigmoid(-beta * margin)


def robust_loss(margin: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO, arXiv 2403.00409: unbiased when a share `label_smoothing` < 0.5 of the labels is flipped."""
    straight = (1 - label_smoothing) * logsigmoid(beta * margin)
    flipped = label_smoothing * logsigmoid(-beta * margin)
    return (flipped - straight) / (1 - 2 * label_smoothing)


def hinge_loss(margin: Tensor, beta: float) -> Tensor:
    """SLiC-HF, arXiv 2305.10425, in the form of arXiv 2309.06657: max(0, 1 - beta * (r_w - r_l))."""
    return (1 - beta * margin).relu()


def ipo_loss(margin: Tensor, beta: float) -> Tensor:
    """IPO, arXiv 2310.12036 eq. 17: (r_w - r_l - 1 / (2 beta))^2, not divided by the lengths."""
    return (margin - 1 / (2 * beta)).square()


def kto_pair_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """KTO (arXiv 2402.01306) on pairs: each half against the batch mean of the other, which stands for the KL.

    Shape (2 * pairs,).
    """
    chosen_kl = chosen.mean().clamp(min=0)
    rejected_kl = rejected.mean().clamp(min=0)
    return torch.cat((1 - (beta * (chosen - rejected_kl)).sigmoid(), 1 - (beta * (chosen_kl - rejected)).sigmoid()))


def sppo_hard_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """SPPO, arXiv 2405.00675 eq. 4.7 with win probabilities 1 and 0: (r_w - 1/(2 beta))^2 + (r_l + 1/(2 beta))^2."""
    return (chosen - 0.5 / beta).square() + (rejected + 0.5 / beta).square()


def nca_pair_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """NCA on pairs, arXiv 2402.05369 with two responses."""
    won, lost = beta * chosen, beta * rejected
    return -logsigmoid(won) - 0.5 * logsigmoid(-won) - 0.5 * logsigmoid(-lost)


def dpop_loss(chosen: Tensor, rejected: Tensor, beta: float, dpop_lambda: float = 50.0) -> Tensor:
    """DPO-Positive, arXiv 2402.13228: the margin less dpop_lambda * max(0, -r_w), so that pi(y_w) cannot fall."""
    return -logsigmoid(beta * (chosen - rejected - dpop_lambda * (-chosen).relu()))


def tdpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_kl: Tensor, rejected_kl: Tensor, beta: float, tdpo_alpha: float = 0.5
) -> Tensor:
    """TDPO2, arXiv 2404.11999: the margin less tdpo_alpha * (SeqKL_l - SeqKL_w), no gradient through SeqKL_w."""
    return -logsigmoid(beta * (chosen - rejected - tdpo_alpha * (rejected_kl - chosen_kl.detach())))


def sepo_loss(
    chosen_logps: Tensor, rejected_logps: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, gamma: float
) -> Tensor:
    """SePO, arXiv 2408.13518: -log sigmoid(gamma * (mean log pi over selected tokens of w, less that of l)), (pairs,).

    *_logps: policy log-probabilities summed over the selected tokens; *_tokens: how many there are. No reference.
    """
    return -logsigmoid(gamma * (chosen_logps / chosen_tokens - rejected_logps / rejected_tokens))


class _TokenLogProbs(torch.autograd.Function):
    """log softmax(logits)[label], keeping one vocabulary-sized tensor where autograd's own route keeps three."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        total = logits.float().logsumexp(-1)
        ctx.save_for_backward(logits, labels, total)
        return logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1).float() - total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        logits, labels, total = ctx.saved_tensors
        scale = upstream[0].float().unsqueeze(-1)
        gradient = logits.float().sub(total.unsqueeze(-1)).exp_().mul_(-scale)
        gradient.scatter_add_(-1, labels.unsqueeze(-1), scale)
        return gradient.to(logits.dtype), None


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of every label in nats, float32. logits (tokens, vocabulary), labels (tokens,)."""
    return _TokenLogProbs.apply(logits, labels)


def forward_kl(
    policy_logits: Tensor, reference_logits: Tensor, labels: Tensor, chunk: int = 256
) -> tuple[Tensor, Tensor, Tensor]:
    """Policy and reference log-probabilities of the labels, and KL(ref || pi), each (tokens,), float32, nats.

    The position term of SeqKL in arXiv 2404.11999. Logits (tokens, vocabulary); `chunk` tokens at a time, and
    the vocabulary-sized intermediates are computed again in the backward pass.
    """

    def terms(policy: Tensor, reference: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pi, ref = policy.float().log_softmax(-1), reference.float().log_softmax(-1)
        wanted = label.unsqueeze(-1)
        return pi.gather(-1, wanted).squeeze(-1), ref.gather(-1, wanted).squeeze(-1), (ref.exp() * (ref - pi)).sum(-1)

    parts = [
        checkpoint(terms, *part, use_reentrant=False)
        for part in zip(policy_logits.split(chunk), reference_logits.split(chunk), labels.split(chunk), strict=True)
    ]
    policy, reference, divergence = (torch.cat(column) for column in zip(*parts, strict=True))
    return policy, reference, divergence
