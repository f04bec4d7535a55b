"""The boxes that are still open, in rounds: the ones with the greatest bounds first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Boxes(NamedTuple):
    """Boxes, each with what its bound left behind."""

    low: Tensor  # (K, n)
    high: Tensor  # (K, n)
    bound: Tensor  # (K,) no point of the box has more
    side: Tensor  # (K,) long, the input to split
    depth: Tensor  # (K,) long, how often it was split
    units: Tensor  # (K,) how many units' gates are open questions
    alphas: Tensor  # (K, all units) in half precision: any values will do

    def __len__(self) -> int:
        return len(self.bound)

    def rows(self, rows: Tensor | slice) -> Boxes:
        return Boxes(*(part[rows] for part in self))

    def halves(self) -> tuple[Tensor, Tensor]:
        """Least and greatest points (2 K, n) of the lower halves, then of the upper ones."""
        side = self.side[:, None]
        middle = (self.low.gather(1, side) + self.high.gather(1, side)) / 2
        return (
            torch.cat([self.low, self.low.scatter(1, side, middle)]),
            torch.cat([self.high.scatter(1, side, middle), self.high]),
        )


def joined(parts: list[Boxes]) -> Boxes:
    return Boxes(*(torch.cat(part) for part in zip(*parts, strict=True)))


MEMORY = 1 << 28
"""Bytes that open boxes may take, or about that: as much again where they are sorted."""


class Pool:
    """Open boxes; where they are too many for memory, those that are nearest to closing go first.

    Args:
        boxes: the first ones, one or none.
        width: bytes of a box.
        share: of the pool, how much makes a round.
    """

    def __init__(self, boxes: Boxes, width: int, share: float = 0.5) -> None:
        self.kept, self.round, self.fresh = boxes, boxes.rows(slice(0)), list[Boxes]()
        self.most, self.share = MEMORY // width, share

    def take(self, count: int) -> Boxes:
        """At most ``count`` boxes, removed from the pool; none if it is empty."""
        if not len(self.round):
            self._begin(count)
        taken, self.round = self.round.rows(slice(count)), self.round.rows(slice(count, None))
        return taken

    def put(self, boxes: Boxes) -> None:
        if len(boxes):
            self.fresh.append(boxes)

    def prune(self, floor: float) -> None:
        """Drop the boxes whose bound is not above ``floor``."""
        self.kept, self.round = (boxes.rows(boxes.bound > floor) for boxes in (self.kept, self.round))
        self.fresh = [boxes.rows(boxes.bound > floor) for boxes in self.fresh]

    def bound(self) -> float:
        """The greatest bound; minus infinity where no box is open."""
        bounds = [float(part.bound.max()) for part in (self.kept, self.round, *self.fresh) if len(part)]
        return max(bounds, default=-torch.inf)

    def __len__(self) -> int:
        return len(self.kept) + len(self.round) + sum(map(len, self.fresh))

    def _begin(self, count: int) -> None:
        """A new round of all that is open."""
        boxes, self.fresh = joined([self.kept, *self.fresh]), []
        order = boxes.bound.argsort(descending=len(boxes) <= self.most)
        size = max(count, int(self.share * len(boxes)))
        self.round, self.kept = boxes.rows(order[:size]), boxes.rows(order[size:])
