"""What the tests of the dynamics share: a small classifier, its inputs, their labels."""

from __future__ import annotations

import pytest
import torch
from nets import mlp, randn
from torch import Tensor, nn

import latentopt as lo
from latentopt.errors import InputError
from latentopt.zoo import cards, datasets
from latentopt.zoo.content import data_root

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
    try:
        x, y = datasets.labelled("mnist", limit=60)
    except InputError:
        pytest.skip(f"no mnist in {data_root()}")
    return cards.load_classifier("mnist-cnn").double(), x.double(), y
