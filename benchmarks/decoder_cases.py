"""Photographs, whole or measured, for TAEF2, the tiny autoencoder of the latent space of FLUX.2."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.total_variation import total_variation
from latentopt.errors import InputError
from latentopt.networks.generator import Generator
from latentopt.operators import Bicubic, Blur, Identity, Mask, Operator
from latentopt.zoo.cards import load_generator
from latentopt.zoo.paths import data_root

PHOTOGRAPHS = "imagenet_samples/imagenet_even_classes_256.zip"
TUNING, STATISTICS = 100, 200
"""The first photographs for tuning, and for the statistics of the encoder's latents."""
SAMPLE = 16
"""Number of photographs for these statistics."""
NOISE = 0.01
"""Standard deviation of the noise of a measurement, for images in [0, 1]."""
VARIATION, STEPS = 1e-3, 150
"""Weight and steps of total variation for the first image of a measured photograph."""


@dataclass(frozen=True, eq=False)
class DecoderCase:
    """A photograph that a decoder is to make.

    Args:
        task: name of the task.
        index: number of the photograph.
        generator: the decoder, whose latents are normal with the mean and deviation of each channel on other
            photographs.
        fast: the same, fused.
        truth: the photograph (1, 3, H, W) in [0, 1].
        operator: what measures it.
        measurement: (1, ...), with noise.
        plain: an image (1, 3, H, W) made from the measurement without a network.
        first: the image whose latents methods start at: the photograph, or what total variation makes.
        seconds: CPU time that it took.
    """

    task: str
    index: int
    generator: Generator
    fast: Generator
    truth: Tensor
    operator: Operator
    measurement: Tensor
    plain: Tensor
    first: Tensor
    seconds: float

    def start(self) -> Tensor:
        """Return the encoder's latents (1, C, h, w) of the first image."""
        with torch.no_grad():
            return self.generator.encoder(self.first.clamp(0, 1))  # pyright: ignore[reportOptionalCall]

    def is_fitted(self, image: Tensor) -> bool:
        """Return whether an image (1, 3, H, W) is as far from the measurement as its noise."""
        if self.task == "inversion":
            return False
        with torch.no_grad():
            residual = self.operator(image) - self.measurement
        return residual.square().sum().item() <= NOISE**2 * int((self.measurement != 0).sum())

    def psnr(self, image: Tensor) -> float:
        """Return the peak signal-to-noise ratio of an image (1, 3, H, W), clamped to [0, 1]."""
        return -10 * (image.clamp(0, 1) - self.truth).square().mean().log10().item()


def _mask(size: int, index: int) -> Mask:
    keep = torch.rand(1, size, size, generator=torch.Generator().manual_seed(index)) < 0.5
    return Mask(keep.float())


def _filled(operator: Operator, y: Tensor, size: int) -> Tensor:
    """Fill hidden pixels with a mean of the known ones nearby."""
    near, known = Blur(1.0), operator(torch.ones(1, 1, size, size))
    return torch.where(known > 0, y, near(y) / near(known).clamp_min(1e-6))


@dataclass(frozen=True)
class DecoderTask:
    """Args:
    operator: from the side of the image and its number.
    noise: standard deviation.
    plain: from the operator, the measurement and the side: an image without a network.
    """

    operator: Callable[[int, int], Operator]
    noise: float
    plain: Callable[[Operator, Tensor, int], Tensor]


TASKS: dict[str, DecoderTask] = {
    "inversion": DecoderTask(lambda *_: Identity(), 0.0, lambda operator, y, size: y),
    "super-resolution": DecoderTask(
        lambda *_: Bicubic(4), NOISE, lambda operator, y, size: F.interpolate(y, (size, size), mode="bicubic")
    ),
    "inpainting": DecoderTask(_mask, NOISE, _filled),
    "deblurring": DecoderTask(lambda *_: Blur(2.0), NOISE, lambda operator, y, size: y),
}


def photographs(first: int, count: int, size: int) -> Tensor:
    """Return the middle (count, 3, size, size) of photographs of 256 x 256 pixels, in [0, 1].

    Raises:
        InputError: they are not there, or ``size`` is more than 256.
    """
    from PIL import Image

    file = data_root() / PHOTOGRAPHS
    if not file.is_file():
        raise InputError("LATENTOPT_DATA", f"a folder with {PHOTOGRAPHS}", str(data_root()))
    if size > 256:
        raise InputError("size", "at most 256", size)
    edge = (256 - size) // 2
    with zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[first : first + count]
        opened = (Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names)
        pixels = [np.asarray(image)[edge : edge + size, edge : edge + size] for image in opened]
    return torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2).contiguous() / 255


@cache
def decoder(size: int) -> tuple[Generator, Generator]:
    """Return TAEF2 for square images of ``size`` pixels a side, and its fused form."""
    loaded = load_generator(f"taesd:{data_root() / 'taef2'}").resized(size).eval().requires_grad_(False)
    with torch.no_grad():
        z = loaded.encoder(photographs(STATISTICS, SAMPLE, 128))  # pyright: ignore[reportOptionalCall]
    normal = torch.distributions.Normal(*(t[:, None, None] for t in (z.mean((0, 2, 3)), z.std((0, 2, 3)))))
    generator = Generator(loaded.module, latent_shape=loaded.latent_shape, latents=normal, encoder=loaded.encoder)
    generator.eval().requires_grad_(False).is_deterministic()
    return generator, generator.fused()


def decoder_case(task: str, index: int, size: int) -> DecoderCase:
    """Return a task on the photograph of a number."""
    truth, kind = photographs(index, 1, size), TASKS[task]
    operator = kind.operator(size, index)
    y = operator(truth)
    y = operator.add_noise(y, kind.noise, index) if kind.noise else y
    plain, begun = kind.plain(operator, y, size), time.process_time()
    first = total_variation(operator, y, plain, VARIATION, STEPS) if kind.noise else truth
    seconds = time.process_time() - begun
    return DecoderCase(task, index, *decoder(size), truth, operator, y, plain, first, seconds)
