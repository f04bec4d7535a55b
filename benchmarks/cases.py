"""The networks and batches whose steps `latentopt bench cost` times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import networks
from latentopt.noise import Noise
from latentopt.objectives import Unit
from latentopt.problem import Batch, Problem
from latentopt.sets import Box
from latentopt.zoo.random_nets import WIDTHS, random_net


@dataclass(frozen=True)
class Case:
    """A network and a batch.

    Args:
        name: of the network.
        build: makes it.
        shape: of one input: an image in [0, 1], or a vector in [-1, 1].
        batch: inputs in a step.
        last: gates that ADR-GD drives, counted from the last; None: all.
        exact: the authors' form too, which computes exact norms in every step.
        compiled: passes through the network are compiled.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    last: int | None = None
    exact: bool = False
    compiled: bool = False

    def posed(self) -> Problem:
        """What `solve` takes."""
        box = Box(0.0, 1.0) if len(self.shape) == 3 else Box(-1.0, 1.0)
        return Problem(self.build(), Unit(0), self.shape, self.batch, box)

    def start(self, posed: Problem) -> Tensor:
        """A random point for each sample, another for each."""
        rows = torch.arange(self.batch)
        return posed.rows(rows, Noise(0, rows)).random_start()

    def ready(self, posed: Problem) -> Batch:
        """What an optimiser takes."""
        rows = torch.arange(self.batch)
        return posed.rows(rows, Noise(0, torch.zeros_like(rows)), 1_000_000, self.compiled)


def _mlps(model: str) -> list[Case]:
    build, shape = partial(random_net, WIDTHS[model], 0), (WIDTHS[model][0],)
    return [
        Case(f"net {model}{', compiled' * compiled}", build, shape, batch, exact=not compiled, compiled=compiled)
        for compiled in (False, True)
        for batch in (1, 64)
    ]


CASES: dict[str, list[Case]] = {
    "a": _mlps("A"),
    "c": _mlps("C"),
    "mnist": [Case("MNIST conv net", networks.mnist_conv, (1, 28, 28), n, exact=n == 1) for n in (1, 32, 256)],
    "vgg19": [Case("VGG19", networks.vgg19_cifar, (3, 32, 32), 16)],
    "wide-resnet": [Case("wide_resnet50_2, last block", networks.wide_resnet, (3, 224, 224), 2, last=3)],
}
