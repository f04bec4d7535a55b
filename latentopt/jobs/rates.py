"""How often an attack succeeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from latentopt.statistics import wilson


class Share(NamedTuple):
    """``part`` of ``whole``."""

    part: int
    whole: int

    @property
    def rate(self) -> float:
        """In [0, 1]; 0 of none."""
        return self.part / max(self.whole, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the rate, 95 % (Wilson 1927).

        >>> [round(end, 3) for end in Share(8, 10).interval]
        [0.49, 0.943]
        """
        return wilson(self.part, self.whole)


class Rates(NamedTuple):
    """What the rows of an attack come to."""

    clean: Share  # images whose class is predicted
    robust: Share  # images whose class is predicted after the attack too
    success: Share  # of the images that did not succeed unattacked


def rates(rows: Sequence[dict[str, Any]]) -> Rates:
    """The rates of an attack's rows (`latentopt.jobs.attack.Report`)."""
    attacked = [row for row in rows if row["first_success"] != 0]
    return Rates(
        Share(sum(row["clean"] == row["label"] for row in rows), len(rows)),
        Share(sum(row["adversarial"] == row["label"] for row in rows), len(rows)),
        Share(sum(row["success"] for row in attacked), len(attacked)),
    )
