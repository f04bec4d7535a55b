"""Chains of affine layers with ReLUs between them, in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Affine(NamedTuple):
    """``weight @ h + bias``."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)

    def size(self, reach: Tensor) -> Tensor:
        """The greatest absolute values (out,) of the sums, terms taken absolutely, where ``|h| <= reach`` (in,)."""
        return self.weight.abs() @ reach + self.bias.abs()


class Chain(NamedTuple):
    """``f(x) = W_L relu(... relu(W_1 x + b_1) ...) + b_L`` of inputs (rows, n), one hidden layer or more."""

    layers: tuple[Affine, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (rows, out) at ``x`` (rows, n)."""
        for weight, bias in self.layers[:-1]:
            x = torch.addmm(bias, x, weight.T).relu()
        weight, bias = self.layers[-1]
        return torch.addmm(bias, x, weight.T)

    @property
    def inputs(self) -> int:
        return self.layers[0].weight.shape[1]

    @property
    def units(self) -> int:
        """ReLUs in all."""
        return sum(len(layer.bias) for layer in self.layers[:-1])

    def row(self, row: Tensor, offset: Tensor) -> Chain:
        """The chain whose one output is ``row @ f(x) + offset``; row (out,), offset ()."""
        weight, bias = self.layers[-1]
        return Chain((*self.layers[:-1], Affine((row @ weight)[None], (row @ bias + offset)[None])))

    def at(self, x: Tensor, free: Tensor) -> Chain:
        """The chain of the inputs where ``free`` (n,) is true, the others being those of ``x`` (n,)."""
        weight, bias = self.layers[0]
        first = Affine(weight[:, free].contiguous(), bias + weight[:, ~free] @ x[~free])
        return Chain((first, *self.layers[1:]))

    def sizes(self, reach: Tensor) -> list[Tensor]:
        """`Affine.size` of each layer, where ``|x| <= reach`` (n,)."""
        found = list[Tensor]()
        for layer in self.layers:
            reach = layer.size(reach)
            found.append(reach)
        return found

    def rounding(self, reach: Tensor) -> list[float]:
        """More than rounding changes a layer's sums, or their bounds, where ``|x| <= reach`` (n,): n eps their size."""
        terms = 16 * (self.inputs + self.units)
        return [terms * torch.finfo(size.dtype).eps * float(size.max()) for size in self.sizes(reach)]

    def unit(self, reach: Tensor) -> float:
        """The least power of two above the outputs where ``|x| <= reach`` (n,)."""
        return float(power_of_two(self.sizes(reach)[-1].max()))

    def balanced(self, reach: Tensor, unit: float) -> Chain:
        """The chain over ``unit``, every hidden unit at most 1 where ``|x| <= reach`` (n,).

        ``relu(s z) = s relu(z)``; the scales are powers of two, so that nothing is rounded. Then nothing overflows in
        single precision, and an absolute tolerance means the same for every network.
        """
        layers, behind = list[Affine](), torch.ones_like(reach)
        sizes = [power_of_two(size) for size in self.sizes(reach)[:-1]]
        last = torch.full_like(self.layers[-1].bias, unit)
        for (weight, bias), scale in zip(self.layers, [*sizes, last], strict=True):
            layers.append(Affine(weight * behind / scale[:, None], bias / scale))
            behind = scale
        return Chain(tuple(layers))


def power_of_two(size: Tensor) -> Tensor:
    """The least power of two above ``size``; 1 where it is 0."""
    return torch.where(size > 0, torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent), 1.0)
