"""Chunks of neighbouring targets, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Generic, TypeVar

from torch.utils.data import Dataset

T = TypeVar("T")


def split_into_chunks(todo: Iterable[int], size: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """Return the positions in ``todo`` that process ``rank`` of ``world`` does, by chunk.

    Chunk k has the positions from ``k * size`` to ``(k + 1) * size - 1``. It belongs to process ``k % world``, whatever
    is done already, so that no target is done twice or left out when processes know of different finished parts.

    >>> split_into_chunks([0, 1, 2, 5, 6, 7, 8], 3)
    [[0, 1, 2], [5], [6, 7, 8]]
    >>> split_into_chunks([0, 1, 2, 5, 6, 7, 8], 3, rank=1, world=2)
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
