"""Small agents that the tests write to files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

PENDULUM = "Pendulum-v1"
SMALL = {"hidden": [8, 8], "batch_size": 16, "learning_starts": 20, "every": 30, "episodes": 2}


def write_agent(path: Path) -> Path:
    """An agent for Pendulum, with twin critics."""
    torch.manual_seed(0)
    tensors = {}
    for name, sizes in {"actor": (3, 8, 8, 1), "critic_1": (4, 8, 8, 1), "critic_2": (4, 8, 8, 1)}.items():
        for number, (before, after) in enumerate(pairwise(sizes), 1):
            layer = nn.Linear(before, after)
            tensors |= {f"{name}.l{number}.weight": layer.weight.data, f"{name}.l{number}.bias": layer.bias.data}
    save_file(tensors, path)
    return path
