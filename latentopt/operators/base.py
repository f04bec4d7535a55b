"""The interface of every measurement operator: measure, adjoint, noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import Values, as_values, checked
from latentopt.errors import InputError, nonnegative, positive
from latentopt.files import read_values
from latentopt.noise import NoiseDraw, normal_by_value


class Operator(ABC):
    """A differentiable map A from images (B, C, H, W) to measurements (B, ...), real numbers.

    An operator with parameters for each image (masks, kernels) has ``take(rows)``, which returns the operator for the
    images ``rows`` (long); an index may repeat.

    Attributes:
        is_linear: whether A is linear and so has an `adjoint`; False, unless a class says otherwise.
        is_complex: whether measurements are (B, 2, ...), the real and the imaginary parts of complex numbers.
    """

    is_linear = False
    is_complex = False

    @abstractmethod
    def __call__(self, image: Tensor) -> Tensor: ...

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Predict the measurement of an image, as the loss `latentopt.objectives.Consistent` compares it.

        An operator that loses part of a value (clipping, rounding) returns the measurement itself where the image may
        have given it, and elsewhere by how much it may not. All others return what they measure.

        Args:
            image: (B, ...).
            measurement: (B, ...), of this operator.

        Returns:
            Values in the shape of the measurement, differentiable in the image.
        """
        return self(image)

    @checked
    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """Compute the adjoint A^T y of a linear operator, for which <A x, y> = <x, A^T y> for all images x.

        It is the gradient of <A x, y> at x = 0.

        Args:
            measurement: y, floating point (B, ...), in the shape of measurements of images of ``image_shape``.
            image_shape: (C, H, W), or (C, T) of signals, (C, D, H, W) of volumes.

        Returns:
            (B, *image_shape), on the device and in the dtype of y, differentiable in y.

        Raises:
            InputError: the operator is not linear, the shapes do not fit each other, or the measurement is not floating
                point.

        >>> import torch
        >>> from latentopt.operators import Crop
        >>> Crop(1).adjoint(torch.tensor([[[[7.0]]]]), (1, 1, 3)).flatten().tolist()
        [0.0, 7.0, 0.0]
        """
        if not self.is_linear:
            remedy = "(a class of linear ones sets is_linear = True)"
            raise InputError("operator", "a linear one, which has an adjoint", f"{type(self).__name__} {remedy}")
        differentiable = torch.is_grad_enabled() and measurement.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            x = _zero_images(measurement, image_shape)
            measured = self(x)
            if measured.shape != measurement.shape:
                raise InputError("measurement", f"shape {tuple(measured.shape)}", tuple(measurement.shape))
            y = measurement.clone() if measurement.is_inference() else measurement
            return torch.autograd.grad(measured, x, y, create_graph=differentiable)[0]

    @checked
    def add_noise(self, measurement: Tensor, sigma: float | NoiseDraw, seed: int) -> Tensor:
        """Add noise to measurements.

        The noise of a sample depends on the seed and the sample's own values alone, so it is the same in any batch;
        equal samples have equal noise.

        Args:
            measurement: floating point (B, ...).
            sigma: standard deviation of Gaussian noise, >= 0, in the measurement's units; or a noise model
                (`latentopt.objectives.NoiseModel`).
            seed: of the random numbers, >= 0.

        Returns:
            The noisy measurement (B, ...).

        Raises:
            InputError: sigma or the seed is negative, or the measurement is not floating point.
        """
        nonnegative("seed", seed, integer=True)
        _require_floating(measurement)
        if isinstance(sigma, NoiseDraw):
            return sigma.draw(measurement, seed)
        nonnegative("sigma", sigma)
        return measurement + sigma * normal_by_value(measurement.detach(), seed)


def _zero_images(measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return images of zeros that require gradients."""
    _require_floating(measurement)
    if not 2 <= len(image_shape) <= 4:
        raise InputError("image_shape", "(C, H, W), or that of a signal or a volume", tuple(image_shape))
    for size in image_shape:
        positive("image_shape", size, integer=True)
    options = {"dtype": measurement.dtype, "device": measurement.device}
    return torch.zeros(len(measurement), *image_shape, **options).requires_grad_()


def as_real_tensor(name: str, value: Values | str | Path) -> Tensor:
    """Return an argument of an operator as a tensor of finite real numbers.

    Args:
        name: of the argument.
        value: a tensor; an array or nested lists; or the path of an image, of a folder of images, or of an array file.
            Bytes above 1 are divided by 255.

    Raises:
        InputError: it is none of these, is empty, or holds other numbers.
    """
    numbers = read_values(value, name) if isinstance(value, str | Path) else value
    tensor = torch.as_tensor(as_values(name, numbers))
    if not tensor.numel():
        raise InputError(name, "numbers", "none")
    if not bool(tensor.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    is_bytes = getattr(value, "dtype", None) in (np.uint8, torch.uint8)
    return tensor / 255 if is_bytes and bool((tensor > 1).any()) else tensor


def require_images(image: Tensor) -> None:
    """Raise `InputError` unless ``image`` is (B, C, H, W), of an operator that has no meaning in other dimensions."""
    _require_axes(image, (4,), "a tensor of images (B, C, H, W)")


def require_grid(image: Tensor) -> int:
    """Return the number of spatial axes of signals (B, C, T), images (B, C, H, W) or volumes (B, C, D, H, W).

    Raises:
        InputError: it is none of these.
    """
    _require_axes(image, (3, 4, 5), "a tensor of signals (B, C, T), images (B, C, H, W) or volumes (B, C, D, H, W)")
    return image.ndim - 2


def _require_axes(image: Tensor, allowed: tuple[int, ...], expected: str) -> None:
    if not isinstance(image, Tensor) or image.ndim not in allowed:
        got = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise InputError("image", expected, got)


def _require_floating(measurement: Tensor) -> None:
    if not measurement.is_floating_point() or measurement.ndim < 2:
        got = f"{str(measurement.dtype).removeprefix('torch.')} of shape {tuple(measurement.shape)}"
        raise InputError("measurement", "floating point, (B, ...)", got)
