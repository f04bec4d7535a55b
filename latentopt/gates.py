"""Reads and drives the activation gates of any torch module, untouched: a function mode sees every ReLU it calls.

A *site* is one call of ReLU during a forward pass, in call order; a module used twice makes two sites. ``h`` is a
site's pre-activation, (rows, *site).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from latentopt.errors import InputError
from latentopt.samples import per_sample, sample_rms

Network = Callable[[Tensor], Tensor]
_RELU = {F.relu, torch.relu, Tensor.relu}
_RELU_IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_}


class OnReLU(TorchFunctionMode):
    """While active, ``rule(site, h)`` computes what every ReLU returns; ``site`` counts the calls from 0.

    >>> seen = []
    >>> with OnReLU(lambda site, h: seen.append(site) or h.abs()):
    ...     torch.relu(torch.tensor([-1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, rule: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule, self.sites = rule, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        in_place = func in _RELU_IN_PLACE
        if not in_place and func not in _RELU:
            return func(*args, **kwargs)
        h = args[0] if args else kwargs["input"]
        in_place = in_place or bool(kwargs.get("inplace", len(args) > 1 and args[1]))
        site, self.sites = self.sites, self.sites + 1
        if not in_place:
            return self.rule(site, h)
        return h.copy_(self.rule(site, h.clone()))  # others may hold h: they must see the change


def preactivations(network: Network, x: Tensor) -> list[Tensor]:
    """The pre-activations ``h`` of every site at ``x``, each (B, *site).

    Raises:
        InputError: the network calls no ReLU, or a site mixes the samples of the batch.
    """
    sites: list[Tensor] = []

    def rule(site: int, h: Tensor) -> Tensor:
        sites.append(h.clone())  # the network may change h in place later
        return h.relu()

    with OnReLU(rule):
        network(x)
    require_gates(len(sites))
    for site, h in enumerate(sites):
        if h.ndim == 0 or len(h) != len(x):
            raise InputError("network", f"a batch of {len(x)} at every ReLU", f"{tuple(h.shape)} at ReLU {site}")
    return sites


def require_gates(sites: int) -> None:
    """Raise `InputError` where a forward pass met no ReLU."""
    if not sites:
        raise InputError("network", "at least one ReLU, for a method that drives gates", "a network without")


def soft_backward(tau: float) -> OnReLU:
    """Context: ReLU forward; backward through the soft gate ``sigmoid(h / (tau rms(h)))``, rms per sample and site.

    As tau falls to 0 the gate becomes ReLU's own. It is the gate of ADR-GD with its variable tied to the pattern,
    ``eta = 1/2 + h / (alpha tau rms)``.
    """

    def rule(site: int, h: Tensor) -> Tensor:
        z = h.detach()
        rms = sample_rms(z).clamp_min(torch.finfo(h.dtype).tiny)
        gate = torch.sigmoid(z / (tau * per_sample(rms, h)))
        return _GatedBackward.apply(h, gate)

    return OnReLU(rule)


class _GatedBackward(Function):
    @staticmethod
    def forward(ctx, h: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(gate)
        return h.relu()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        return grads[0] * gate, None


class Dual(NamedTuple):
    """The real network and its gated surrogate at the same inputs."""

    real: Tensor  # (B, *out) f(x)
    gated: Tensor  # (B, *out) f~(x, eta)
    h: list[Tensor]  # of each site (B, *site), the real network's


def dual(network: Network, x: Tensor, gates: list[Tensor]) -> Dual:
    """Both networks in one pass over ``cat[x, x]``: ReLU on the first half, ``gates[site] * h`` on the second.

    Args:
        network: maps (B, *features) to (B, *out), each sample by itself.
        x: (B, *features).
        gates: of each site (B, *site), the factor of its pre-activations (eq. 6 of arXiv 2406.00494).
    """
    real: list[Tensor] = []
    half = len(x)

    def rule(site: int, h: Tensor) -> Tensor:
        real.append(h[:half].clone())
        return torch.cat([h[:half].relu(), gates[site] * h[half:]])

    with OnReLU(rule):
        output = network(torch.cat([x, x]))
    return Dual(output[:half], output[half:], real)


@torch.no_grad()
def row_norms(network: Network, x: Tensor, gates: list[Tensor], directions: Tensor, exact: bool) -> list[Tensor]:
    """Norms ``||P_j||`` of the rows of the affine map from the input to each pre-activation, at fixed gates.

    At fixed gates the network is affine, so ``h_j(x + v) - h_j(x) = P_j v``: orthonormal directions give the norm
    exactly, K standard normal ones estimate it (relative error about ``.7 / sqrt(K)``).

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).
        gates: of each site (B, *site).
        directions: (K, B, *features), the vectors v.
        exact: the directions are an orthonormal basis, so sum; else average.

    Returns:
        Of each site (B, *site). Costs K + 1 forwards a sample.
    """
    count, batch = directions.shape[:2]
    squares: list[Tensor] = []

    def rule(site: int, h: Tensor) -> Tensor:
        h = h.unflatten(0, (count + 1, batch))
        square = (h[1:] - h[0]).square()
        squares.append(square.sum(0) if exact else square.mean(0))
        return (gates[site] * h).flatten(0, 1)

    with OnReLU(rule):
        network(torch.cat([x[None], x + directions]).flatten(0, 1))
    return [square.sqrt() for square in squares]
