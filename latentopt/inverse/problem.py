"""Reconstruction: the latent whose image explains a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor

from latentopt import components
from latentopt.arguments import Files, Named, Values, as_pixels, checked, names_files, read_images
from latentopt.batch_math import take
from latentopt.errors import InputError, first_line, positive
from latentopt.independence import require_independent, spread
from latentopt.inverse.priors import LatentPrior, Prior, Unconstrained
from latentopt.inverse.unknowns import fit_of, with_unknowns
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.conditions import require_conditions
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.objectives import L1, MSE, SSIM, Fit, GaussianNoise, Huber, NoiseModel
from latentopt.operators import Identity, Operator
from latentopt.operators.complex_parts import to_parts
from latentopt.operators.unknown import bind
from latentopt.problem import Problem, Success

ROUNDING = 1e-6
"""Distance by which rounding may put images outside their range."""
LARGE = 16.0
"""Measurements of images in [0, 1] stay below it, with noise of standard deviation 3 too."""


class Reconstruction(Problem):
    """Find latents ``z`` that minimise ``loss(operator(generator(z)), measurement)``.

    Args:
        generator: a pretrained generator.
        target: images (B, C, H, W) in [0, 1], or as far outside as the generator's own images (values up to 1e-6
            outside are clamped); or measurements (B, ...), which noise may take anywhere. Targets with the shape of the
            generator's images are images, and ``operator`` is applied to them; targets with the shape of the operator's
            output are measurements, where the operator's are complex, real and imaginary parts (B, 2, ...) or complex
            numbers (B, ...). A tensor, an array or a list; bytes (uint8) stand for [0, 1]. Or paths of images,
            as `latentopt.load_images` takes them.
        operator: maps images to measurements (`latentopt.operators`); or its name, or
            ``{class_path: ..., init_args: {...}}``, as on the command line. An operator that holds something for each
            image (a mask, a kernel) has ``take(rows)``, as ours have; so has such a loss, penalty of a prior, or
            generator.
        loss: distance of two measurements, (B, ...), (B, ...) to (B,) (`latentopt.objectives`), or its name. None: the
            negative log-likelihood of ``noise`` where it is a noise model, else `MSE`.
        measured: whether the target is a measurement; None: its shape decides, for an image where both fit.
        tolerance: a sample is solved once its loss, the prior's penalty included, is below this; ``discrepancy``: once
            its loss alone, that of a noise model, is no greater than noise makes it at the truth (Morozov 1966); None:
            never.
        prior: what is known of latents (`latentopt.inverse.priors`), or its name.
        noise: standard deviation of Gaussian noise added to the measurements of images, >= 0, in their units; or a
            noise model (`latentopt.objectives.NoiseModel`), or its name, whose noise is added to measurements of
            images, and which measurements have already.
        noise_seed: seed of that noise, which is drawn for each image by itself.

    Attributes:
        measurement: measurements (B, ...) to be fitted, on the generator's device.
        image: the target (B, C, H, W) where it is an image, else None.

    Raises:
        InputError: shapes or the number of conditions do not fit; values are not finite; images leave [0, 1] further
            than the generator's; measurements look like bytes, or cannot have such noise; the operator or the loss
            holds something for each image, without ``take(rows)``; or the prior or the tolerance needs a noise model.
    """

    @checked
    def __init__(
        self,
        generator: Generator,
        target: Values | Files,
        operator: Callable[[Tensor], Tensor] | Named | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | Named | None = None,
        measured: bool | None = None,
        tolerance: float | Literal["discrepancy"] | None = None,
        prior: Prior | Named = Unconstrained(),
        noise: float | NoiseModel | Named = 0.0,
        noise_seed: int = 0,
    ) -> None:
        level: float | NoiseModel = components.build("noise", "noise", noise)
        operator = Identity() if operator is None else operator
        measure: Callable[[Tensor], Tensor] = components.build("operator", "operator", operator)
        distance = build_loss(loss, level)
        known: Prior = components.build("prior", "prior", prior)
        _check_scale(distance, known, tolerance)
        generator = with_unknowns(generator, measure)
        model = next((part for part in (level, distance) if isinstance(part, NoiseModel)), None)
        target, measured, image_shape = _check_targets(target, generator, measure, measured, model)
        require_conditions(generator.conditions, len(target))
        self.generator, self.operator = generator, measure
        self.image = None if measured else target
        added = None if measured and isinstance(level, NoiseModel) else level
        if isinstance(added, float | int) and added and (measured or not isinstance(measure, Operator)):
            raise InputError("noise", "0 unless targets are images, and operator one of latentopt.operators", noise)
        with torch.no_grad():
            self.measurement = target if measured else _measure(measure, target)
            self._check_independence(distance, image_shape)
            if added and isinstance(measure, Operator):
                self.measurement = measure.add_noise(self.measurement, added, noise_seed)
            elif isinstance(added, NoiseModel):
                self.measurement = added.draw(self.measurement, noise_seed)
        fit, success = fit_of(distance, measure, self.measurement), None
        if tolerance == "discrepancy":
            if not isinstance(fit, Fit):
                raise InputError("tolerance", "a number, as the operator has unknown parameters", "discrepancy")
            success = Discrepancy(fit)
        elif tolerance is not None:
            success = _success_below(tolerance)
        super().__init__(
            generator,
            fit,
            generator.latent_shape,
            len(target),
            known.feasible(generator),
            success,
            target,
            known.penalty_of(generator),
        )

    def _check_independence(self, loss: Callable[[Tensor, Tensor], Tensor], image_shape: tuple[int, ...]) -> None:
        """Raise `InputError` where the operator or the loss would not follow an image once others have left."""
        images, measurement = self.image, self.measurement
        if images is None:
            pixels = torch.rand(image_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
            images = pixels.to(measurement).expand(len(measurement), *image_shape)
            measurement = _measure(self.operator, images)
        require_independent("operator", self.operator, images)
        require_independent("loss", loss, spread(measurement / 2), self.measurement)

    def take(self, rows: Tensor) -> Self:
        """Return the reconstruction of the targets ``rows`` (long), each as often as it is named."""
        part = super().take(rows)
        part.measurement = self.measurement[rows]
        part.image = None if self.image is None else self.image[rows]
        part.generator, part.operator = self.generator.take(rows), take(self.operator, rows)
        return part

    def predict(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the measurements (B, ...) of images (B, C, H, W), by the operator's unknown parameters at ``x``."""
        return bind(self.operator, x)(output)

    def projected(self, starts: Tensor) -> Tensor:
        """Return starts (k, B, *latent_shape), projected onto the feasible set."""
        rows = torch.arange(self.batch, device=starts.device).repeat(len(starts))
        return self.feasible.take(rows).project(starts.flatten(0, 1)).reshape(starts.shape)


