"""What every operator can do: measure, give back what was measured (the adjoint), and add noise."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from latentopt.errors import InputError, nonnegative, positive


class Operator(ABC):
    """A linear map A from images (B, C, H, W) to measurements (B, ...).

    One that holds something for each image (a mask, a kernel) has ``take(rows)``: the operator of the images ``rows``
    (long), each as often as it is named.
    """

    @abstractmethod
    def __call__(self, image: Tensor) -> Tensor: ...

    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """The images A^T y (B, C, H, W) of measurements y (B, ...): <A x, y> = <x, A^T y> for all images x.

        It is the gradient of <A x, y> at x = 0, on the device and in the dtype of y, and differentiable in y.

        Args:
            measurement: floating point, (B, ...), of the shape that images of ``image_shape`` are measured in.
            image_shape: (C, H, W).

        Raises:
            InputError: if the shapes do not fit each other or the measurement is not floating point.

        >>> import torch
        >>> from latentopt.operators import Crop
        >>> Crop(1).adjoint(torch.tensor([[[[7.0]]]]), (1, 1, 3)).flatten().tolist()
        [0.0, 7.0, 0.0]
        """
        keep = torch.is_grad_enabled() and measurement.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            x = _start(measurement, image_shape)
            measured = self(x)
            if measured.shape != measurement.shape:
                raise InputError("measurement", f"shape {tuple(measured.shape)}", tuple(measurement.shape))
            y = measurement.clone() if measurement.is_inference() else measurement
            return torch.autograd.grad(measured, x, y, create_graph=keep)[0]

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """The measurement (B, ...) plus Gaussian noise of standard deviation ``sigma``, in the measurement's units.

        The noise of a sample is drawn from the seed and the sample's own values, so it is the same in whatever batch
        the sample stands; of equal samples it is equal.

        Raises:
            InputError: if sigma or the seed is negative, or the measurement is not floating point.
        """
        nonnegative("sigma", sigma)
        nonnegative("seed", seed, integer=True)
        _floating(measurement)
        return measurement + sigma * _noise(measurement.detach(), seed)


def _noise(measurement: Tensor, seed: int) -> Tensor:
    """Standard normal, like ``measurement``: each sample's from a generator seeded by the seed and its bytes."""
    drawn = torch.empty(measurement.shape, dtype=torch.float64)
    for sample, noise in zip(measurement.cpu().flatten(1).contiguous(), drawn, strict=True):
        held = hashlib.blake2b(f"{seed}:".encode() + sample.view(torch.uint8).numpy().tobytes(), digest_size=8)
        generator = torch.Generator().manual_seed(int.from_bytes(held.digest(), "big"))
        noise.copy_(torch.randn(noise.shape, generator=generator, dtype=torch.float64))
    return drawn.to(measurement)


def _start(measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Images of zeros, to be differentiated at."""
    _floating(measurement)
    if len(image_shape) != 3:
        raise InputError("image_shape", "(C, H, W)", tuple(image_shape))
    for size in image_shape:
        positive("image_shape", size, integer=True)
    options = {"dtype": measurement.dtype, "device": measurement.device}
    return torch.zeros(len(measurement), *image_shape, **options).requires_grad_()


def require_images(image: Tensor) -> None:
    """Raise `InputError` unless ``image`` is (B, C, H, W): of a volume or a signal other axes would be measured."""
    if image.ndim != 4:
        raise InputError("image", "images (B, C, H, W)", f"shape {tuple(image.shape)}")


def _floating(measurement: Tensor) -> None:
    if not measurement.is_floating_point() or measurement.ndim < 2:
        came = f"{str(measurement.dtype).removeprefix('torch.')} of shape {tuple(measurement.shape)}"
        raise InputError("measurement", "floating point, (B, ...)", came)
