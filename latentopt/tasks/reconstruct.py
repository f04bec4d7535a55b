"""Reconstruction: the latent whose image explains a measurement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.networks import Generator, frozen, like
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity
from latentopt.problem import Problem
from latentopt.sets import Free


class Reconstruction(Problem):
    """Find latents ``z`` that minimise ``loss(operator(generator(z)), measurement)``.

    Args:
        generator: a pretrained generator.
        target: images or measurements (B, ...) in [0, 1] (values up to 1e-6 outside are clamped). With the shape of
            the generator's images they are images, and ``operator`` is applied to them; with the shape of the
            operator's output they are measurements already.
        operator: what is known of an image (`latentopt.operators`).
        loss: distance of two measurements, (B, ...), (B, ...) to (B,) (`latentopt.objectives`).
        measured: the target is a measurement; None: decide by its shape, an image where both fit.
        tolerance: a sample is solved once its loss is below this; None: never.

    Attributes:
        measurement: what is fitted (B, ...), where the generator is.
        image: the target (B, C, H, W) where it is an image, else None.

    Raises:
        InputError: shapes do not fit, or values are not finite or outside [0, 1].
    """

    def __init__(
        self,
        generator: Generator,
        target: Tensor,
        operator: Callable[[Tensor], Tensor] | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        measured: bool | None = None,
        tolerance: float | None = None,
    ) -> None:
        if tolerance is not None:
            positive("tolerance", tolerance)
        self.generator = generator
        self.operator = operator or Identity()
        target = _checked(target).to(like(generator))
        image_shape, shape = measurement_shapes(generator, self.operator)
        if measured is None:
            measured = target.shape[1:] != image_shape
        if target.shape[1:] != (shape if measured else image_shape):
            expected = f"images (B, *{image_shape}) or measurements (B, *{shape})"
            raise InputError("target", expected, f"shape {tuple(target.shape)}")
        self.image = None if measured else target
        with torch.no_grad():
            self.measurement = target if measured else self.operator(target)
        super().__init__(
            generator,
            Fit(loss or MSE(), self.operator, self.measurement),
            generator.latent_shape,
            len(target),
            Free(generator.start_scale),
            None if tolerance is None else lambda value, output: value < tolerance,
            target,
        )


def measurement_shapes(
    generator: Generator, operator: Callable[[Tensor], Tensor]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of one image and of its measurement."""
    image = generator.output_shape()
    with frozen(generator), torch.no_grad():
        return image, tuple(operator(torch.zeros(1, *image).to(like(generator))).shape[1:])


def _checked(target: Tensor) -> Tensor:
    if not isinstance(target, Tensor) or not target.is_floating_point():
        came = f"{target.dtype} (divide bytes by 255)" if isinstance(target, Tensor) else type(target).__name__
        raise InputError("target", "a tensor of floating-point values in [0, 1]", came)
    if target.ndim == 0 or not len(target):
        raise InputError("target", "at least one sample", f"shape {tuple(target.shape)}")
    if not bool(target.isfinite().all()):
        raise InputError("target", "finite values", "NaN or infinity")
    low, high = target.min().item(), target.max().item()
    if low < -1e-6 or high > 1 + 1e-6:
        raise InputError(
            "target", "values in [0, 1], to which a generator's output_range is mapped", f"[{low:.4g}, {high:.4g}]"
        )
    return target.clamp(0, 1)
