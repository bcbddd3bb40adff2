"""Preference losses: the reference's values, closed forms, and gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from factuality_harness.training.mask_dpo.losses import LOSS_TYPES, forward_kl, preference_loss, sepo_loss, token_logps

GOLDEN = ("sigmoid", "robust", "hinge", "ipo", "kto_pair", "sppo_hard", "nca_pair")
logps = st.lists(st.floats(-200, 0), min_size=4, max_size=4)


def tensors(*values: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor([v], dtype=torch.float64) for v in values)


@pytest.mark.parametrize("loss_type", GOLDEN)
def test_the_reference_implementations_batch_means(shared_data: Path, loss_type: str) -> None:
    cases = json.loads((shared_data / "golden" / "dpo_losses.json").read_text())
    assert cases
    for case in cases:
        inputs = [
            torch.tensor(case[name], dtype=torch.float64)
            for name in ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
        ]
        loss = preference_loss(*inputs, loss_type=loss_type, beta=case["beta"], label_smoothing=case["label_smoothing"])
        expected = case["mean_loss"][loss_type]
        assert loss.mean().item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert loss.shape == ((64,) if loss_type == "kto_pair" else (32,))


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("sigmoid", math.log(2)),
        ("robust", math.log(2)),
        ("hinge", 1.0),
        ("ipo", 25.0),
        ("kto_pair", 0.5),
        ("sppo_hard", 50.0),
        ("nca_pair", 2 * math.log(2)),
        ("dpop", math.log(2)),
        ("tdpo", math.log(2)),
    ],
)
def test_policy_equal_to_the_reference(loss_type: str, expected: float) -> None:
    zero = torch.zeros(1)
    loss = preference_loss(*tensors(-3, -7, -3, -7), loss_type=loss_type, beta=0.1, chosen_kl=zero, rejected_kl=zero)
    assert loss.mean().item() == pytest.approx(expected)


def test_dpop_punishes_a_chosen_response_that_lost_probability() -> None:
    """By hand: r_w = -0.2, r_l = -1, so beta * (0.8 - 50 * 0.2) = -0.92; without the loss, beta * 1.2."""
    fell = preference_loss(*tensors(-5.2, -8, -5, -7), loss_type="dpop", beta=0.1)
    rose = preference_loss(*tensors(-4.8, -8, -5, -7), loss_type="dpop", beta=0.1)
    assert fell.item() == pytest.approx(math.log1p(math.exp(0.92)))
    assert rose.item() == pytest.approx(math.log1p(math.exp(-0.12)))
    assert rose.item() == preference_loss(*tensors(-4.8, -8, -5, -7), loss_type="sigmoid", beta=0.1).item()


def test_tdpo_shifts_the_margin_by_the_divergences_and_learns_from_the_rejected_one_only() -> None:
    chosen_kl, rejected_kl = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (0.3, 1.1))
    loss = preference_loss(
        *tensors(-4, -8, -5, -7), loss_type="tdpo", beta=0.1, chosen_kl=chosen_kl, rejected_kl=rejected_kl
    )
    logit = 0.1 * (2 - 0.5 * 0.8)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-logit)))
    loss.backward()
    assert chosen_kl.grad is None
    assert rejected_kl.grad is not None
    assert rejected_kl.grad.item() == pytest.approx(0.05 / (1 + math.exp(logit)))


def test_tdpo_needs_divergences_and_names_must_be_known() -> None:
    with pytest.raises(ValueError, match="chosen_kl"):
        preference_loss(*tensors(-4, -8, -5, -7), loss_type="tdpo", beta=0.1)
    with pytest.raises(ValueError, match=r"unknown loss 'dop'.*sigmoid"):
        preference_loss(*tensors(-4, -8, -5, -7), loss_type="dop", beta=0.1)


def test_sepo_compares_means_over_selected_tokens() -> None:
    loss = sepo_loss(torch.tensor([-6.0]), torch.tensor([-8.0]), torch.tensor([3]), torch.tensor([2]), gamma=2.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-4.0)))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_gradients(loss_type: str) -> None:
    torch.manual_seed(1)
    policy = [(-5 + torch.randn(3, dtype=torch.float64)).requires_grad_() for _ in range(2)]
    reference = [-5 + torch.randn(3, dtype=torch.float64) for _ in range(2)]
    kl = [torch.rand(3, dtype=torch.float64) for _ in range(2)]

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return preference_loss(
            chosen,
            rejected,
            *reference,
            loss_type=loss_type,
            beta=0.3,
            label_smoothing=0.1 if loss_type in ("sigmoid", "robust") else 0.0,
            dpop_lambda=2.0,
            chosen_kl=kl[0],
            rejected_kl=kl[1],
        ).sum()

    assert torch.autograd.gradcheck(loss, policy)


@given(logps, st.sampled_from(["sigmoid", "hinge", "ipo", "nca_pair"]))
def test_a_better_rejected_response_never_pays(values: list[float], loss_type: str) -> None:
    """At the policy's own values, more probability for the rejected response does not lower a monotone loss."""
    if loss_type == "ipo":  # a square, monotone only below its target
        values = [values[0], values[0], values[0], values[0]]
    chosen, rejected, ref_chosen, ref_rejected = tensors(*values)
    before = preference_loss(chosen, rejected, ref_chosen, ref_rejected, loss_type=loss_type, beta=0.1)
    after = preference_loss(chosen, rejected + 1, ref_chosen, ref_rejected, loss_type=loss_type, beta=0.1)
    assert after.item() >= before.item()


def test_token_log_probabilities_and_their_gradient() -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 11)).requires_grad_()
    labels, upstream = torch.randint(11, (5,)), torch.randn(5)
    ours = token_logps(logits, labels)
    (gradient,) = torch.autograd.grad(ours, logits, upstream)
    expected = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    (expected_gradient,) = torch.autograd.grad(expected, logits, upstream)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [2, 100])
def test_forward_kl(chunk: int) -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(5, 7, dtype=torch.float32, requires_grad=True), torch.randn(5, 7)
    labels = torch.randint(7, (5,))
    logps, ref_logps, divergence = forward_kl(policy, reference, labels, chunk=chunk)
    pi, ref = torch.distributions.Categorical(logits=policy), torch.distributions.Categorical(logits=reference)
    expected = torch.distributions.kl_divergence(ref, pi)
    torch.testing.assert_close(divergence, expected)
    torch.testing.assert_close(logps, pi.log_prob(labels))
    torch.testing.assert_close(ref_logps, ref.log_prob(labels))
    (gradient,) = torch.autograd.grad(divergence.sum(), policy)
    torch.testing.assert_close(gradient, pi.probs - ref.probs)
    assert (divergence >= 0).all()
