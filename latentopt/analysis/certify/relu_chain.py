"""Chains of affine layers with ReLUs between them, in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AffineLayer(NamedTuple):
    """The function ``weight @ h + bias``."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)

    def size(self, magnitude: Tensor) -> Tensor:
        """Return upper bounds (out,) on the sums of the terms' absolute values where ``|h| <= reach`` (in,)."""
        return self.weight.abs() @ magnitude + self.bias.abs()


class ReLUChain(NamedTuple):
    """The function ``f(x) = W_L relu(... relu(W_1 x + b_1) ...) + b_L`` with at least one hidden layer."""

    layers: tuple[AffineLayer, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (rows, out) at ``x`` (rows, n)."""
        for weight, bias in self.layers[:-1]:
            x = torch.addmm(bias, x, weight.T).relu()
        weight, bias = self.layers[-1]
        return torch.addmm(bias, x, weight.T)

    @property
    def inputs(self) -> int:
        return self.layers[0].weight.shape[1]

    @property
    def units(self) -> int:
        """The number of ReLUs."""
        return sum(len(layer.bias) for layer in self.layers[:-1])

    def combine(self, row: Tensor) -> ReLUChain:
        """Return the chain with the one output ``row @ f(x)``; row (out,)."""
        weight, bias = self.layers[-1]
        return ReLUChain((*self.layers[:-1], AffineLayer((row @ weight)[None], (row @ bias)[None])))

    def restrict(self, x: Tensor, free: Tensor) -> ReLUChain:
        """Return the chain of the inputs where ``free`` (n,) is true, with the others fixed at ``x`` (n,)."""
        weight, bias = self.layers[0]
        first = AffineLayer(weight[:, free].contiguous(), bias + weight[:, ~free] @ x[~free])
        return ReLUChain((first, *self.layers[1:]))

    def sizes(self, magnitude: Tensor) -> list[Tensor]:
        """Return `AffineLayer.size` of each layer where ``|x| <= reach`` (n,)."""
        sizes = list[Tensor]()
        for layer in self.layers:
            magnitude = layer.size(magnitude)
            sizes.append(magnitude)
        return sizes

    def rounding(self, magnitude: Tensor) -> list[float]:
        """Return an upper bound on the rounding of each layer's sums and their bounds, where ``|x| <= reach`` (n,)."""
        terms = 16 * (self.inputs + self.units)
        return [terms * torch.finfo(size.dtype).eps * float(size.max()) for size in self.sizes(magnitude)]

    def scale(self, magnitude: Tensor) -> float:
        """Return the least power of two above the outputs where ``|x| <= reach`` (n,)."""
        return float(power_of_two(self.sizes(magnitude)[-1].max()))

    def balance(self, magnitude: Tensor, scale: float) -> ReLUChain:
        """Return the chain over ``scale``, with every hidden unit at most 1 where ``|x| <= reach`` (n,).

        ``relu(s z) = s relu(z)``; the scales are powers of two, so that nothing is rounded. Then nothing overflows in
        single precision, and an absolute tolerance means the same for every network.
        """
        layers, previous = list[AffineLayer](), torch.ones_like(magnitude)
        sizes = [power_of_two(size) for size in self.sizes(magnitude)[:-1]]
        last = torch.full_like(self.layers[-1].bias, scale)
        for (weight, bias), current in zip(self.layers, [*sizes, last], strict=True):
            layers.append(AffineLayer(weight * previous / current[:, None], bias / current))
            previous = current
        return ReLUChain(tuple(layers))


def power_of_two(size: Tensor) -> Tensor:
    """Return the least power of two above each size; 1 where it is 0."""
    return torch.where(size > 0, torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent), 1.0)
