"""Reconstruction: the latent whose image explains a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError, nonnegative, positive
from latentopt.independence import require_independent, spread
from latentopt.inverse.priors import Prior, Unconstrained
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity, Operator
from latentopt.problem import Problem


class Reconstruction(Problem):
    """Find latents ``z`` that minimise ``loss(operator(generator(z)), measurement)``.

    Args:
        generator: a pretrained generator.
        target: images (B, C, H, W) in [0, 1] (values up to 1e-6 outside are clamped), or as far outside as the
            generator's own images are, or measurements (B, ...), which noise may take anywhere. With the shape of the
            generator's images they are images, and ``operator`` is applied to them; with the shape of the operator's
            output they are measurements already.
        operator: what is known of an image (`latentopt.operators`). One that holds something for each image (a mask, a
            kernel) has ``take(rows)``: ours do; also ``loss``, a prior's penalty and a generator.
        loss: distance of two measurements, (B, ...), (B, ...) to (B,) (`latentopt.objectives`).
        measured: the target is a measurement; None: decide by its shape, an image where both fit.
        tolerance: a sample is solved once its loss, the prior's penalty included, is below this; None: never.
        prior: what is known of latents (`latentopt.inverse.priors`).
        noise: standard deviation of Gaussian noise that is added to the measurements of images, >= 0, in their units.
        noise_seed: of that noise, which is drawn for each image by itself.

    Attributes:
        measurement: what is fitted (B, ...), where the generator is.
        image: the target (B, C, H, W) where it is an image, else None.

    Raises:
        InputError: shapes or the number of conditions do not fit, values are not finite, images leave [0, 1] where the
            generator's do not, or measurements look like bytes; or the operator or the loss holds something for each
            image, without ``take(rows)``.
    """

    def __init__(
        self,
        generator: Generator,
        target: Tensor,
        operator: Callable[[Tensor], Tensor] | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        measured: bool | None = None,
        tolerance: float | None = None,
        prior: Prior = Unconstrained(),
        noise: float = 0.0,
        noise_seed: int = 0,
    ) -> None:
        if tolerance is not None:
            positive("tolerance", tolerance)
        nonnegative("noise", noise)
        self.generator = generator
        self.operator, loss = operator or Identity(), loss or MSE()
        target = _finite(target).to(empty_like_parameters(generator))
        image_shape, shape = measurement_shapes(generator, self.operator)
        if measured is None:
            measured = target.shape[1:] != image_shape
        if target.shape[1:] != (shape if measured else image_shape):
            expected = f"images (B, *{image_shape}) or measurements (B, *{shape})"
            raise InputError("target", expected, f"shape {tuple(target.shape)}")
        target = (
            checked_measurements(target, generator, self.operator) if measured else checked_images(target, generator)
        )
        for name, value in generator.conditions.items():
            if len(value) not in (1, len(target)):
                raise InputError(name, f"1 or {len(target)} conditions, one a target", len(value))
        self.image = None if measured else target
        if noise and (measured or not isinstance(self.operator, Operator)):
            raise InputError("noise", "0 unless targets are images, and operator one of latentopt.operators", noise)
        with torch.no_grad():
            self.measurement = target if measured else _measured(self.operator, target)
            self._check_independence(loss, image_shape)
            if noise and isinstance(self.operator, Operator):
                self.measurement = self.operator.add_noise(self.measurement, noise, noise_seed)
        super().__init__(
            generator,
            Fit(loss, self.operator, self.measurement),
            generator.latent_shape,
            len(target),
            prior.feasible(generator),
            None if tolerance is None else lambda value, output: value < tolerance,
            target,
            prior.penalty_of(generator),
        )

    def _check_independence(self, loss: Callable[[Tensor, Tensor], Tensor], image_shape: tuple[int, ...]) -> None:
        """Raise `InputError` where the operator or the loss would not follow an image once others have left."""
        count, images, measured = len(self.measurement), self.image, self.measurement
        if images is None:
            pixels = torch.rand(image_shape, generator=torch.Generator().manual_seed(0))
            images = pixels.to(measured).expand(count, *image_shape)
            measured = _measured(self.operator, images)
        require_independent("operator", self.operator, images)
        require_independent("loss", loss, spread(measured / 2), self.measurement)

    def take(self, rows: Tensor) -> Self:
        """Return the reconstruction of the targets ``rows`` (long), each as often as it is named."""
        part = super().take(rows)
        part.measurement = self.measurement[rows]
        part.image = None if self.image is None else self.image[rows]
        part.generator, part.operator = self.generator.take(rows), take(self.operator, rows)
        return part

    def projected(self, starts: Tensor) -> Tensor:
        """Starts (k, B, *latent_shape) in the feasible set."""
        rows = torch.arange(self.batch, device=starts.device).repeat(len(starts))
        return self.feasible.take(rows).project(starts.flatten(0, 1)).reshape(starts.shape)


def measurement_shapes(
    generator: Generator, operator: Callable[[Tensor], Tensor], row: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of one image and of its measurement; ``row``: which image, where the operator is another for each.

    Raises:
        InputError: the operator cannot measure the image, or has nothing for it.
    """
    image = generator.output_shape()
    first = torch.zeros(1, *image).to(empty_like_parameters(generator))
    with frozen(generator), torch.no_grad():
        try:
            one = take(operator, torch.full((1,), row, device=first.device))
        except IndexError as error:
            raise InputError("operator", "as many masks, kernels or the like as images", str(error)) from error
        return image, tuple(_measured(one, first).shape[1:])


