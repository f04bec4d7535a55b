"""Activity of a network's units over a set of inputs: dead, saturated, affine or switching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.gates import Activation, Network, OnGates, require_gates
from latentopt.networks.freezing import frozen


@dataclass(frozen=True)
class UnitActivity:
    """The activity of one site's units over N inputs."""

    site: int
    kind: str  # relu, hardtanh, ...
    count: int  # number of units
    dead: float  # share of units below their first kink at every input, and flat there
    saturated: float  # share of units above their last kink at every input, and flat there
    affine: float  # share of units on the same sloped piece at every input
    below: float  # share of all pairs of unit and input that are below the first kink
    above: float  # share of them above the last kink: where a ReLU is open


@torch.no_grad()
def unit_activity(network: Network, x: Tensor) -> list[UnitActivity]:
    """Measure the activity of each site's units over the inputs ``x`` (N, *shape), in one forward pass.

    Raises:
        InputError: there are no inputs, or the network has no piecewise-linear activations.

    >>> layer = torch.nn.Linear(1, 2)
    >>> weights = {"weight": torch.tensor([[1.0], [1.0]]), "bias": torch.tensor([0.0, -9.0])}
    >>> layer.load_state_dict(weights)
    <All keys matched successfully>
    >>> network = torch.nn.Sequential(layer, torch.nn.ReLU())
    >>> (site,) = unit_activity(network, torch.tensor([[-1.0], [1.0]]))
    >>> site.dead, site.below, site.above
    (0.5, 0.75, 0.25)
    """
    if not len(x):
        raise InputError("x", "at least one input", "none")
    sites: list[UnitActivity] = []

    def record(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        sites.append(_measure(site, h, activation))
        return real(h)

    with frozen(network), OnGates(record, len(x)) as mode:
        network(x)
    require_gates(mode)
    return sites


def _measure(site: int, h: Tensor, activation: Activation) -> UnitActivity:
    piece = torch.stack([z > 0 for z in activation.switches(h)]).sum(0)  # (N, *site), from 0 at the far left
    below, above = piece == 0, piece == len(activation.kinks)
    # The gradient's factor shows whether a piece is flat; an activation's name does not.
    dead, saturated = (side.all(0) & (_slope(activation, h, gate) == 0) for side, gate in ((below, 0.0), (above, 1.0)))
    affine = (piece.amin(0) == piece.amax(0)) & ~dead & ~saturated
    shares = (mask.double().mean().item() for mask in (dead, saturated, affine, below, above))
    return UnitActivity(site, activation.kind, dead.numel(), *shares)


def _slope(activation: Activation, h: Tensor, gate: float) -> Tensor:
    """Return each unit's slope (*site) on the first piece (``gate`` 0), or on the last (1)."""
    gates = [torch.full_like(h[:1], gate) for _ in activation.kinks]
    return torch.as_tensor(activation.backward(gates)).expand_as(h[:1])[0]
