"""What the analysis of a perturbation's dynamics needs: a piecewise-linear classifier, its inputs, their classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.classification import Loss
from latentopt.errors import InputError, nonnegative
from latentopt.networks.checks import output_shape
from latentopt.networks.freezing import require_eval

CURVED = 1e-6
"""A network is piecewise linear where its second derivative is under so much of its slope."""


def check(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss) -> int:
    """The number of classes K; within `latentopt.networks.freezing.frozen`.

    Raises:
        InputError: ``x`` is not a batch of finite floats that the network takes, it does not return logits of K >= 2
            classes, a label is none of them, it is not piecewise linear, or the loss is not one finite number a sample.
    """
    require_eval(network)
    if not x.is_floating_point() or x.ndim < 2 or not len(x):
        raise InputError("x", "a batch of inputs (B, *shape), floats", f"{x.dtype} of shape {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise InputError("x", "finite inputs", f"{int((~x.isfinite()).sum())} numbers that are not")
    shape = output_shape(network, x[:1], "x")
    if len(shape) != 1 or shape[0] < 2:
        raise InputError("network", "logits (B, K) of K >= 2 classes", f"outputs (B, {', '.join(map(str, shape))})")
    if labels.shape != x.shape[:1] or labels.dtype != torch.long or not bool(_known(labels, shape[0]).all()):
        came = f"{labels.dtype} of shape {tuple(labels.shape)}, {labels.tolist()[:8]}"
        raise InputError("labels", f"{len(x)} whole numbers (long) from 0 to {shape[0] - 1}", came)
    _require_piecewise_linear(network, x)
    with torch.no_grad():
        values = logits.value(loss, network(x), labels)
    if values.shape != x.shape[:1] or not bool(values.isfinite().all()):
        raise InputError("loss", f"{len(x)} finite numbers, one a sample", values.flatten().tolist()[:8])
    return shape[0]


def _known(labels: Tensor, classes: int) -> Tensor:
    return (labels >= 0) & (labels < classes)


def _require_piecewise_linear(network: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """The second derivative of a random combination of the logits, along a random direction, is 0 at every sample."""
    expected = "a piecewise-linear network, straight inside each region"
    try:
        bend, slope = _bend(network, x)
    except RuntimeError as error:  # an activation without a second derivative in torch
        raise InputError("network", f"{expected}, that torch can differentiate twice", str(error)) from error
    if bend > CURVED * slope:
        came = f"one whose second derivative is {bend:.3g} (GELU, SiLU, tanh, a softmax?)"
        raise InputError("network", expected, came)


def _bend(network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """The greatest entries of that second derivative and of the first."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        z = network(at)
        mix, v = (torch.randn(each.shape[1:], generator=generator).to(each) for each in (z, at))
        slope = derivative((z * mix).sum(), at, graph=True)
        bend = derivative((slope * v).sum(), at)
    return bend.abs().max().item(), slope.abs().max().item()


def step_sizes(step: float | Tensor, x: Tensor) -> Tensor:
    """The step size a (B,) of each sample, >= 0 and finite.

    Raises:
        InputError: it is not.
    """
    if not isinstance(step, Tensor):
        nonnegative("step", step)
    a = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    if a.ndim > 1 or (a.ndim and len(a) != len(x)) or not bool((a.isfinite() & (a >= 0)).all()):
        raise InputError("step", f"a finite number >= 0, or {len(x)} of them", a.tolist())
    return a.expand(len(x))
