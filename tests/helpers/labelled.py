"""What the tests of attacks share: a linear classifier, inputs, and what a model says of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nets import rand, randn
from torch import Tensor, nn

INPUTS, CLASSES = 6, 4


class Linear(nn.Module):
    """Logits ``W x + b`` of flattened inputs."""

    def __init__(self, classes: int = CLASSES, n: int = INPUTS, seed: int = 0) -> None:
        super().__init__()
        self.layer = nn.Linear(n, classes).double()
        with torch.no_grad():
            self.layer.weight.copy_(randn(classes, n, seed=seed))
            self.layer.bias.copy_(0.1 * randn(classes, seed=seed + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def images(count: int = 12, seed: int = 2) -> Tensor:
    return rand(count, INPUTS, seed=seed).clamp(0.02, 1)


def classes_of(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)
