"""Random numbers from a seed, a key and the restart: never from the batch, the device or what was drawn before.

So a batch gives each sample what it would get alone, a step is a pure function, and a resumed run needs no saved
generator state. All samples of a batch share the numbers of a restart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """The source of randomness for rows of a batch.

    Args:
        seed: any integer.
        restart: (rows,) long, the restart each row belongs to.
        restarts: how many restarts there are in all.
    """

    seed: int
    restart: Tensor
    restarts: int

    def normal(self, like: Tensor, *key: int | str) -> Tensor:
        """Standard normal numbers in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.randn, like, key)

    def uniform(self, like: Tensor, *key: int | str) -> Tensor:
        """Uniform numbers in [0, 1) in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.rand, like, key)

    def _draw(self, kind, like: Tensor, key: tuple[int | str, ...]) -> Tensor:
        digest = hashlib.blake2b(repr((self.seed, key)).encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        every = kind(self.restarts, *like.shape[1:], generator=generator, dtype=like.dtype)
        return every[self.restart.cpu()].to(like.device)
