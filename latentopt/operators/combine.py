"""Operators made of other operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt import components
from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.noise import NoiseDraw
from latentopt.operators.base import Operator
from latentopt.operators.unknown import require_known


@dataclass(frozen=True, init=False)
class Compose(Operator):
    """Several operators in a row.

    Args:
        operators: in a list, the first of which is applied first; or the first of them.
        more: the others, where they are not in a list.

    Raises:
        InputError: one is no operator, no function and no name of an operator.

    >>> from latentopt.operators import Crop, Downsample
    >>> Compose(Crop(20), Downsample(2)) == Compose([Crop(20), Downsample(2)])
    True
    """

    operators: tuple[Operator, ...]

    def __init__(self, operators: Sequence[Operator] | Operator, *more: Operator) -> None:
        object.__setattr__(self, "operators", _build_operators("Compose.operators", operators, more))
        object.__setattr__(self, "is_linear", _is_every(self.operators, "is_linear"))
        object.__setattr__(self, "is_complex", _is_every(self.operators[-1:], "is_complex") and bool(self.operators))

    def __call__(self, image: Tensor) -> Tensor:
        for operator in self.operators:
            image = operator(image)
        return image

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Predict the measurement as the last operator does."""
        if not self.operators:
            return image
        return _predict(self.operators[-1], Compose(self.operators[:-1])(image), measurement)

    def take(self, rows: Tensor) -> "Compose":
        return Compose([take(operator, rows) for operator in self.operators])

    def add_noise(self, measurement: Tensor, sigma: float | NoiseDraw, seed: int) -> Tensor:
        """Add noise as the last operator does: pixels hidden by a last mask stay 0."""
        add = self.operators[-1].add_noise if self.operators else super().add_noise
        return add(measurement, sigma, seed)


@dataclass(frozen=True, init=False)
class PerImage(Operator):
    """One operator for each image of a batch, such as different blurs, crops or random projections.

    Images with the same object are measured together. `Mask` needs no `PerImage`: it takes one mask for each image.

    Args:
        operators: one for each image, in order, all with measurements of one shape, and without parameters for each
            image; a list, or the first of them.
        more: the others, where they are not in a list.

    Raises:
        InputError: there is no operator, or one is none; at a call, their number is not that of the images, or their
            measurements differ in shape.

    >>> import torch
    >>> from latentopt.operators import Gaussian
    >>> PerImage([Gaussian(3, seed) for seed in range(2)])(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 3])
    """

    operators: tuple[Operator, ...]

    def __init__(self, operators: Sequence[Operator] | Operator, *more: Operator) -> None:
        object.__setattr__(self, "operators", _build_operators("PerImage.operators", operators, more))
        if not self.operators:
            raise InputError("PerImage.operators", "one for each image", "none")
        object.__setattr__(self, "is_linear", _is_every(self.operators, "is_linear"))
        object.__setattr__(self, "is_complex", _is_every(self.operators, "is_complex"))

    def __call__(self, image: Tensor) -> Tensor:
        return self._apply(lambda operator, part: operator(part), image)

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Predict measurements as each image's operator does."""
        return self._apply(_predict, image, measurement)

    def take(self, rows: Tensor) -> "PerImage":
        return PerImage([self.operators[row] for row in rows.tolist()])

    def add_noise(self, measurement: Tensor, sigma: float | NoiseDraw, seed: int) -> Tensor:
        """Add noise as each image's operator does."""
        return self._apply(lambda operator, part: operator.add_noise(part, sigma, seed), measurement)

    def _apply(self, function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Apply a function to each operator and its samples; results are in the batch's order."""
        if len(self.operators) != len(batch[0]):
            raise InputError("PerImage.operators", f"one for each of {len(batch[0])} images", len(self.operators))
        groups: dict[int, list[int]] = {}
        for row, operator in enumerate(self.operators):
            groups.setdefault(id(operator), []).append(row)
        parts = [function(self.operators[rows[0]], *(part[rows] for part in batch)) for rows in groups.values()]
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            raise InputError("PerImage.operators", "measurements of one shape", shapes)
        order = torch.tensor([row for rows in groups.values() for row in rows], device=batch[0].device)
        return torch.cat(parts)[order.argsort()]


def _predict(operator: Callable[[Tensor], Tensor], image: Tensor, measurement: Tensor) -> Tensor:
    """Return `Operator.consistent`, or what a plain function measures."""
    return operator.consistent(image, measurement) if isinstance(operator, Operator) else operator(image)


def _build_operators(name: str, operators: object, more: Sequence[object]) -> tuple[Operator, ...]:
    """Return operators that are given in a list, or one after the other."""
    built = components.build_each(name, "operator", [operators, *more] if more else operators)
    for operator in built:
        require_known(name, operator)
    return built


def _is_every(operators: Sequence[object], attribute: str) -> bool:
    """Return whether an attribute of every operator is true; a plain function has none."""
    return all(getattr(operator, attribute, False) for operator in operators)