def _measured(operator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Measurements (B, ...) of images (B, C, H, W)."""
    try:
        measured = operator(images)
    except InputError:
        raise
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("operator", f"one that measures images of shape {tuple(images.shape)}", reason) from error
    if not isinstance(measured, Tensor) or measured.shape[:1] != images.shape[:1]:
        came = f"shape {tuple(measured.shape)}" if isinstance(measured, Tensor) else type(measured).__name__
        raise InputError("operator", f"a measurement of each of {len(images)} images, or a method take(rows)", came)
    return measured


def _finite(target: Tensor) -> Tensor:
    if not isinstance(target, Tensor) or not target.is_floating_point():
        came = f"{target.dtype} (divide bytes by 255)" if isinstance(target, Tensor) else type(target).__name__
        raise InputError("target", "a tensor of floating-point values in [0, 1]", came)
    if target.ndim == 0 or not len(target):
        raise InputError("target", "at least one sample", f"shape {tuple(target.shape)}")
    if not bool(target.isfinite().all()):
        raise InputError("target", "finite values", "NaN or infinity")
    return target


@dataclass
class TargetCheck:
    """A job's rule for one target's values, as `Reconstruction` has it; ``measured`` None: an image where it has the
    shape of one.
    """

    generator: Generator
    operator: Callable[[Tensor], Tensor]
    image: tuple[int, ...]  # (C, H, W)
    measured: bool | None

    def __call__(self, target: Tensor) -> Tensor:
        measured = target.shape != self.image if self.measured is None else self.measured
        if measured:
            first = take(self.operator, torch.tensor([0]))  # any target's does
            return checked_measurements(target[None], self.generator, first)[0]
        return checked_images(target[None], self.generator)[0]


def checked_images(images: Tensor, generator: Generator) -> Tensor:
    """The images (B, C, H, W), clamped to [0, 1] where they leave it by rounding only.

    Raises:
        InputError: they leave [0, 1] further than the generator's own images.
    """
    low, high = images.min().item(), images.max().item()
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return images.clamp(0, 1)
    least, most = generator.emitted_range()
    if low < least - ROUNDING or high > most + ROUNDING:
        expected = "values in [0, 1], to which a generator's output_range is mapped"
        if (least, most) != (0, 1):
            expected += f", or in [{least:.4g}, {most:.4g}], as this one's"
        raise InputError("target", expected, f"[{low:.4g}, {high:.4g}]")
    return images


ROUNDING = 1e-6
"""By how much images may leave their range."""


@torch.no_grad()
def checked_measurements(target: Tensor, generator: Generator, operator: Callable[[Tensor], Tensor]) -> Tensor:
    """The measurements (B, ...).

    Raises:
        InputError: they look like bytes, of an operator that averages pixels: large, and not negative as noise is.
    """
    low, high = target.min().item(), target.max().item()
    if high <= LARGE or low < -high / 10:
        return target
    white = _measured(operator, torch.ones(len(target), *generator.output_shape()).to(target))
    if bool(((white >= 0) & (white <= 1 + ROUNDING)).all()):
        came = f"[{low:.4g}, {high:.4g}] (divide bytes by 255)"
        raise InputError("target", "measurements of images in [0, 1]", came)
    return target


LARGE = 16.0
"""Measurements of images in [0, 1] with noise of standard deviation 3 stay below."""
