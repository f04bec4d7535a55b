"""Another operator for each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.operators.base import Operator


@dataclass(frozen=True)
class PerImage(Operator):
    """One operator for each image of a batch: other blurs, crops or random projections.

    Images that name the same object are measured together. Masks need none of this: `Mask` takes one for each image.

    Args:
        operators: one for each image, in order, all with measurements of one shape. None of them holds something for
            each image itself.

    Raises:
        InputError: there is no operator; at a call, if there are not as many as images or their measurements differ in
            shape.

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
        return self._each(image, lambda operator, part: operator(part))

    def take(self, rows: Tensor) -> "PerImage":
        return PerImage([self.operators[row] for row in rows.tolist()])

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """As each image's own operator adds it."""
        return self._each(measurement, lambda operator, part: operator.add_noise(part, sigma, seed))

    def _each(self, batch: Tensor, function: Callable[[Operator, Tensor], Tensor]) -> Tensor:
        """The function of each operator and its samples, in the batch's order."""
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
