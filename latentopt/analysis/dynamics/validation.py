"""Checks of what the dynamics need: a piecewise-linear classifier, its inputs, their classes and step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.checks import require_batch
from latentopt.analysis.dynamics.logit_loss import derivative, loss_value
from latentopt.arguments import Values, as_given
from latentopt.classification import Loss
from latentopt.errors import InputError, nonnegative
from latentopt.networks.checks import output_shape
from latentopt.networks.freezing import require_eval
from latentopt.networks.outputs import adapt

CURVED = 1e-6
"""A network is piecewise linear where its second derivative is below this share of its first."""


class Validated(NamedTuple):
    """A classifier with inputs that it takes, and their classes."""

    network: Callable[[Tensor], Tensor]
    x: Tensor  # (B, *shape)
    labels: Tensor  # (B,) long
    classes: int


def validate_classifier(network: Callable[[Tensor], Any], x: Values, labels: Values, loss: Loss) -> Validated:
    """Check network, inputs, labels and loss, and return them with the number of classes; inside `frozen`.

    Raises:
        InputError: ``x`` is not a batch of finite floats that the network takes, it does not return logits of K >= 2
            classes, a label is none of them, it is not piecewise linear, or the loss is not one finite number a sample.
    """
    require_eval(network)
    network, x, given = adapt(network, is_classifier=True), require_batch("x", x), as_given("labels", labels)
    shape = output_shape(network, x[:1], "x")
    if len(shape) != 1 or shape[0] < 2:
        raise InputError("network", "logits (B, K) of K >= 2 classes", f"outputs (B, {', '.join(map(str, shape))})")
    classes = shape[0]
    is_whole = given.shape == x.shape[:1] and not given.is_floating_point() and given.dtype != torch.bool
    if not is_whole or not bool(((given >= 0) & (given < classes)).all()):
        got = f"{given.dtype} of shape {tuple(given.shape)}, {given.tolist()[:8]}"
        raise InputError("labels", f"{len(x)} whole numbers from 0 to {classes - 1}", got)
    labels = given.to(x.device, torch.long)
    _require_piecewise_linear(network, x)
    with torch.no_grad():
        values = loss_value(loss, network(x), labels)
    if values.shape != x.shape[:1] or not bool(values.isfinite().all()):
        raise InputError("loss", f"{len(x)} finite numbers, one a sample", values.flatten().tolist()[:8])
    return Validated(network, x, labels, classes)


def _require_piecewise_linear(network: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Raise `InputError` unless the second derivative of a random combination of the logits is 0 at every sample."""
    expected = "a piecewise-linear network, straight inside each region"
    try:
        second, first = _random_derivatives(network, x)
    except RuntimeError as error:  # an activation without a second derivative in torch
        raise InputError("network", f"{expected}, that torch can differentiate twice", str(error)) from error
    if second > CURVED * first:
        got = f"one whose second derivative is {second:.3g} (GELU, SiLU, tanh, a softmax?)"
        raise InputError("network", expected, got)


def _random_derivatives(network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Return the greatest entries of the second derivative along a random direction, and of the first."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = network(x)
        mix, v = (torch.randn(like.shape[1:], generator=generator, device="cpu").to(like) for like in (z, x))
        first = derivative((z * mix).sum(), x, create_graph=True)
        second = derivative((first * v).sum(), x)
    return second.abs().max().item(), first.abs().max().item()


def per_sample_steps(step: float | Tensor, x: Tensor) -> Tensor:
    """Return the step size (B,) of each sample.

    Raises:
        InputError: one is negative or not finite, or their number differs from that of the samples.
    """
    if not isinstance(step, Tensor):
        nonnegative("step", step)
    a = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    if a.ndim > 1 or (a.ndim and len(a) != len(x)) or not bool((a.isfinite() & (a >= 0)).all()):
        raise InputError("step", f"a finite number >= 0, or {len(x)} of them", a.tolist())
    return a.expand(len(x))
