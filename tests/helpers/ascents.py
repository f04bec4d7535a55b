"""What the tests of the dynamics share: a small classifier, its inputs, their labels."""

from __future__ import annotations

import torch
from local_data import local_data
from nets import mlp, randn
from torch import Tensor, nn

import latentopt as lo
from latentopt.zoo import cards, datasets

METHODS = ("first-order", "eigen", "region-exact")
Y = torch.tensor([0, 1, 2, 0])


def net(seed: int = 0) -> nn.Sequential:
    return mlp(6, 12, 8, 3, seed=seed)


def inputs(seed: int = 1) -> Tensor:
    return randn(4, 6, seed=seed)


def images(seed: int = 1) -> Tensor:
    return randn(4, 1, 5, 5, seed=seed)


def digits() -> tuple[lo.Classifier, Tensor, Tensor]:
    """`mnist-cnn` and 60 test images with their labels, in float64; skips where there are none."""
    x, y = datasets.load_labelled("mnist", str(local_data("mnist")), limit=60)
    return cards.load_classifier("mnist-cnn").double(), x.double(), y
