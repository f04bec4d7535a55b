"""Networks of the benchmarks: batches of random networks (arXiv 2406.00494), and networks for timing."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.errors import InputError
from latentopt.zoo.random_nets import random_layers


class RandomNets(nn.Module):
    """Random networks of many seeds, evaluated as a batch: row ``i`` passes through network ``i mod S``.

    So restarts, dual passes and probes, which come as further copies of the S samples, cost one batched matrix
    product a layer.

    Args:
        widths: of the layers, from the input to the output.
        seeds: of the S networks.
        dtype: of the weights.
    """

    def __init__(self, widths: Sequence[int], seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        stacks = zip(*(random_layers(widths, seed) for seed in seeds), strict=True)
        for layer, stack in enumerate(stacks):  # (S, in, out) and (S, 1, out) in turn
            array = np.stack(stack)
            self.register_buffer(
                f"layer{layer}", torch.from_numpy(array if layer % 2 == 0 else array[:, None]).to(dtype)
            )

    def __len__(self) -> int:
        return len(self.get_buffer("layer0"))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (rows, out) of ``x`` (rows, in); rows a multiple of S."""
        if len(x) % len(self):
            raise InputError("x", f"a multiple of {len(self)} rows", len(x))
        for layer in range(self.depth):
            weight, bias = self.get_buffer(f"layer{2 * layer}"), self.get_buffer(f"layer{2 * layer + 1}")
            copies = x.unflatten(0, (-1, len(self))).transpose(0, 1)  # (S, rows / S, in)
            h = torch.baddbmm(bias, copies, weight).transpose(0, 1).flatten(0, 1)
            x = F.relu(h) if layer < self.depth - 1 else h
        return x

    def take(self, rows: Tensor) -> RandomNets:
        """Select the networks of the rows ``rows`` (long); return itself if these are whole copies of its own S."""
        index = rows % len(self)
        whole = torch.arange(len(self), device=rows.device).repeat(len(rows) // len(self))
        if torch.equal(index, whole):
            return self
        nets = copy.copy(self)
        nets.__dict__["_buffers"] = {name: stack[index] for name, stack in self.named_buffers()}
        return nets


def mnist_conv(seed: int = 0) -> nn.Sequential:
    """The paper's MNIST classifier in shape: images (B, 1, 28, 28) to 10 logits, 8,396 ReLUs; random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 10), nn.ReLU()),
            *(nn.Conv2d(8, 32, 8), nn.ReLU()),
            *(nn.Conv2d(32, 32, 8), nn.ReLU()),
            nn.Flatten(),
            *(nn.Linear(800, 100), nn.ReLU()),
            nn.Linear(100, 10),
        )
    return network.eval().requires_grad_(False)


def vgg19_cifar(seed: int = 0) -> nn.Sequential:
    """VGG19 in CIFAR's shape: images (B, 3, 32, 32) to 10 logits; random weights."""
    from torchvision.models.vgg import cfgs, make_layers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = make_layers(cfgs["E"])
        for module in features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        network = nn.Sequential(features, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return network.eval().requires_grad_(False)


def wide_resnet(seed: int = 0) -> nn.Module:
    """torchvision's wide_resnet50_2: images (B, 3, 224, 224) to 1000 logits; random weights."""
    from torchvision.models import wide_resnet50_2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = wide_resnet50_2(weights=None)
    return network.eval().requires_grad_(False)
