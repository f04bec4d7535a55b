"""Random numbers from a seed, a key and the restart: never from the batch, the device or what was drawn before.

So a batch gives each sample what it would get alone, a step is a pure function, and a resumed run needs no saved
generator state. All samples of a batch share the numbers of a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Noise:
    """The source of randomness for rows of a batch.

    Args:
        seed: any integer.
        restart: (rows,) long, the restart each row belongs to.
        copies: of all rows that are drawn for at once, copy by copy, each with numbers of its own (`spread`).
        prefix: of every key.
    """

    seed: int
    restart: Tensor
    copies: int = 1
    prefix: tuple[int | str, ...] = ()

    def normal(self, like: Tensor, *key: int | str) -> Tensor:
        """Standard normal numbers in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.randn, like, key)

    def uniform(self, like: Tensor, *key: int | str) -> Tensor:
        """Uniform numbers in [0, 1) in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.rand, like, key)

    def of(self, draw: Callable[[int, torch.Generator], Tensor], like: Tensor, *key: int | str) -> Tensor:
        """What ``draw(count, generator)`` returns, (count, *features), in the shape, dtype and device of ``like``."""

        def kind(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
            return draw(shape[0], generator).to(like.device, dtype).reshape(shape)

        return self._draw(kind, like, key)

    def take(self, rows: Tensor) -> Noise:
        """Those of the rows ``rows`` (mask or indices)."""
        return Noise(self.seed, self.restart[rows])

    def spread(self, copies: int, *prefix: int | str) -> Noise:
        """Those of (copies * rows), copy by copy, no two copies alike; ``prefix`` tells them from others."""
        return Noise(self.seed, self.restart, copies, prefix)

    @cached_property
    def _restarts(self) -> tuple[list[int], Tensor]:
        """The restarts among the rows, and each row's place among them."""
        restarts, row = self.restart.cpu().unique(return_inverse=True)
        return restarts.tolist(), row

    def _draw(self, kind, like: Tensor, key: tuple[int | str, ...]) -> Tensor:
        restarts, row = self._restarts
        key, shape = self.prefix + key, (self.copies, *like.shape[1:])
        each = [kind(shape, generator=self._generator(key, restart), dtype=like.dtype) for restart in restarts]
        rows = torch.stack(each)[row.to(each[0].device)] if len(each) > 1 else each[0].expand(len(row), *shape)
        return rows.transpose(0, 1).to(like.device).reshape(like.shape)

    def _generator(self, key: tuple[int | str, ...], restart: int) -> torch.Generator:
        digest = hashlib.blake2b(repr((int(self.seed), restart, key)).encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
