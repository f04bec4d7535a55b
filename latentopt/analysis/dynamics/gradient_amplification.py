"""Amplification of the gradients of unconfident samples by gradient ascent (arXiv 2205.15130).

By the eigen formula the gradient at the end point is ``sum_i (1 + a l_i)^m (v_i . g) v_i``: it grows exponentially
with the eigenvalues, which are greatest where p is spread over classes. Training on the end points weighs samples by
their gradients in the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentopt.analysis.dynamics.ascent import ascend
from latentopt.analysis.dynamics.linear_region import loss_at_input, slices_in_memory
from latentopt.analysis.dynamics.logit_loss import derivative, loss_gradient, loss_value
from latentopt.analysis.dynamics.prediction import RegionFormulas
from latentopt.analysis.dynamics.validation import per_sample_steps, validate_classifier
from latentopt.arguments import Values
from latentopt.batch_math import sample_norm
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.networks.weights import call_with_weights
from latentopt.results import SavedResult


@dataclass(frozen=True, eq=False, repr=False)
class Amplification(SavedResult):
    """Gradient norms of each sample, clean and after the ascent."""

    doubt: Tensor  # (B,) 1 - p_y of the clean sample: 0 is confident
    input_clean: Tensor  # (B,) norm of the loss's gradient in the input
    input_end: Tensor  # (B,)
    input_eigen: Tensor  # (B,) at the end, by the eigen formula
    input_region: Tensor  # (B,) at the end, if no gate flipped
    parameters_clean: Tensor  # (B,) norm of the loss's gradient in the parameters
    parameters_end: Tensor  # (B,)
    top: Tensor  # (B,) the Hessian's largest eigenvalue at the clean sample
    flips: Tensor  # (B,) long, number of gates that differ at the end


def amplification(
    network: nn.Module, x: Values, labels: Values, step: float | Tensor, steps: int, loss: Loss = "ce"
) -> Amplification:
    """Measure gradient norms at the clean samples and after ``steps`` of raw gradient ascent.

    Args:
        network: as in `input_hessian_eigs`, and a module, for the gradients in its parameters.
        x, labels, loss: as in `input_hessian_eigs`.
        step: as in `compare_dynamics`; one step size for all samples, as adversarial training has it, is natural.
        steps: as in `compare_dynamics`.

    Returns:
        Norms (B,) in the input and in the parameters.

    Raises:
        InputError: as `compare_dynamics`; the network is no module.
    """
    positive("steps", steps, integer=True)
    if not isinstance(network, nn.Module):
        raise InputError("network", "a torch.nn.Module", type(network).__name__)
    with frozen(network):
        _, x, labels, classes = validate_classifier(network, x, labels, loss)
        a = per_sample_steps(step, x)
        parts = [
            _measure(network, x[rows], labels[rows], a[rows], steps, loss, rows.start)
            for rows in slices_in_memory(x, classes)
        ]
    return Amplification(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _measure(
    module: nn.Module, x: Tensor, labels: Tensor, a: Tensor, steps: int, loss: Loss, first: int
) -> tuple[Tensor, ...]:
    network = adapt(module, is_classifier=True)
    formulas = RegionFormulas(network, x, labels, loss, a)
    *_, end = ascend(network, x, labels, loss, a, steps, first=first)
    return (
        -loss_gradient("ce", formulas.region.z, labels).gather(1, labels[:, None])[:, 0],
        sample_norm(loss_at_input(network, x, labels, loss).gradient),
        sample_norm(end.gradient),
        sample_norm(formulas.model("eigen").end_gradient(a, steps)),
        sample_norm(formulas.end_gradient(steps)),
        _parameter_norms(module, x, labels, loss),
        _parameter_norms(module, x + end.delta, labels, loss),
        formulas.eigen[0][:, 0],
        end.flips,
    )


def _parameter_norms(module: nn.Module, x: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Return the norm (B,) of each sample's gradient in the parameters, taken on copies."""
    copies = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
    network = adapt(lambda x: call_with_weights(module, copies, x), is_classifier=True)
    norms = []
    for sample, label in zip(x.split(1), labels.split(1), strict=True):
        with torch.enable_grad():
            value = loss_value(loss, network(sample), label).sum()
        gradients = [derivative(value, copy).flatten() for copy in copies.values()]
        norms.append(sample_norm(torch.cat([x.new_zeros(1), *gradients])[None]))
    return torch.cat(norms)
