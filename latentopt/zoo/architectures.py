"""Networks of the shipped models: plain modules with ReLU hidden layers, built from the numbers in a card."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected ReLU network, affine at the end.

    Args:
        sizes: widths from input to output, e.g. ``(20, 500, 500, 784)``.
        shape: features of the output, whose product is ``sizes[-1]``; default ``(sizes[-1],)``.
        sigmoid: squash the output into (0, 1).

    Maps ``(B, *any)`` with ``sizes[0]`` values a sample to ``(B, *shape)``.
    """

    def __init__(self, sizes: Sequence[int], shape: Sequence[int] | None = None, sigmoid: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape) if shape else (sizes[-1],)
        layers: list[nn.Module] = [nn.Flatten()]
        for width, following in pairwise(sizes):
            layers += [nn.Linear(width, following), nn.ReLU()]
        layers[-1] = nn.Sigmoid() if sigmoid else nn.Identity()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(1, self.shape)


class ConvGenerator(nn.Module):
    """DCGAN generator for 28 x 28 images (Radford et al. 2015): ConvTranspose, BatchNorm, ReLU, and tanh at the end.

    Args:
        latent: number of latent values.
        channels: maps at 7 x 7 and at 14 x 14.

    Maps ``(B, latent)`` to ``(B, 1, 28, 28)`` in (-1, 1).
    """

    def __init__(self, latent: int = 64, channels: tuple[int, int] = (128, 64)) -> None:
        super().__init__()
        wide, narrow = channels
        self.layers = nn.Sequential(
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, wide, 7, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.ConvTranspose2d(narrow, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class ConvDiscriminator(nn.Module):
    """DCGAN discriminator for 28 x 28 images: strided convolutions, LeakyReLU.

    Maps ``(B, 1, 28, 28)`` in [-1, 1] to logits ``(B,)``.
    """

    def __init__(self, channels: tuple[int, int] = (64, 128)) -> None:
        super().__init__()
        narrow, wide = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, narrow, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(wide * 7 * 7, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class ConvClassifier(nn.Module):
    """Convolutions of stride 2, each halving the sides, then fully connected layers; ReLU between, affine at the end.

    Args:
        shape: (C, H, W) of one image.
        channels: maps after each convolution (4 x 4, padding 1).
        hidden: widths of the fully connected layers before the last.
        classes: number of logits.

    Maps ``(B, C, H, W)`` to logits ``(B, classes)``.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32),
        hidden: Sequence[int] = (100,),
        classes: int = 10,
    ) -> None:
        super().__init__()
        colours, height, width = shape
        layers: list[nn.Module] = []
        for before, after in pairwise((colours, *channels)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
            height, width = height // 2, width // 2
        maps = (colours, *channels)[-1]
        self.layers = nn.Sequential(*layers, MLP((maps * height * width, *hidden, classes)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class NatureCNN(nn.Module):
    """The network of Mnih et al. 2015 for images of games, narrower: 8 x 8 of stride 4, then 4 x 4 of stride 2.

    Args:
        shape: (C, H, W) of one image.
        channels: maps after each of the two.
        hidden: width of the fully connected layer after them.
        outputs: number of outputs, e.g. of actions.

    Maps ``(B, C, H, W)`` to ``(B, outputs)``.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (3, 64, 64),
        channels: tuple[int, int] = (16, 32),
        hidden: int = 256,
        outputs: int = 15,
    ) -> None:
        super().__init__()
        colours, height, width = shape
        height, width = (((side - 8) // 4 + 1 - 4) // 2 + 1 for side in (height, width))
        narrow, wide = channels
        self.layers = nn.Sequential(
            nn.Conv2d(colours, narrow, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(wide * height * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
