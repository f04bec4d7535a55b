"""The random networks of arXiv 2406.00494: weights and biases uniform on (-1, 1), drawn from a seed as there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

WIDTHS: dict[str, tuple[int, ...]] = {
    "A": (10, 64, 64, 1),
    "B": (10, 500, 500, 500, 1),  # neither paper nor code tell it: docs/benchmarks/random-networks.md has the evidence
    "C": (128, 500, 500, 500, 1),
    "D": (64, *[200] * 6, 1),
    "E": (100, 1000, 1000, 1000, 1),
}
"""Widths from the input to the output."""


def random_layers(widths: Sequence[int], seed: int) -> list[np.ndarray]:
    """Draw each layer's weight (in, out) and bias (out,)."""
    random = np.random.RandomState(seed)  # this stream defines the networks
    layers = []
    for before, after in pairwise(widths):
        for shape in ((before, after), (after,)):
            p, m = random.uniform(size=shape), random.uniform(size=shape)
            layers.append(np.where(p <= 0.5, m, -m))
    return layers


def random_net(widths: Sequence[int], seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Build a random network of plain layers."""
    modules: list[nn.Module] = []
    drawn = [torch.from_numpy(array).to(dtype) for array in random_layers(widths, seed)]
    for weight, bias in zip(drawn[::2], drawn[1::2], strict=True):
        layer = nn.Linear(weight.shape[0], weight.shape[1], dtype=dtype)
        layer.load_state_dict({"weight": weight.T, "bias": bias})
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval().requires_grad_(False)
