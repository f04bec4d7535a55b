"""Backward passes with other gates than the forward pass: soft gates, or none at the caps."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.autograd import Function

from latentopt.batch_math import per_sample, sample_rms
from latentopt.gates.activations import Activation
from latentopt.gates.mode import OnGates


def soft_backward(tau: float | Tensor, rows: int, layers: Collection[int] | None = None) -> OnGates:
    """Return a context with unchanged activations forward and soft gates ``sigmoid(z / (tau rms(h)))`` backward.

    As tau falls to 0 the gate becomes the activation's own. It is the gate of ADR-GD with its variable tied to the
    pattern, ``eta = 1/2 + z / (alpha tau rms)``. Max pooling is unchanged.

    Args:
        tau: softness, > 0, in units of the root mean square of the pre-activations of each sample and site.
        rows: size of the batch.
        layers: numbers of the soft sites; None: all.
    """

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        value = h.detach()
        width = per_sample((tau * sample_rms(value)).clamp_min(torch.finfo(h.dtype).tiny), value)
        gates = [(z / width).sigmoid_() for z in activation.switches(value)]
        return _GatedBackward.apply(h, real(value), activation.backward(gates))

    return OnGates(rule, rows, layers)


def uncapped_backward(rows: int, layers: Collection[int] | None = None) -> OnGates:
    """Return a context with unchanged activations forward, differentiated as if they had no upper kink (a cap).

    This is the straight-through estimate of attacks on defences without gradients (BPDA; Athalye et al. 2018,
    arXiv 1802.00420). ReLUs are differentiated as they are.

    Args:
        rows: size of the batch.
        layers: numbers of the sites; None: all.
    """

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        value = h.detach()
        lowest, *caps = activation.switches(value)
        gates = [(lowest > 0).to(h), *(torch.zeros_like(z) for z in caps)]
        return _GatedBackward.apply(h, real(value), activation.backward(gates))

    return OnGates(rule, rows, layers)


class _GatedBackward(Function):
    @staticmethod
    def forward(ctx, h: Tensor, output: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return output

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor, None, None
