"""Reads a network as a chain of affine layers and ReLUs, by one forward pass of basis vectors.

Between two activations the network is affine, so its values at zero and at the unit vectors give its weight and bias,
whatever modules compute it: linear layers, convolutions, BatchNorm, average pooling, reshapes. A comparison of network
and chain then decides whether the network is such a chain.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from latentopt.analysis.certify.affine_check import AffineCheck
from latentopt.analysis.certify.relu_chain import AffineLayer, ReLUChain, power_of_two
from latentopt.errors import InputError, first_line
from latentopt.gates import Activation, OnGates
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.outputs import TensorNetwork, adapt

MOST = 4096
"""Greatest number of inputs, and of a layer's units: the weights are dense matrices."""
EXPECTED = "a chain of affine layers (linear, convolution, BatchNorm, ...) and piecewise-linear activations"
ROUNDINGS = 4
"""Roundings by which a chain may differ from the network: both round, and so do the weights that were read."""


@torch.no_grad()
def read_chain(network: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> ReLUChain:
    """Read a network as a chain, a function of its flattened inputs.

    Args:
        network: maps (B, *shape) to (B, ...), each sample by itself. Never changed.
        low: least inputs (*shape) at which the two are compared.
        high: greatest inputs (*shape).

    Raises:
        InputError: it is no such chain, or a layer has more than `MOST` units, or its weights are not finite.
    """
    network, low, high = to_float64(network), low.double(), high.double()
    with frozen(network):
        widths = _read_widths(network, low[None])
        chain = _read_layers(network, low, high, widths)
        _compare(network, chain, low, high)
    return chain


def to_float64(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the network, with a copy of its module in float64; any other function as it is."""
    if isinstance(network, TensorNetwork):
        return replace(network, network=to_float64(network.network))
    if not isinstance(network, nn.Module):
        return adapt(network)
    require_eval(network)
    return adapt(copy.deepcopy(network).double())


def _read_widths(network: Callable[[Tensor], Tensor], x: Tensor) -> list[int]:
    """Return the number of inputs and of each activation's units."""
    widths = [x.numel()]

    def record(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        widths.append(h.numel())
        return h * 0.5  # any affine function: it depends on the input, and calls no activation

    x = x.clone()
    with AffineCheck(x, EXPECTED), OnGates(record, 1, pool=_refuse_pool):
        _call(network, x)
    if len(widths) == 1:
        raise InputError("network", EXPECTED, "a network without such activations (are they smooth?)")
    if max(widths) > MOST:
        raise InputError("network", f"at most {MOST} inputs and units a layer", max(widths))
    return widths


def _refuse_pool(h: Tensor, dims: int, real: object) -> tuple[Tensor, Tensor]:
    raise InputError("network", EXPECTED, "one with max pooling")


def _call(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    try:
        return network(x)
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = first_line(error)
        raise InputError("network", f"one that takes float64 of shape {tuple(x.shape[1:])}", reason) from error


def _read_layers(network: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, widths: list[int]) -> ReLUChain:
    """Read the weights as exactly as their sums: basis vectors are about as long as inputs and units can be."""
    rows, layers = max(widths) + 1, list[AffineLayer]()
    magnitude = torch.maximum(low.abs(), high.abs()).flatten()  # of the last layer's inputs
    lengths = power_of_two(magnitude)
    express: Callable[[AffineLayer], AffineLayer] | None = None  # a layer of the activation as one of its ReLUs

    def layer_before(h: Tensor) -> AffineLayer:
        """Return the layer whose outputs are ``h`` (rows, ...)."""
        h = h.reshape(rows, -1).double()
        layer = AffineLayer(((h[1 : len(lengths) + 1] - h[0]) / lengths[:, None]).T.contiguous(), h[0].clone())
        return express(layer) if express else layer

    def probe(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal express, magnitude, lengths
        layer, express = _split_into_relus(layer_before(h), activation, h.shape[1:])
        layers.append(layer)
        magnitude = layer.size(magnitude)
        lengths = power_of_two(magnitude.reshape(-1, h[0].numel()).amax(0))  # of each unit's ReLUs, the greatest
        return _basis(rows, h.shape[1:], lengths, h)

    with OnGates(probe, rows, pool=_refuse_pool):
        output = _call(network, _basis(rows, low.shape, lengths, low))
    return ReLUChain((*layers, layer_before(output)))


def _basis(rows: int, shape: Sequence[int], lengths: Tensor, like: Tensor) -> Tensor:
    """Return zero, the axes' vectors of these ``lengths`` (n,), and zeros: (rows, *shape)."""
    basis = like.new_zeros(rows, prod(shape))
    basis[1 : prod(shape) + 1] = lengths.diag().to(like)
    return basis.reshape(rows, *shape)


def _split_into_relus(
    layer: AffineLayer, activation: Activation, shape: Sequence[int]
) -> tuple[AffineLayer, Callable[[AffineLayer], AffineLayer]]:
    """Return the layer before an activation's ReLUs, and a function of the next layer that expresses it by these ReLUs.

    The activation is ``slope h + offset + sum_k jump_k relu(h - kink_k)``, with ``h = relu(h) - relu(-h)``.
    """

    def per_unit(value: float | Tensor) -> Tensor:
        value = torch.as_tensor(value, dtype=layer.bias.dtype, device=layer.bias.device)
        return value.expand(shape).flatten()

    weight, bias = layer
    parts = [(weight, bias - per_unit(kink), per_unit(jump)) for kink, jump in activation.kinks]
    slope, offset = per_unit(activation.slope), per_unit(activation.offset)
    if bool(slope.any()):
        parts += [(weight, bias, slope), (-weight, -bias, -slope)]

    def express(following: AffineLayer) -> AffineLayer:
        weight = torch.cat([following.weight * factor for _, _, factor in parts], 1)
        return AffineLayer(weight, following.bias + following.weight @ offset)

    before = AffineLayer(torch.cat([weight for weight, _, _ in parts]), torch.cat([bias for _, bias, _ in parts]))
    return before, express


def _compare(network: Callable[[Tensor], Tensor], chain: ReLUChain, low: Tensor, high: Tensor, count: int = 32) -> None:
    """Raise `InputError` where network and chain differ."""
    if not all(bool(part.isfinite().all()) for layer in chain.layers for part in layer):
        raise InputError("network", "finite weights", "some that are not")
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(count, *low.shape, generator=generator, dtype=low.dtype, device="cpu").to(low.device)
    x = low + (high - low) * torch.cat([t, t.round(), 4 * t - 1.5])
    actual, expected = _call(network, x).reshape(len(x), -1), chain(x.flatten(1))
    rounding = chain.rounding(x.flatten(1).abs().amax(0))[-1]
    if not bool(((actual - expected).abs() <= ROUNDINGS * rounding).all()):
        parts = "of skip connections, products, smooth parts, or single precision inside?"
        raise InputError("network", EXPECTED, f"another network ({parts})")
