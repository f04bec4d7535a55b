"""How ascent amplifies the gradients of unconfident samples (arXiv 2205.15130).

By the eigen formula the gradient at the end point is ``sum_i (1 + a l_i)^m (v_i . g) v_i``: it grows exponentially
with the eigenvalues, which are greatest where p is spread over classes. Training on the end points weighs samples by
their gradients in the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.ascent import ascent
from latentopt.analysis.dynamics.checks import check, step_sizes
from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.analysis.dynamics.modes import grown_gradient
from latentopt.analysis.dynamics.predict import Local
from latentopt.analysis.dynamics.region import look, pieces
from latentopt.batch_math import sample_norm
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen


@dataclass(frozen=True, eq=False)
class Amplification:
    """Gradient norms of each sample, clean and after the ascent."""

    doubt: Tensor  # (B,) 1 - p_y of the clean sample: 0 is confident
    input_clean: Tensor  # (B,) norm of the loss's gradient in the input
    input_end: Tensor  # (B,)
    input_eigen: Tensor  # (B,) at the end, by the eigen formula
    input_region: Tensor  # (B,) at the end, if no gate flipped
    parameters_clean: Tensor  # (B,) norm of the loss's gradient in the parameters
    parameters_end: Tensor  # (B,)
    top: Tensor  # (B,) the Hessian's largest eigenvalue at the clean sample
    flips: Tensor  # (B,) long, gates that differ at the end


def amplification(
    network: nn.Module, x: Tensor, labels: Tensor, step: float | Tensor, steps: int, loss: Loss = "ce"
) -> Amplification:
    """Gradient norms at the clean samples and after ``steps`` of raw ascent.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`; the network is a module, as its parameters are looked at.
        step, steps: as in `compare_dynamics`. As in adversarial training, one step size for all is the natural choice.

    Raises:
        InputError: as `compare_dynamics`; the network is no module.
    """
    positive("steps", steps, integer=True)
    if not isinstance(network, nn.Module):
        raise InputError("network", "a torch.nn.Module", type(network).__name__)
    with frozen(network):
        classes = check(network, x, labels, loss)
        a = step_sizes(step, x)
        cut = list(pieces(x, classes))
        parts = [_norms(network, x[rows], labels[rows], a[rows], steps, loss, rows.start) for rows in cut]
    return Amplification(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _norms(
    network: nn.Module, x: Tensor, labels: Tensor, a: Tensor, steps: int, loss: Loss, first: int
) -> tuple[Tensor, ...]:
    local = Local(network, x, labels, loss, a)
    *_, end = ascent(network, x, labels, loss, a, steps, first=first)
    return (
        -logits.gradient("ce", local.around.z, labels).gather(1, labels[:, None])[:, 0],
        sample_norm(look(network, x, labels, loss).gradient),
        sample_norm(end.gradient),
        sample_norm(grown_gradient(local.modes("eigen"), a, steps)),
        sample_norm(local.end_gradient(steps)),
        _in_parameters(network, x, labels, loss),
        _in_parameters(network, x + end.delta, labels, loss),
        local.eigen[0][:, 0],
        end.flips,
    )


def _in_parameters(network: nn.Module, x: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Norm (B,) of each sample's gradient in the parameters, taken on copies."""
    copies = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    norms = []
    for one, label in zip(x.split(1), labels.split(1), strict=True):
        with torch.enable_grad():
            value = logits.value(loss, functional_call(network, copies, (one,)), label).sum()
        found = [derivative(value, each) for each in copies.values()]
        norms.append(sample_norm(torch.cat([x.new_zeros(1), *(part.flatten() for part in found)])[None]))
    return torch.cat(norms)
