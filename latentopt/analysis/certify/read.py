"""Reads a network as a chain of affine layers and ReLUs: one pass in which every activation returns a basis.

What lies between two activations is affine, so that zero and the unit vectors tell its weight and bias, whatever
modules compute it: linear layers, convolutions, BatchNorm, poolings of means, reshapes. Whether the network is such a
chain is then seen by comparing the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from latentopt.analysis.certify.affine import OnlyAffine
from latentopt.analysis.certify.chain import Affine, Chain, power_of_two
from latentopt.errors import InputError
from latentopt.gates import Activation, OnGates
from latentopt.networks.freezing import frozen, require_eval

MOST = 4096
"""Units of a layer, or inputs; the weights are dense matrices."""
FITS = "a chain of affine layers (linear, convolution, BatchNorm, ...) and piecewise-linear activations"
ROUNDINGS = 4
"""How many times its rounding a chain may differ from the network: both round, and so do the weights that were read."""


@torch.no_grad()
def read_chain(network: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Chain:
    """Read a network as a chain, a function of its flattened inputs.

    Args:
        network: maps (B, *shape) to (B, ...), each sample by itself. Never changed.
        low: least inputs (*shape) at which the two are compared.
        high: greatest.

    Raises:
        InputError: it is no such chain, or a layer has more than `MOST` units, or its weights are not finite.
    """
    network, low, high = in_float64(network), low.double(), high.double()
    with frozen(network):
        widths = _widths(network, low[None])
        chain = _probed(network, low, high, widths)
        _compare(network, chain, low, high)
    return chain


def in_float64(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A copy of a module in float64; any other function itself."""
    if not isinstance(network, nn.Module):
        return network
    require_eval(network)
    return copy.deepcopy(network).double()


def _widths(network: Callable[[Tensor], Tensor], x: Tensor) -> list[int]:
    """Inputs of the layers, the sites' sizes."""
    widths = [x.numel()]

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        widths.append(h.numel())
        return h * 0.5  # any affine function: it depends on the input, and calls no activation

    x = x.clone()
    with OnlyAffine(x, FITS), OnGates(rule, 1, pool=_no_pool):
        _call(network, x)
    if len(widths) == 1:
        raise InputError("network", FITS, "a network without such activations (are they smooth?)")
    if max(widths) > MOST:
        raise InputError("network", f"at most {MOST} inputs and units a layer", max(widths))
    return widths


def _no_pool(h: Tensor, dims: int, real: object) -> tuple[Tensor, Tensor]:
    raise InputError("network", FITS, "one with max pooling")


def _call(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    try:
        return network(x)
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise InputError("network", f"one that takes float64 of shape {tuple(x.shape[1:])}", reason) from error


def _probed(network: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, widths: list[int]) -> Chain:
    """The chain, its weights as exact as its sums: basis vectors are about as long as the inputs and units can be."""
    rows, layers = max(widths) + 1, list[Affine]()
    reach = torch.maximum(low.abs(), high.abs()).flatten()  # of the last layer's inputs
    lengths = power_of_two(reach)
    behind: Callable[[Affine], Affine] | None = None  # the layer behind the last activation, in terms of its ReLUs

    def seen(h: Tensor) -> Affine:
        """The layer in front of ``h`` (rows, ...)."""
        h = h.reshape(rows, -1).double()
        layer = Affine(((h[1 : len(lengths) + 1] - h[0]) / lengths[:, None]).T.contiguous(), h[0].clone())
        return behind(layer) if behind else layer

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal behind, reach, lengths
        before, behind = _switched(seen(h), activation, h.shape[1:])
        layers.append(before)
        reach = before.size(reach)
        lengths = power_of_two(reach.reshape(-1, h[0].numel()).amax(0))  # of each unit's ReLUs, the greatest
        return _basis(rows, h.shape[1:], lengths, h)

    with OnGates(rule, rows, pool=_no_pool):
        output = _call(network, _basis(rows, low.shape, lengths, low))
    return Chain((*layers, seen(output)))


def _basis(rows: int, shape: Sequence[int], lengths: Tensor, like: Tensor) -> Tensor:
    """Zero, vectors of such ``lengths`` (n,) along the axes of a shape, and zeros: (rows, *shape)."""
    basis = like.new_zeros(rows, prod(shape))
    basis[1 : prod(shape) + 1] = lengths.diag().to(like)
    return basis.reshape(rows, *shape)


def _switched(layer: Affine, activation: Activation, shape: Sequence[int]) -> tuple[Affine, Callable[[Affine], Affine]]:
    """The layer in front of an activation's ReLUs, and how the layer behind it is one of these ReLUs.

    The activation is ``slope h + offset + sum_k jump_k relu(h - kink_k)``, with ``h = relu(h) - relu(-h)``.
    """

    def each(value: float | Tensor) -> Tensor:
        value = torch.as_tensor(value, dtype=layer.bias.dtype, device=layer.bias.device)
        return value.expand(shape).flatten()

    weight, bias = layer
    parts = [(weight, bias - each(kink), each(jump)) for kink, jump in activation.kinks]
    slope, offset = each(activation.slope), each(activation.offset)
    if bool(slope.any()):
        parts += [(weight, bias, slope), (-weight, -bias, -slope)]

    def behind(after: Affine) -> Affine:
        return Affine(
            torch.cat([after.weight * factor for _, _, factor in parts], 1), after.bias + after.weight @ offset
        )

    return Affine(torch.cat([weight for weight, _, _ in parts]), torch.cat([bias for _, bias, _ in parts])), behind


def _compare(network: Callable[[Tensor], Tensor], chain: Chain, low: Tensor, high: Tensor, count: int = 32) -> None:
    """Raise `InputError` where network and chain differ."""
    if not all(bool(part.isfinite().all()) for layer in chain.layers for part in layer):
        raise InputError("network", "finite weights", "some that are not")
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(count, *low.shape, generator=generator, dtype=low.dtype).to(low.device)
    x = low + (high - low) * torch.cat([t, t.round(), 4 * t - 1.5])
    actual, expected = _call(network, x).reshape(len(x), -1), chain(x.flatten(1))
    rounding = chain.rounding(x.flatten(1).abs().amax(0))[-1]
    if not bool(((actual - expected).abs() <= ROUNDINGS * rounding).all()):
        parts = "of skip connections, products, smooth parts, or single precision inside?"
        raise InputError("network", FITS, f"another network ({parts})")
