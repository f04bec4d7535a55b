"""What the tests of the dynamics share: a small classifier, its inputs, their labels."""

from __future__ import annotations

import torch
from nets import mlp, randn
from torch import Tensor, nn

METHODS = ("first-order", "eigen", "region-exact")
Y = torch.tensor([0, 1, 2, 0])


def net(seed: int = 0) -> nn.Sequential:
    return mlp(6, 12, 8, 3, seed=seed)


def inputs(seed: int = 1) -> Tensor:
    return randn(4, 6, seed=seed)


def images(seed: int = 1) -> Tensor:
    return randn(4, 1, 5, 5, seed=seed)
