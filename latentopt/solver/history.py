"""The figures of every step of a solve."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor


class History:
    """Figures by name, one a row; NaN where a row was not in any more.

    Args:
        count: number of rows R, those that have left included.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.past: dict[str, Tensor] = {}  # name to (steps, R)
        self.recent: list[tuple[Tensor, dict[str, Tensor]]] = []  # of each later step the rows in, and their figures

    def add(self, rows: Tensor, figures: dict[str, Tensor]) -> None:
        """The figures (rows,) of a step; ``rows`` is the same tensor as long as the same rows are in."""
        self.recent.append((rows, figures))

    def last(self) -> dict[str, Tensor]:
        """Of the last step, name to (R,)."""
        rows, figures = self.recent[-1]
        return {name: self._of_all(rows, values[None])[0] for name, values in figures.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Name to (steps, R)."""
        parts = [self.past] if self.past else []
        for _, group in groupby(self.recent, lambda step: id(step[0])):
            steps = list(group)
            (rows, first), values = steps[0], [figures for _, figures in steps]
            parts.append({name: self._of_all(rows, torch.stack([v[name] for v in values])) for name in first})
        if self.recent:
            self.past, self.recent = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, []
        return self.past

    def _of_all(self, rows: Tensor, values: Tensor) -> Tensor:
        """Values (steps, rows) as (steps, R)."""
        if len(rows) == self.count:
            return values
        return values.new_full((len(values), self.count), torch.nan).index_copy(1, rows, values)
