"""Measurements without a sign or a phase (phase retrieval; Hand, Leong and Voroninski 2018, arXiv:1807.04261)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentopt import components
from latentopt.batch_math import take
from latentopt.operators.base import Operator
from latentopt.operators.complex_parts import magnitudes
from latentopt.operators.unknown import require_known


@dataclass(frozen=True, init=False)
class Magnitude(Operator):
    """Magnitudes |A x| of the measurements of another operator: real ones lose their sign, complex ones their phase.

    The gradient of a magnitude at 0 is 0.

    Args:
        operator: A; its measurements are complex where it says so (`Operator.is_complex`).

    Raises:
        InputError: ``operator`` is no operator, no function and no name of an operator.

    >>> import torch
    >>> from latentopt.operators import Identity
    >>> Magnitude(Identity())(torch.tensor([[[[-0.5, 0.5]]]])).tolist()
    [[[[0.5, 0.5]]]]
    """

    operator: Operator

    def __init__(self, operator: Operator) -> None:
        built: Callable[[Tensor], Tensor] = components.build("Magnitude.operator", "operator", operator)
        require_known("Magnitude.operator", built)
        object.__setattr__(self, "operator", built)

    def __call__(self, image: Tensor) -> Tensor:
        measurement = self.operator(image)
        return magnitudes(measurement) if getattr(self.operator, "is_complex", False) else measurement.abs()

    def take(self, rows: Tensor) -> "Magnitude":
        return Magnitude(take(self.operator, rows))
