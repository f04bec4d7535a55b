"""What the units of a network do over a set of inputs: dead, saturated, or at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.gates import Activation, Network, OnGates, require_gates
from latentopt.networks.freezing import frozen


@dataclass(frozen=True)
class Units:
    """The units of one site over N inputs."""

    site: int
    kind: str  # relu, hardtanh, ...
    count: int  # units
    dead: float  # share of the units that are below their first kink at every input, and flat there
    saturated: float  # share of the units that are above their last kink at every input, and flat there
    affine: float  # share of the units that stay on one sloped piece at every input
    below: float  # share of units and inputs, all pairs, below the first kink
    above: float  # share of them above the last kink; of a ReLU: where it is open


@torch.no_grad()
def units(network: Network, x: Tensor) -> list[Units]:
    """What the units of each site do over the inputs ``x`` (N, *shape), in one forward pass.

    Raises:
        InputError: no inputs, or a network without piecewise-linear activations.

    >>> layer = torch.nn.Linear(1, 2)
    >>> layer.load_state_dict({"weight": torch.tensor([[1.0], [1.0]]), "bias": torch.tensor([0.0, -9.0])})
    <All keys matched successfully>
    >>> (found,) = units(torch.nn.Sequential(layer, torch.nn.ReLU()), torch.tensor([[-1.0], [1.0]]))
    >>> found.dead, found.below, found.above
    (0.5, 0.75, 0.25)
    """
    if not len(x):
        raise InputError("x", "at least one input", "none")
    found: list[Units] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        found.append(_of(site, h, activation))
        return real(h)

    with frozen(network), OnGates(rule, len(x)) as mode:
        network(x)
    require_gates(mode)
    return found


def _of(site: int, h: Tensor, activation: Activation) -> Units:
    piece = torch.stack([z > 0 for z in activation.switches(h)]).sum(0)  # (N, *site), from 0 at the far left
    below, above = piece == 0, piece == len(activation.kinks)
    # No name says whether a piece is flat as surely as the factor of the gradient there.
    dead, saturated = (side.all(0) & (_slope(activation, h, gate) == 0) for side, gate in ((below, 0.0), (above, 1.0)))
    affine = (piece.amin(0) == piece.amax(0)) & ~dead & ~saturated
    shares = (mask.double().mean().item() for mask in (dead, saturated, affine, below, above))
    return Units(site, activation.kind, dead.numel(), *shares)


def _slope(activation: Activation, h: Tensor, gate: float) -> Tensor:
    """The slope (*site) of the first piece, or of the last, by unit."""
    gates = [torch.full_like(h[:1], gate) for _ in activation.kinks]
    return torch.as_tensor(activation.backward(gates)).expand_as(h[:1])[0]
