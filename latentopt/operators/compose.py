"""One operator of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentopt.batch_math import take
from latentopt.operators.base import Operator


@dataclass(frozen=True)
class Compose(Operator):
    """Several operators, the first applied first."""

    operators: Sequence[Operator]

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))  # hashable

    def __call__(self, image: Tensor) -> Tensor:
        for operator in self.operators:
            image = operator(image)
        return image

    def take(self, rows: Tensor) -> "Compose":
        return Compose([take(operator, rows) for operator in self.operators])

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """As the last operator adds it: what a mask hides stays 0 if the mask comes last."""
        add = self.operators[-1].add_noise if self.operators else super().add_noise
        return add(measurement, sigma, seed)
