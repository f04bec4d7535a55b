"""Operators made of other operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.operators.base import Operator


@dataclass(frozen=True)
class Compose(Operator):
    """Several operators in a row.

    Args:
        operators: the first is applied first.
    """

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
        """Add noise as the last operator does: pixels hidden by a last mask stay 0."""
        add = self.operators[-1].add_noise if self.operators else super().add_noise
        return add(measurement, sigma, seed)


@dataclass(frozen=True)
class PerImage(Operator):
    """One operator for each image of a batch, such as different blurs, crops or random projections.

    Images with the same object are measured together. `Mask` needs no `PerImage`: it takes one mask for each image.

    Args:
        operators: one for each image, in order, all with measurements of one shape, and without parameters for each
            image.

    Raises:
        InputError: there is no operator; at a call, their number is not that of the images, or their measurements
            differ in shape.

    >>> import torch
    >>> from latentopt.operators import Gaussian
    >>> PerImage([Gaussian(3, seed) for seed in range(2)])(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 3])
    """

    operators: Sequence[Operator]

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))  # hashable
        if not self.operators:
            raise InputError("PerImage.operators", "one for each image", "none")

    def __call__(self, image: Tensor) -> Tensor:
        return self._apply(image, lambda operator, part: operator(part))

    def take(self, rows: Tensor) -> "PerImage":
        return PerImage([self.operators[row] for row in rows.tolist()])

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """Add noise as each image's operator does."""
        return self._apply(measurement, lambda operator, part: operator.add_noise(part, sigma, seed))

    def _apply(self, batch: Tensor, function: Callable[[Operator, Tensor], Tensor]) -> Tensor:
        """Apply a function to each operator and its samples; results are in the batch's order."""
        if len(self.operators) != len(batch):
            raise InputError("PerImage.operators", f"one for each of {len(batch)} images", len(self.operators))
        groups: dict[int, list[int]] = {}
        for row, operator in enumerate(self.operators):
            groups.setdefault(id(operator), []).append(row)
        parts = [function(self.operators[rows[0]], batch[rows]) for rows in groups.values()]
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            raise InputError("PerImage.operators", "measurements of one shape", shapes)
        order = torch.tensor([row for rows in groups.values() for row in rows], device=batch.device)
        return torch.cat(parts)[order.argsort()]
