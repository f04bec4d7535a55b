"""The StyleGAN2 of lucidrains/stylegan2-pytorch (PyPI), with the names of its weights.

It differs from the paper's network: bilinear upsampling before convolutions instead of transposed ones, a convolution
of the constant, scales 1 + s, LeakyReLU without the factor of root 2, one uniform noise image, and images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.zoo.stylegan2.layers import modulated
from latentopt.zoo.stylegan2.network import StyleNetwork


class Kernel(nn.Module):
    """The kernel (outputs, inputs, n, n) of a modulated convolution."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        nn.init.kaiming_normal_(self.weight)


class ScaledLinear(nn.Linear):
    """Affine layer whose weights and biases are scaled by a tenth."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.linear(input, 0.1 * self.weight, 0.1 * self.bias)


class BilinearMapping(nn.Module):
    """Mapping network: layers with LeakyReLU, after a projection onto the unit sphere."""

    def __init__(self, style: int, layers: int) -> None:
        super().__init__()
        parts = [(ScaledLinear(style, style), nn.LeakyReLU(0.2)) for _ in range(layers)]
        self.net = nn.Sequential(*(part for pair in parts for part in pair))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(F.normalize(z, dim=1))


class BilinearRGB(nn.Module):
    """Colours from features, added to those of the resolution below."""

    def __init__(self, style: int, inputs: int, colours: int) -> None:
        super().__init__()
        self.to_style, self.conv = nn.Linear(style, inputs), Kernel(inputs, colours, 1)

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None) -> Tensor:
        out = modulated(x, self.conv.weight, 1 + self.to_style(w), demodulated=False)
        return out if below is None else out + below


class BilinearBlock(nn.Module):
    """Two modulated convolutions with noise, of one style."""

    def __init__(self, style: int, inputs: int, outputs: int, colours: int) -> None:
        super().__init__()
        self.to_style1, self.to_noise1 = nn.Linear(style, inputs), nn.Linear(1, outputs)
        self.conv1 = Kernel(inputs, outputs, 3)
        self.to_style2, self.to_noise2 = nn.Linear(style, outputs), nn.Linear(1, outputs)
        self.conv2 = Kernel(outputs, outputs, 3)
        self.to_rgb = BilinearRGB(style, outputs, colours)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor, below: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map features, a style (B, n), a noise map (1 or B, 1, H, W) and an image to features and an image."""
        maps = noise[:, 0, : x.shape[2], : x.shape[3], None]
        noises = (layer(maps).permute(0, 3, 2, 1) for layer in (self.to_noise1, self.to_noise2))
        for conv, to_style, own in zip((self.conv1, self.conv2), (self.to_style1, self.to_style2), noises, strict=True):
            x = F.leaky_relu(modulated(x, conv.weight, 1 + to_style(w), demodulated=True) + own, 0.2)
        return x, self.to_rgb(x, w, below)


class BilinearSynthesis(nn.Module):
    """The constant, its convolution, and a block for each resolution."""

    def __init__(self, style: int, channels: Sequence[int], colours: int) -> None:
        super().__init__()
        first = channels[0]
        self.initial_block = nn.Parameter(torch.randn(1, first, 4, 4))
        self.initial_conv = nn.Conv2d(first, first, 3, padding=1)
        self.blocks = nn.ModuleList(BilinearBlock(style, *pair, colours) for pair in pairwise((first, *channels)))

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        x = self.initial_conv(self.initial_block.expand(len(w), -1, -1, -1))
        image = None
        for number, block in enumerate(self.blocks):
            if number:
                x = _doubled(x)
            x, image = block(x, w[:, number], noise, image)
            if number < len(self.blocks) - 1:
                image = _blurred(_doubled(image))
        assert image is not None
        return image


class BilinearStyleGAN2(StyleNetwork):
    """StyleGAN2 generator of lucidrains/stylegan2-pytorch, without attention.

    Args:
        style: number of values of z and of w.
        mapping: layers of the mapping network.
        channels: of the features by resolution, from 4 x 4 up.
        colours: channels of the images.

    Maps ``(B, style)`` to ``(B, colours, size, size)``, about [0, 1]. In eval mode the noise is a constant of seed 0.
    """

    output_range = (0.0, 1.0)
    normal_noise = False
    noise: Tensor

    def __init__(
        self, style: int = 512, mapping: int = 8, channels: Sequence[int] = (512, 256), colours: int = 3
    ) -> None:
        super().__init__()
        self.size, self.style_size, self.layers = 2 << len(channels), style, len(channels)
        self.S = BilinearMapping(style, mapping)
        self.G = BilinearSynthesis(style, channels, colours)
        noise = torch.rand(1, 1, self.size, self.size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        self.register_buffer("noise", noise, persistent=False)

    @property
    def mapping(self) -> nn.Module:
        return self.S

    @property
    def noise_shapes(self) -> list[tuple[int, int, int]]:
        return [(1, self.size, self.size)]

    def random_noise(self, like: Tensor) -> list[Tensor]:
        return [torch.rand(len(like), *shape, device=like.device, dtype=like.dtype) for shape in self.noise_shapes]

    def synthesis(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        return self.G(w, self.noise if noise is None else noise[0])


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _blurred(x: Tensor) -> Tensor:
    """Filter each channel by (1, 2, 1) / 4 along both axes; borders are reflected."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = line.outer(line).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])
