"""The operators of other packages."""

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
    """A linear physics of deepinv (``deepinv.physics``; https://deepinv.github.io), or whatever is like one.

    Args:
        physics: has ``A(image)`` and ``A_adjoint(measurement)``, as every ``deepinv.physics.LinearPhysics``. Move it to
            the images' device first. Its noise model is not used. It may have a parameter for each image, as deepinv's
            ``mask`` and ``filter`` (B, ...), or ``take(rows)``.

    Raises:
        InputError: if it lacks one of the two.
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
        count = _images(self.physics)
        if count == 1:
            return self
        taken = copy.copy(self.physics)
        held = self.physics._buffers if isinstance(taken, nn.Module) else vars(self.physics)
        own = {name: value[rows.to(value.device)] if _each(value, count) else value for name, value in held.items()}
        vars(taken).update({"_buffers": own} if isinstance(taken, nn.Module) else own)
        return Physics(taken)

    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """The images ``A_adjoint(measurement)``; the shape must be that of ``image_shape`` (C, H, W)."""
        image = self.physics.A_adjoint(measurement)
        if tuple(image.shape[1:]) != tuple(image_shape):
            raise InputError("image_shape", f"{tuple(image.shape[1:])}, which the physics gives", tuple(image_shape))
        return image


def _images(physics: Any) -> int:
    """For how many images a physics has parameters, by deepinv's rule: what ``A`` takes by name is (B or 1, ...)."""
    named = (getattr(physics, name, None) for name in inspect.signature(physics.A).parameters)
    return max((len(value) for value in named if isinstance(value, Tensor) and value.ndim > 2), default=1)


def _each(value: object, count: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 2 and len(value) == count
