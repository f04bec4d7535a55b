"""Operators of other packages."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.operators.base import Operator
from latentopt.operators.complex_parts import from_parts, to_parts


@dataclass(frozen=True, eq=False)
class Physics(Operator):
    """A physics of deepinv (``deepinv.physics``; https://deepinv.github.io), or an object like one.

    It is linear if it has ``A_adjoint(measurement)``, as every ``deepinv.physics.LinearPhysics`` has. Complex
    measurements become real numbers (B, 2, ...): the real and the imaginary parts.

    Args:
        physics: an object with ``A(image)``, on the images' device. Its noise model is not used. It may have a
            parameter for each image, such as deepinv's ``mask`` and ``filter`` (B, ...), or ``take(rows)``.
        is_complex: whether ``A`` gives complex numbers.

    Raises:
        InputError: it has no method ``A``; at a call, ``A`` gives complex numbers and ``is_complex`` is False, or the
            other way round.
    """

    physics: Any
    is_complex: bool = False

    def __post_init__(self) -> None:
        if not callable(getattr(self.physics, "A", None)):
            raise InputError("physics", "an object with a method A", type(self.physics).__name__)
        object.__setattr__(self, "is_linear", callable(getattr(self.physics, "A_adjoint", None)))

    def __call__(self, image: Tensor) -> Tensor:
        measurement = self.physics.A(image)
        if measurement.is_complex() != self.is_complex:
            expected = f"{measurement.is_complex()}, as its measurements are {measurement.dtype}"
            raise InputError("Physics.is_complex", expected, self.is_complex)
        return to_parts(measurement) if self.is_complex else measurement

    def take(self, rows: Tensor) -> "Physics":
        if callable(getattr(self.physics, "take", None)):
            return Physics(self.physics.take(rows), self.is_complex)
        count = _image_count(self.physics)
        if count == 1:
            return self
        chosen = copy.copy(self.physics)
        values = self.physics._buffers if isinstance(chosen, nn.Module) else vars(self.physics)
        values = {
            name: value[rows.to(value.device)] if _is_per_image(value, count) else value
            for name, value in values.items()
        }
        vars(chosen).update({"_buffers": values} if isinstance(chosen, nn.Module) else values)
        return Physics(chosen, self.is_complex)

    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """Return the images ``A_adjoint(measurement)``, whose shape must be ``image_shape`` (C, H, W)."""
        if not self.is_linear:  # says so
            return super().adjoint(measurement, image_shape)
        image = self.physics.A_adjoint(from_parts(measurement) if self.is_complex else measurement)
        image = image.real if image.is_complex() else image
        if tuple(image.shape[1:]) != tuple(image_shape):
            raise InputError("image_shape", f"{tuple(image.shape[1:])}, which the physics gives", tuple(image_shape))
        return image


def _image_count(physics: Any) -> int:
    """Count the images that a physics has parameters for; by deepinv's rule, arguments of ``A`` are (B or 1, ...)."""
    parameters = (getattr(physics, name, None) for name in inspect.signature(physics.A).parameters)
    return max((len(value) for value in parameters if isinstance(value, Tensor) and value.ndim > 2), default=1)


def _is_per_image(value: object, count: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 2 and len(value) == count
