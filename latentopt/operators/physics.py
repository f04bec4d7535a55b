"""The operators of other packages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentopt.errors import InputError
from latentopt.operators.base import Operator


@dataclass(frozen=True, eq=False)
class Physics(Operator):
    """A linear physics of deepinv (``deepinv.physics``; https://deepinv.github.io), or whatever is like one.

    Args:
        physics: has ``A(image)`` and ``A_adjoint(measurement)``, as every ``deepinv.physics.LinearPhysics``. Move it to
            the images' device first. Its noise model is not used.

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

    def adjoint(self, measurement: Tensor, image_shape: Sequence[int]) -> Tensor:
        """The images ``A_adjoint(measurement)``; the shape must be that of ``image_shape`` (C, H, W)."""
        image = self.physics.A_adjoint(measurement)
        if tuple(image.shape[1:]) != tuple(image_shape):
            raise InputError("image_shape", f"{tuple(image.shape[1:])}, which the physics gives", tuple(image_shape))
        return image