@dataclass(frozen=True, eq=False)
class Discrepancy:
    """Success test: an image fits the measurement as well as noise lets the true one on average (Morozov 1966).

    Args:
        fit: whose loss is a noise model.
    """

    fit: Fit

    def __call__(self, value: Tensor, output: Tensor) -> Tensor:
        prediction, noise = self.fit.operator(output), cast(NoiseModel, self.fit.loss)
        return self.fit(output) <= noise.discrepancy(prediction, self.fit.measurement)

    def take(self, rows: Tensor) -> Discrepancy:
        return Discrepancy(self.fit.take(rows))


def _success_below(tolerance: float) -> Success:
    return lambda value, output: value < tolerance


def build_loss(
    loss: Callable[[Tensor, Tensor], Tensor] | Named | None, noise: float | NoiseModel
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss that a reconstruction's arguments ask for."""
    if loss is None:
        return noise if isinstance(noise, NoiseModel) else MSE()
    return components.build("loss", "loss", loss)


def _check_scale(loss: Callable[[Tensor, Tensor], Tensor], prior: Prior, tolerance: float | str | None) -> None:
    """Raise `InputError` where the prior or the tolerance asks for a loss in nats and this one is none.

    Raises:
        InputError: also where the tolerance is not as described.
    """
    if isinstance(prior, LatentPrior) and isinstance(loss, MSE | L1 | Huber | SSIM):
        expected = "a noise model as the loss (noise=, or loss=), such as GaussianNoise; GaussianPrior has a weight"
        raise InputError("prior", expected, f"LatentPrior beside {type(loss).__name__}")
    if tolerance == "discrepancy":
        if not isinstance(loss, NoiseModel):
            expected = "a noise model as the loss (noise=, or loss=), such as GaussianNoise, for discrepancy"
            raise InputError("tolerance", expected, type(loss).__name__)
        if isinstance(loss, GaussianNoise) and loss.sigma is None:
            raise InputError("tolerance", "GaussianNoise of a known level, for discrepancy", "sigma=None")
    elif tolerance is not None:
        positive("tolerance", tolerance)


def measurement_shapes(
    generator: Generator, operator: Callable[[Tensor], Tensor], row: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of one image and of its measurement by the operator of the image number ``row``.

    Raises:
        InputError: the operator cannot measure the image, or has nothing for it.
    """
    image = generator.output_shape()
    first = empty_like_parameters(generator).new_zeros(1, *image)
    with frozen(generator), torch.no_grad():
        try:
            row_operator = take(operator, torch.full((1,), row, device=first.device))
        except IndexError as error:
            raise InputError("operator", "as many masks, kernels or the like as images", str(error)) from error
        return image, tuple(_measure(row_operator, first).shape[1:])


def _check_targets(
    target: Values | Files,
    generator: Generator,
    operator: Callable[[Tensor], Tensor],
    measured: bool | None,
    noise: NoiseModel | None,
) -> tuple[Tensor, bool, tuple[int, ...]]:
    """Return targets (B, ...) on the generator's device, whether they are measurements, and the shape of an image.

    Raises:
        InputError: the targets are no finite values of a shape that fits, or their values are of another range.
    """
    numbers: Any = read_images("target", target) if names_files(target) else target
    array = numbers
    if isinstance(numbers, np.ndarray) and np.iscomplexobj(numbers):
        array = torch.from_numpy(np.ascontiguousarray(numbers))
    if isinstance(array, Tensor) and array.is_complex():
        if not getattr(operator, "is_complex", False):
            dtype = str(array.dtype).removeprefix("torch.")
            raise InputError("target", "real numbers, as the operator measures no complex ones", dtype)
        numbers = to_parts(array)
    target = as_pixels("target", numbers, empty_like_parameters(generator))
    if target.ndim == 0 or not len(target):
        raise InputError("target", "at least one sample", f"shape {tuple(target.shape)}")
    if not bool(target.isfinite().all()):
        raise InputError("target", "finite values", "NaN or infinity")
    image_shape, shape = measurement_shapes(generator, operator)
    if measured is None:
        measured = target.shape[1:] != image_shape
    if target.shape[1:] != (shape if measured else image_shape):
        expected = f"images (B, *{image_shape}) or measurements (B, *{shape})"
        raise InputError("target", expected, f"shape {tuple(target.shape)}{_remedy(target.shape, image_shape)}")
    if measured:
        return _check_measurements(target, generator, operator, noise), True, image_shape
    return _check_images(target, generator), False, image_shape


def _remedy(shape: Sequence[int], image_shape: tuple[int, ...]) -> str:
    """Return a hint for images whose channels are last, or that are of another size."""
    if tuple(shape[-1:]) + tuple(shape[1:-1]) == image_shape:
        return "; channels come first: permute(0, 3, 1, 2)"
    if len(shape) == 4 and len(image_shape) == 3:
        return f"; lo.load_images(path, shape={image_shape}) resizes"
    return "; one sample is target[None]" if tuple(shape) == image_shape else ""


@dataclass
class TargetCheck:
    """Check of the values of one target of a job, as in `Reconstruction`."""

    generator: Generator
    operator: Callable[[Tensor], Tensor]
    image: tuple[int, ...]  # (C, H, W)
    measured: bool | None  # None: a target is an image where it has the shape of one
    noise: NoiseModel | None = None  # of measurements

    def __call__(self, target: Tensor) -> Tensor:
        measured = target.shape != self.image if self.measured is None else self.measured
        if measured:
            first = take(self.operator, torch.tensor([0], device="cpu"))  # any target's does
            return _check_measurements(target[None], self.generator, first, self.noise)[0]
        return _check_images(target[None], self.generator)[0]


def _check_images(images: Tensor, generator: Generator) -> Tensor:
    """Return images (B, C, H, W), clamped to [0, 1] where only rounding puts them outside.

    Raises:
        InputError: they leave [0, 1] further than the generator's own images.
    """
    low, high = images.min().item(), images.max().item()
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return images.clamp(0, 1)
    lowest, greatest = generator.emitted_range()
    if low < lowest - ROUNDING or high > greatest + ROUNDING:
        expected = "values in [0, 1], to which a generator's output_range is mapped"
        if (lowest, greatest) != (0, 1):
            expected += f", or in [{lowest:.4g}, {greatest:.4g}], as this one's"
        raise InputError("target", expected, f"[{low:.4g}, {high:.4g}]")
    return images


@torch.no_grad()
def _check_measurements(
    target: Tensor, generator: Generator, operator: Callable[[Tensor], Tensor], noise: NoiseModel | None
) -> Tensor:
    """Return measurements (B, ...).

    Raises:
        InputError: the noise model excludes them; or the operator averages pixels, and its measurements look like
            bytes: large, and not negative as noise is.
    """
    if noise is not None:
        noise.require(target)
    low, high = target.min().item(), target.max().item()
    if high <= (LARGE if noise is None else noise.greatest()) or low < -high / 10:
        return target
    white = _measure(operator, target.new_ones(len(target), *generator.output_shape()))
    if bool(((white >= 0) & (white <= 1 + ROUNDING)).all()):
        remedy = "divide bytes by 255" + (", counts by photons" if hasattr(noise, "photons") else "")
        raise InputError("target", "measurements of images in [0, 1]", f"[{low:.4g}, {high:.4g}] ({remedy})")
    return target


def _measure(operator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the measurements (B, ...) of images (B, C, H, W)."""
    try:
        measurement = operator(images)
    except InputError:
        raise
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = first_line(error)
        raise InputError("operator", f"one that measures images of shape {tuple(images.shape)}", reason) from error
    if not isinstance(measurement, Tensor) or measurement.shape[:1] != images.shape[:1]:
        got = f"shape {tuple(measurement.shape)}" if isinstance(measurement, Tensor) else type(measurement).__name__
        raise InputError("operator", f"a measurement of each of {len(images)} images, or a method take(rows)", got)
    if measurement.is_complex():
        dtype = str(measurement.dtype).removeprefix("torch.")
        raise InputError("operator", "real measurements (torch.view_as_real gives both parts)", dtype)
    return measurement
