"""Layers of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), with the names of rosinality/stylegan2-pytorch's weights.

Modulation scales the input of a convolution and demodulation its output, which equals the paper's scaled kernels
(equations 1 and 3) without a kernel for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIR = (1.0, 3.0, 3.0, 1.0)
EPS = 1e-8


def activate(x: Tensor) -> Tensor:
    """LeakyReLU of slope .2, times the root of 2, which keeps the variance."""
    return math.sqrt(2) * F.leaky_relu(x, 0.2)


def kernel_of(taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """Return the two-dimensional filter (n, n) of one-dimensional taps, whose sum is ``gain``."""
    line = torch.tensor(taps, dtype=torch.float32)
    return gain * line.outer(line) / line.sum().square()


class PixelNorm(nn.Module):
    """Latents (B, n) scaled to a mean square of 1."""

    def forward(self, z: Tensor) -> Tensor:
        return z * (z.square().mean(1, keepdim=True) + EPS).rsqrt()


class EqualLinear(nn.Module):
    """Affine layer with an equalised learning rate (Karras et al. 2018, arXiv 1710.10196).

    Args:
        inputs, outputs: numbers of values.
        bias: of the first step.
        lr_multiplier: factor of the learning rate.
        activated: end with `activate`.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, lr_multiplier: float = 1.0, activated: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.lr_multiplier, self.activated = lr_multiplier / math.sqrt(inputs), lr_multiplier, activated

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.scale * self.weight, self.lr_multiplier * self.bias)
        return activate(out) if self.activated else out


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate, and `activate` after it.

    Args:
        inputs, outputs: channels.
        size: of the kernel.
        stride, padding: as in `torch.nn.Conv2d`.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.stride, self.padding = 1 / math.sqrt(inputs * size**2), stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return activate(F.conv2d(x, self.scale * self.weight, self.bias, self.stride, self.padding))


class FIRBlur(nn.Module):
    """FIR filter of each channel; pads by 1 on each side, so that a side of 2 n + 1 becomes 2 n."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel_of(FIR, gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.flip(0, 1).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


class FIRUpsample(nn.Module):
    """Image of twice the sides: zeros between the pixels, then the FIR filter."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel_of(FIR, gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], 1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def modulated(
    x: Tensor,
    kernel: Tensor,
    s: Tensor,
    demodulated: bool,
    convolve: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Convolve features (B, C, H, W) by a kernel (out, C, n, n), scaled by ``s`` (B, C) for each sample.

    Args:
        x: features.
        kernel: the kernel, n odd.
        s: scale of each input channel.
        demodulated: whether the scaled kernel of each output channel is divided by its norm.
        convolve: of features and kernel. None: a convolution that keeps the sides.
    """
    x = x * s[:, :, None, None]
    out = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2) if convolve is None else convolve(x, kernel)
    if not demodulated:
        return out
    norm = F.linear(s.square(), kernel.square().sum((2, 3)))  # (B, out): sum of the squared scaled kernel
    return out * (norm + EPS).rsqrt()[:, :, None, None]


class ModulatedConv2d(nn.Module):
    """Convolution whose kernel a style scales by input channel.

    Args:
        inputs, outputs: channels.
        size: of the kernel, odd.
        style: number of values of a style.
        demodulated: scale each output channel to the variance of its input.
        upsample: double the sides by a transposed convolution, then blur.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, style: int, demodulated: bool = True, upsample: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        self.modulation = EqualLinear(style, inputs, bias=1.0)
        self.scale, self.demodulated = 1 / math.sqrt(inputs * size**2), demodulated
        self.blur = FIRBlur() if upsample else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Convolve ``x`` (B, inputs, H, W) by the kernel that ``style`` (B, n) scales."""
        kernel, s = self.scale * self.weight[0], self.modulation(style)
        if self.blur is None:
            return modulated(x, kernel, s, self.demodulated)
        return modulated(x, kernel, s, self.demodulated, self._upsampled)

    def _upsampled(self, x: Tensor, kernel: Tensor) -> Tensor:
        assert self.blur is not None
        return self.blur(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2))


class NoiseInjection(nn.Module):
    """Weight of a noise map, which all channels share."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Bias(nn.Module):
    """Bias of each channel before the activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation.

    Args:
        inputs, outputs: channels.
        style: number of values of a style.
        upsample: double the sides.
    """

    def __init__(self, inputs: int, outputs: int, style: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style, upsample=upsample)
        self.noise, self.activate = NoiseInjection(), Bias(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """Map features (B, C, H, W), a style (B, n) and a noise map (1 or B, 1, H', W') to features."""
        out = self.conv(x, style) + self.noise.weight * noise
        return activate(out + self.activate.bias[:, None, None])


class ToRGB(nn.Module):
    """Colours from features, added to the image of the resolution below.

    Args:
        inputs: channels of the features.
        style: number of values of a style.
        colours: channels of the image.
        upsample: whether there is an image below.
    """

    def __init__(self, inputs: int, style: int, colours: int = 3, upsample: bool = True) -> None:
        super().__init__()
        self.upsample = FIRUpsample() if upsample else None
        self.conv = ModulatedConv2d(inputs, colours, 1, style, demodulated=False)
        self.bias = nn.Parameter(torch.zeros(1, colours, 1, 1))

    def forward(self, x: Tensor, style: Tensor, below: Tensor | None = None) -> Tensor:
        out = self.conv(x, style) + self.bias
        return out if below is None or self.upsample is None else out + self.upsample(below)
