"""Operators of other packages."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.operators.base import Operator


@dataclass(frozen=True, eq=False)
class Physics(Operator):
    """A linear physics of deepinv (``deepinv.physics``; https://deepinv.github.io), or an object like one.

    Args:
        physics: an object with ``A(image)`` and ``A_adjoint(measurement)``, as every ``deepinv.physics.LinearPhysics``
            has, on the images' device. Its noise model is not used. It may have a parameter for each image, such as
            deepinv's ``mask`` and ``filter`` (B, ...), or ``take(rows)``.

    Raises:
        InputError: one of the two methods is missing.
    """

    physics: Any

    def __post_init__(self) -> None:
        for method in ("A", "A_adjoint"):
            if not callable(getattr(self.physics, method, None)):
                raise InputError("physics", f"an object with a method {method}", type(self.physics).__name__)

    def __call__(self, image: Tensor) -> Tensor:
        return self.physics.A(image)

    def take(self, rows: Tensor) -> "Physics":
        if callable(getattr(self.physics, "take", None)):
            return Physics(self.physics.take(rows))
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
        return Physics(chosen)

    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """Return the images ``A_adjoint(measurement)``, whose shape must be ``image_shape`` (C, H, W)."""
        image = self.physics.A_adjoint(measurement)
        if tuple(image.shape[1:]) != tuple(image_shape):
            raise InputError("image_shape", f"{tuple(image.shape[1:])}, which the physics gives", tuple(image_shape))
        return image


def _image_count(physics: Any) -> int:
    """Count the images that a physics has parameters for; by deepinv's rule, arguments of ``A`` are (B or 1, ...)."""
    parameters = (getattr(physics, name, None) for name in inspect.signature(physics.A).parameters)
    return max((len(value) for value in parameters if isinstance(value, Tensor) and value.ndim > 2), default=1)


def _is_per_image(value: object, count: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 2 and len(value) == count
