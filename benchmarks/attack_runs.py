"""Cases for attacks, and the outcome of any attack, judged by its returned images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.classifiers import CIFAR, CLASSIFIERS, IMAGENET, Images, Pretrained, test_images
from benchmarks.networks import mnist_conv, vgg19_cifar, wide_resnet
from benchmarks.timing import timed
from latentopt.batch_math import by_row
from latentopt.classification import cross_entropy, margin
from latentopt.errors import InputError
from latentopt.gates import sites
from latentopt.noise import Noise

SLACK = 1e-6
"""Tolerance by which returned images may leave the ball or the range of pixels, for rounding."""
RANDOM: dict[str, Pretrained] = {
    "vgg19": Pretrained(vgg19_cifar, None, "cifar10", (2 / 255,), *CIFAR, trained=False),
    "wide-resnet": Pretrained(wide_resnet, None, "imagenet", (1 / 255,), *IMAGENET, last=3, trained=False),
}
"""Networks with random weights, as smoke tests; their labels are their own predictions."""
BARE = Pretrained(mnist_conv, None, "random", (0.1,), trained=False)
"""Case of a smoke test without data: random weights, random images."""
NETWORKS = {**CLASSIFIERS, **RANDOM}
BATCH = {"mnist": 250, "cifar10": 100, "imagenet": 10, "random": 250}
"""Batch size of an attack, by data set."""


class CountedClassifier(nn.Module):
    """A classifier that counts the images passed through it, forwards and backwards, for any caller."""

    def __init__(self, module: nn.Module, input_range: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.module, self.input_range = module.eval(), input_range
        self.forwards = self.backwards = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits = self.module(x)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)


@dataclass(frozen=True, eq=False)
class AttackCase:
    """A classifier, images of it and a radius.

    Args:
        network: its name.
        model: the classifier.
        x: images (B, *shape).
        y: their labels (B,).
        eps: greatest change of a pixel.
        data: ``mnist``, ``cifar10``, ``imagenet`` or ``random``.
        first: number of the first image in its data set.
        layers: sites of ADR-GD's gates; None: all.
        box: pixels stay in [0, 1].
        seed: of random starts and of the methods' own noise.
    """

    network: str
    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    data: str
    first: int = 0
    layers: tuple[int, ...] | None = None
    box: bool = True
    seed: int = 0

    @cached_property
    def errors(self) -> Tensor:
        """Whether an image is misclassified without an attack, (B,) bool."""
        return logits_of(self.model, self.x, self.batch_size).argmax(1) != self.y

    @property
    def input_range(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.box else (-math.inf, math.inf)

    @property
    def batch_size(self) -> int:
        return BATCH[self.data]

    def split(self) -> Iterator[AttackCase]:
        """Split into batches of at most `batch_size` images."""
        pairs = zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True)
        return (replace(self, x=x, y=y) for x, y in pairs)

    def unboxed(self) -> AttackCase:
        """The same without the range of pixels, as the paper's authors attack."""
        return replace(self, box=False)


class ReturnedImages(NamedTuple):
    """Return value of an attack."""

    x: Tensor  # (B, *shape)
    backwards: Tensor | None = None  # (B,) long, where the attack tells


Attack = Callable[[nn.Module, AttackCase, int], ReturnedImages]
"""An attack: a function of the counting model, the case and the gradient evaluations per image."""


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """Outcome of an attack on a case, judged by its images alone."""

    success: Tensor  # (B,) bool: inside the ball and the range, and misclassified
    inside: Tensor  # (B,) bool
    margin: Tensor  # (B,)
    loss: Tensor  # (B,) cross-entropy
    distance: Tensor  # (B,) greatest change of a pixel
    told: Tensor | None  # (B,) long, backwards of each image, where the attack tells
    forwards: float  # of an image, in the mean
    backwards: float
    seconds: float  # CPU time of all images together


def run_attack(case: AttackCase, attack: Attack, evaluations: int) -> AttackOutcome:
    """Run an attack: count its cost, time it and judge its images."""
    model, returned = CountedClassifier(case.model, case.input_range), list[ReturnedImages]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)  # of outside packages
        took = timed(lambda: returned.append(attack(model, case, evaluations)))
    forwards, backwards = model.forwards / len(case.x), model.backwards / len(case.x)
    x = torch.where(by_row(case.errors, case.x), case.x, returned[0].x.detach())  # the clean image is a success already
    low, high = case.input_range
    logits = logits_of(case.model, x, case.batch_size)
    distance = (x - case.x).flatten(1).abs().amax(1)
    pixels = x.flatten(1)
    inside = (distance <= case.eps + SLACK) & (pixels >= low - SLACK).all(1) & (pixels <= high + SLACK).all(1)
    return AttackOutcome(
        success=(logits.argmax(1) != case.y) & inside,
        inside=inside,
        margin=margin(logits, case.y),
        loss=cross_entropy(logits, case.y),
        distance=distance,
        told=returned[0].backwards,
        forwards=forwards,
        backwards=backwards,
        seconds=took.cpu,
    )


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """Compute logits (B, K) in batches."""
    return torch.cat([model(part) for part in x.split(batch_size)])


def cases_of(
    name: str, source: Pretrained, eps: tuple[float, ...] | None, images: range, seed: int
) -> list[AttackCase]:
    """A case for each radius, on the images of these numbers.

    Raises:
        InputError: weights or images are not there.
    """
    model = source.load()
    x, y = (part[images.start :] for part in _images(source, images.stop))
    if not len(x):
        raise InputError("images", f"some that {source.images} has", f"those from {images.start} on")
    if not source.trained:
        y = logits_of(model, x, BATCH[source.images]).argmax(1)
    layers = None
    if source.last:
        count = len(sites(model, x[:1]))
        layers = tuple(range(count - source.last, count))
    case = partial(AttackCase, name, model, x, y, data=source.images, first=images.start, layers=layers, seed=seed)
    return [case(radius) for radius in eps or source.eps]


def _images(source: Pretrained, count: int) -> Images:
    if source.images != "random":
        return test_images(source.images, count)
    x = Noise(0, torch.arange(count)).uniform(torch.empty(count, 1, 28, 28), "images")
    return x, torch.zeros(count, dtype=torch.long)
