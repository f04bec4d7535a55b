"""The result of `certify`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from torch import Tensor

from latentopt.reports import Row
from latentopt.results import SavedResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CertificateStatus(Enum):
    """The reason why a search ended."""

    OPTIMAL = "the gap is within the tolerance"
    TIME = "the gap is wider than the tolerance: out of time, or at the solver's precision"
    ABOVE = "a point above the goal is found"
    BELOW = "no point is above the goal"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(SavedResult):
    """A maximum over the feasible set, which lies between ``value`` and ``bound``."""

    value: float  # of the best point
    bound: float  # no point has a greater value
    x: Tensor  # (*shape) the best point
    status: CertificateStatus
    method: str  # branch-and-bound or milp
    boxes: int  # boxes bounded, or nodes of the program
    seconds: float  # wall-clock time

    @property
    def rows(self) -> list[Row]:
        """One row, of the figures."""
        return [self.summary()]

    def summary(self) -> dict[str, Any]:
        """Return value, bound, gap, status, method, boxes and seconds by name."""
        names = ("value", "bound", "gap", "status", "method", "boxes", "seconds")
        return {name: getattr(self, name) for name in names} | {"status": self.status.name}

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([self.value, self.bound], [0, 0], "o-")
        axes.set(title=f"the maximum lies in [{self.value:.6g}, {self.bound:.6g}]", yticks=[], xlabel="value")

    @property
    def gap(self) -> float:
        """``bound - value``."""
        return self.bound - self.value

    @property
    def relative_gap(self) -> float:
        """The gap as a share of the value's size; infinite where the value is 0 and the gap is not."""
        if self.gap == 0:
            return 0.0
        return self.gap / abs(self.value) if self.value else float("inf")
