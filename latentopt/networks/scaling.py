"""Gradients scaled on their way through arithmetic of half precision, in which small ones would be 0."""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt.batch_math import by_row


class GradientScaling:
    """Divides the gradient of each sample by a power of two between two tensors of a pass, and multiplies it back.

    `last` is applied to the output (B, ...), `first` to the input (B, ...) of the arithmetic between them.
    """

    def __init__(self) -> None:
        self.scale: Tensor | None = None  # (B,) of the last backward pass

    def first(self, x: Tensor) -> Tensor:
        x.register_hook(lambda grad: grad if self.scale is None else grad / by_row(self.scale, grad))
        return x

    def last(self, output: Tensor) -> Tensor:
        if output.requires_grad:
            output.register_hook(self._raise)
        return output

    def _raise(self, grad: Tensor) -> Tensor:
        largest = grad.abs().reshape(len(grad), -1).amax(1)
        self.scale = torch.exp2(-torch.frexp(largest).exponent.to(grad)).where(largest > 0, 1.0)
        return grad * by_row(self.scale, grad)
