"""The generator and a small discriminator of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from latentopt.errors import InputError, positive
from latentopt.zoo.stylegan2.layers import EqualConv2d, EqualLinear, PixelNorm, StyledConv, ToRGB

WIDTHS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
"""The paper's channels by resolution, 4 to 1024 (configuration F)."""


class Constant(nn.Module):
    """The learnt input (1, C, 4, 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleNetwork(nn.Module, ABC):
    """A generator with a mapping network and a style for each layer.

    Attributes:
        style_size: number of values of z and of w.
        layers: number of styles of an image.
        output_range: (low, high) of its images.
        normal_noise: whether noise maps are normal, and so may be latents.
        space: name of the space of its latents.
    """

    style_size: int
    layers: int
    output_range = (-1.0, 1.0)
    normal_noise = True
    space = "z"

    @property
    @abstractmethod
    def mapping(self) -> nn.Module:
        """The mapping network, z (B, style_size) to w (B, style_size)."""

    @property
    @abstractmethod
    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes (1, H, W) of the noise maps."""

    @abstractmethod
    def synthesis(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Generate images from a style for each layer.

        Args:
            w: (B, layers, style_size).
            noise: maps (1 or B, 1, H, W), of `noise_shapes`. None: the network's own.

        Returns:
            (B, colours, size, size).
        """

    def random_noise(self, like: Tensor) -> list[Tensor]:
        """Draw noise maps (B, 1, H, W) for B samples; device and dtype are those of ``like`` (B, ...)."""
        return [torch.randn(len(like), *shape, device=like.device, dtype=like.dtype) for shape in self.noise_shapes]

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z)[:, None].expand(-1, self.layers, -1)
        return self.synthesis(w, self.random_noise(w) if self.training else None)


class StyleGAN2(StyleNetwork):
    """StyleGAN2 generator: mapping network, modulated convolutions with noise maps, images added up over resolutions.

    Its state dict has the names and shapes of rosinality/stylegan2-pytorch. Of latents ``z`` it makes one style w for
    all layers; `synthesis` takes a style for each.

    Args:
        size: side of the images, a power of 2, >= 8.
        style: number of values of z and of w.
        mapping: layers of the mapping network.
        channels: of the features by resolution, from 4 x 4 up. None: the paper's.
        colours: channels of the images.

    Maps ``(B, style)`` to ``(B, colours, size, size)``, about [-1, 1]. In eval mode the noise maps are those in the
    state dict, else they are drawn.
    """

    def __init__(
        self,
        size: int = 256,
        style: int = 512,
        mapping: int = 8,
        channels: Sequence[int] | None = None,
        colours: int = 3,
    ) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 8 or size & (size - 1):
            raise InputError("size", "a power of 2, at least 8", size)
        for name, value in {"style": style, "mapping": mapping, "colours": colours}.items():
            positive(name, value, integer=True)
        count = size.bit_length() - 2
        widths = tuple(channels or WIDTHS[:count])
        if len(widths) != count:
            raise InputError("channels", f"{count} numbers, of 4 x 4 to {size} x {size}", list(widths))
        self.size, self.style_size, self.layers = size, style, 2 * count
        maps = (EqualLinear(style, style, lr_multiplier=0.01, activated=True) for _ in range(mapping))
        self.style = nn.Sequential(PixelNorm(), *maps)
        self.input = Constant(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], style)
        self.to_rgb1 = ToRGB(widths[0], style, colours, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for before, width in pairwise(widths):
            self.convs += [StyledConv(before, width, style, upsample=True), StyledConv(width, width, style)]
            self.to_rgbs.append(ToRGB(width, style, colours))
        for number, shape in enumerate(self.noise_shapes):
            self.noises.register_buffer(f"noise_{number}", torch.randn(1, *shape))

    @property
    def mapping(self) -> nn.Module:
        return self.style

    @property
    def noise_shapes(self) -> list[tuple[int, int, int]]:
        sides = [2 ** ((number + 5) // 2) for number in range(self.layers - 1)]
        return [(1, side, side) for side in sides]

    def constant_noise(self) -> list[Tensor]:
        """Return the noise maps (1, 1, H, W) in the state dict."""
        return [self.noises.get_buffer(f"noise_{number}") for number in range(self.layers - 1)]

    def synthesis(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        maps = self.constant_noise() if noise is None else noise
        x = self.conv1(self.input.input.expand(w.shape[0], -1, -1, -1), w[:, 0], maps[0])
        image = self.to_rgb1(x, w[:, 1])
        for number, to_rgb in enumerate(self.to_rgbs):
            first = 2 * number
            x = self.convs[first](x, w[:, first + 1], maps[first + 1])
            x = self.convs[first + 1](x, w[:, first + 2], maps[first + 2])
            image = to_rgb(x, w[:, first + 3], image)
        return image


class Discriminator(nn.Module):
    """Discriminator for the training of small StyleGAN2s: convolutions of stride 2 down to 4 x 4, equalised.

    The standard deviation over the batch is one more channel at 4 x 4 (Karras et al. 2018, arXiv 1710.10196).

    Args:
        size: side of the images, a power of 2.
        channels: of the features, from size / 2 down to 4 x 4.
        colours: channels of the images.
        hidden: values before the logit.

    Maps ``(B, colours, size, size)`` to logits ``(B,)``.
    """

    def __init__(
        self, size: int = 32, channels: Sequence[int] = (32, 64, 128), colours: int = 1, hidden: int = 128
    ) -> None:
        super().__init__()
        if size != 4 << len(channels):
            raise InputError("channels", f"numbers, of {size // 2} x {size // 2} to 4 x 4", list(channels))
        widths = (colours, *channels)
        pairs = pairwise(widths)
        self.layers = nn.Sequential(*(EqualConv2d(*pair, 4, stride=2, padding=1) for pair in pairs))
        self.last = EqualConv2d(channels[-1] + 1, channels[-1], 3, padding=1)
        self.head = nn.Sequential(
            nn.Flatten(), EqualLinear(16 * channels[-1], hidden, activated=True), EqualLinear(hidden, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        spread = (x.var(0, correction=0) + 1e-8).sqrt().mean()
        return self.head(self.last(torch.cat([x, spread.expand(len(x), 1, 4, 4)], 1))).squeeze(1)
