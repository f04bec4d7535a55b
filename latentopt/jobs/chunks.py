"""How a job's targets are shared out: chunks of neighbours, the same ones for any number of processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Generic, TypeVar

from torch.utils.data import Dataset

T = TypeVar("T")


def chunks_of(todo: Iterable[int], size: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """The positions in ``todo`` that process ``rank`` of ``world`` does, those of each chunk together.

    Chunk k is the positions from ``k * size`` to ``(k + 1) * size - 1`` and belongs to process ``k % world``, whatever
    is done already: processes that know of different parts still never share a target, nor leave one out.

    >>> chunks_of([0, 1, 2, 5, 6, 7, 8], 3)
    [[0, 1, 2], [5], [6, 7, 8]]
    >>> chunks_of([0, 1, 2, 5, 6, 7, 8], 3, rank=1, world=2)
    [[5]]
    """
    chunks = groupby(sorted(todo), lambda position: position // size)
    return [list(chunk) for number, chunk in chunks if number % world == rank]


class Chunks(Dataset[list[T]], Generic[T]):
    """A data set whose items are the chunks of another's."""

    def __init__(self, items: Dataset[T], chunks: Sequence[Sequence[int]]) -> None:
        self.items, self.chunks = items, chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: int) -> list[T]:
        return [self.items[position] for position in self.chunks[index]]
