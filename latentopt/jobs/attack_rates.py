"""Accuracy under attack and rate of success, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from latentopt.statistics import wilson


class Share(NamedTuple):
    """A share of a count, with its confidence interval."""

    part: int
    whole: int

    @property
    def rate(self) -> float:
        """Share in [0, 1]; 0 if the whole is 0."""
        return self.part / max(self.whole, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the rate (Wilson 1927).

        >>> [round(end, 3) for end in Share(8, 10).interval]
        [0.49, 0.943]
        """
        return wilson(self.part, self.whole)


class AttackRates(NamedTuple):
    """The rates of an attack."""

    clean: Share  # images whose class is predicted
    robust: Share  # images whose class is predicted after the attack too
    success: Share  # of the images that did not succeed unattacked


def count_rates(rows: Sequence[dict[str, Any]]) -> AttackRates:
    """Count the rates in the rows of an attack job (`latentopt.jobs.attack.AttackJobResult`)."""
    attacked = [row for row in rows if row["first_success"] != 0]
    return AttackRates(
        Share(sum(row["clean"] == row["label"] for row in rows), len(rows)),
        Share(sum(row["adversarial"] == row["label"] for row in rows), len(rows)),
        Share(sum(row["success"] for row in attacked), len(attacked)),
    )
