"""Chains of affine layers with ReLUs between them, in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Affine(NamedTuple):
    """``weight @ h + bias``."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


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
