"""A loss for measurements that tell a range of values: clipped, rounded or compressed ones."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from latentopt import components
from latentopt.errors import InputError
from latentopt.objectives.base import Loss, take
from latentopt.objectives.pixels import MSE


@dataclass(frozen=True)
class Consistent(Loss):
    """A loss of what contradicts the measurement; 0 for every image that may have given it.

    A pixel measured at the upper end of `latentopt.operators.Clip` says "at least this", a value of
    `latentopt.operators.Quantize` and a coefficient of `latentopt.operators.JPEG` say "in this cell" (one-sided
    losses: Foucart and Needell 2017; consistency with cells: Moshtaghpour et al., arXiv 1507.08268). The loss through
    such an operator is flat or jumps; this one is continuous, and its gradient is exact. Clipping, rounding or
    compression must be the last operator; the others are compared as usual.

    Args:
        loss: of the prediction and the measurement, or its name.

    >>> import torch
    >>> from latentopt.objectives import Fit
    >>> from latentopt.operators import Clip
    >>> images = torch.tensor([[3.0, 0.5], [3.0, 1.5], [0.0, 0.5]])
    >>> Fit(Consistent(), Clip(), torch.tensor([[1.0, 0.5]] * 3))(images).tolist()
    [0.0, 0.5, 0.5]
    """

    loss: Loss = field(default_factory=MSE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", components.build("Consistent.loss", "loss", self.loss))

    def predict(self, operator: Callable[[Tensor], Tensor], output: Tensor, measurement: Tensor) -> Tensor:
        """Predict the measurement; where the output may have given it, it is the measurement itself.

        Args:
            operator: one of `latentopt.operators`, or a function of the output.
            output: (B, ...).
            measurement: (B, ...).

        Returns:
            Values in the shape of the measurement.
        """
        consistent = getattr(operator, "consistent", None)
        return operator(output) if consistent is None else consistent(output, measurement)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.loss(prediction, target)

    def residual(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute residuals (B, m) of which it is the sum of squares.

        Raises:
            InputError: the inner loss is no sum of squares.
        """
        residual = getattr(self.loss, "residual", None)
        if residual is None:
            raise InputError("Consistent.loss", "a sum of squares, such as MSE", type(self.loss).__name__)
        return residual(prediction, target)

    def take(self, rows: Tensor) -> "Consistent":
        return Consistent(take(self.loss, rows))
