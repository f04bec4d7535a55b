"""Open boxes of a branch and bound, taken in rounds: greatest bounds first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MEMORY = 1 << 28
"""Approximate bytes that open boxes may take; sorting them takes as much again."""


class OpenBoxes(NamedTuple):
    """A batch of boxes with the results of their bounds."""

    low: Tensor  # (K, n)
    high: Tensor  # (K, n)
    bound: Tensor  # (K,) no point of the box has a greater value
    side: Tensor  # (K,) long, the input to split
    depth: Tensor  # (K,) long, number of splits so far
    units: Tensor  # (K,) number of units whose sign is undecided
    alphas: Tensor  # (K, all units) in half precision, as any values are valid

    def __len__(self) -> int:
        return len(self.bound)

    def rows(self, rows: Tensor | slice) -> OpenBoxes:
        """Return some of the boxes."""
        return OpenBoxes(*(part[rows] for part in self))

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the corners (2 K, n) of the lower halves, then of the upper ones."""
        side = self.side[:, None]
        middle = (self.low.gather(1, side) + self.high.gather(1, side)) / 2
        return (
            torch.cat([self.low, self.low.scatter(1, side, middle)]),
            torch.cat([self.high.scatter(1, side, middle), self.high]),
        )


class BoxPool:
    """The open boxes; where they exceed the memory, those that are nearest to closing go first.

    Args:
        boxes: the first ones, one or none.
        width: bytes of a box.
        share: part of the pool that makes a round.
    """

    def __init__(self, boxes: OpenBoxes, width: int, share: float = 0.5) -> None:
        self.waiting, self.round, self.added = boxes, boxes.rows(slice(0)), list[OpenBoxes]()
        self.capacity, self.share = MEMORY // width, share

    def take(self, count: int) -> OpenBoxes:
        """Remove and return at most ``count`` boxes; none if the pool is empty."""
        if not len(self.round):
            self._begin_round(count)
        taken, self.round = self.round.rows(slice(count)), self.round.rows(slice(count, None))
        return taken

    def put(self, boxes: OpenBoxes) -> None:
        """Add boxes, for a later round."""
        if len(boxes):
            self.added.append(boxes)

    def prune(self, floor: float) -> None:
        """Drop the boxes whose bound is not above ``floor``."""
        self.waiting, self.round = (boxes.rows(boxes.bound > floor) for boxes in (self.waiting, self.round))
        self.added = [boxes.rows(boxes.bound > floor) for boxes in self.added]

    def bound(self) -> float:
        """Return the greatest bound; minus infinity where no box is open."""
        bounds = [float(part.bound.max()) for part in (self.waiting, self.round, *self.added) if len(part)]
        return max(bounds, default=-torch.inf)

    def __len__(self) -> int:
        return len(self.waiting) + len(self.round) + sum(map(len, self.added))

    def _begin_round(self, count: int) -> None:
        boxes = OpenBoxes(*(torch.cat(part) for part in zip(self.waiting, *self.added, strict=True)))
        order = boxes.bound.argsort(descending=len(boxes) <= self.capacity)
        size = max(count, int(self.share * len(boxes)))
        self.round, self.waiting, self.added = boxes.rows(order[:size]), boxes.rows(order[size:]), []
