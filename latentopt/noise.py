"""Random numbers that follow from a seed, a key and the restart alone.

They depend on neither the batch, nor the device, nor earlier numbers. So each sample gets in a batch what it gets
alone, a step is a pure function, and a checkpoint holds no generator state. All samples share the numbers of a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Noise:
    """Source of randomness for the rows of a batch.

    Args:
        seed: any integer.
        restart: (rows,) long, the restart of each row.
        copies: copies of all rows, one after the other, with different numbers (`spread`).
        prefix: first parts of every key.
    """

    seed: int
    restart: Tensor
    copies: int = 1
    prefix: tuple[int | str, ...] = ()

    def normal(self, like: Tensor, *key: int | str) -> Tensor:
        """Return standard normal numbers in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.randn, like, key)

    def uniform(self, like: Tensor, *key: int | str) -> Tensor:
        """Return uniform numbers in [0, 1) in the shape, dtype and device of ``like``: (rows, *features)."""
        return self._draw(torch.rand, like, key)

    def custom(self, draw: Callable[[int, torch.Generator], Tensor], like: Tensor, *key: int | str) -> Tensor:
        """Return numbers of ``draw(count, generator)``, (count, *features), shaped and placed as ``like``."""

        def sample(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: str) -> Tensor:
            return draw(shape[0], generator).to(like.device, dtype).reshape(shape)

        return self._draw(sample, like, key)

    def take(self, rows: Tensor) -> Noise:
        """Return the noise of the rows ``rows`` (mask or indices)."""
        return Noise(self.seed, self.restart[rows])

    def spread(self, copies: int, *prefix: int | str) -> Noise:
        """Return noise for (copies * rows), copy by copy, all different; ``prefix`` separates it from other noise."""
        return Noise(self.seed, self.restart, copies, prefix)

    @cached_property
    def _restarts(self) -> tuple[list[int], Tensor]:
        """Return the different restarts, and the index of each row's restart among them."""
        restarts, row = self.restart.cpu().unique(return_inverse=True)
        return restarts.tolist(), row

    def _draw(self, sample: Callable[..., Tensor], like: Tensor, key: tuple[int | str, ...]) -> Tensor:
        restarts, row = self._restarts
        key, shape = self.prefix + key, (self.copies, *like.shape[1:])
        generators = [self._generator(key, restart) for restart in restarts]
        draws = [sample(shape, generator=generator, dtype=like.dtype, device="cpu") for generator in generators]
        rows = torch.stack(draws)[row.to(draws[0].device)] if len(draws) > 1 else draws[0].expand(len(row), *shape)
        return rows.transpose(0, 1).to(like.device).reshape(like.shape)

    def _generator(self, key: tuple[int | str, ...], restart: int) -> torch.Generator:
        digest = hashlib.blake2b(repr((int(self.seed), restart, key)).encode(), digest_size=7).digest()
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))


@runtime_checkable
class NoiseDraw(Protocol):
    """Draws noisy measurements, as a `latentopt.objectives.NoiseModel` does."""

    def draw(self, measurement: Tensor, seed: int) -> Tensor: ...


def normal_by_value(values: Tensor, seed: int) -> Tensor:
    """Draw standard normal numbers like ``values`` (B, ...), each sample's from the seed and its own bytes."""
    noise = torch.empty(values.shape, dtype=torch.float64, device="cpu")
    for key, out in zip(_value_keys(values, seed), noise, strict=True):
        generator = torch.Generator().manual_seed(key)
        out.copy_(torch.randn(out.shape, generator=generator, dtype=torch.float64, device="cpu"))
    return noise.to(values)


def draw_by_value(
    values: Tensor, seed: int, draw: Callable[[NDArray[np.float64], np.random.Generator], NDArray[Any]]
) -> Tensor:
    """Draw random numbers of ``draw(sample, generator)`` for values (B, ...), from the seed and each sample's bytes."""
    samples = zip(_value_keys(values, seed), values.detach().cpu().double().numpy(), strict=True)
    drawn = [torch.from_numpy(np.asarray(draw(sample, np.random.default_rng(key)))) for key, sample in samples]
    return torch.stack(drawn).to(values)


def _value_keys(values: Tensor, seed: int) -> Iterator[int]:
    """Yield a key of 64 bits for each sample, of the seed and its bytes."""
    for sample in values.detach().cpu().flatten(1).contiguous():
        data = f"{seed}:".encode() + sample.view(torch.uint8).numpy().tobytes()
        yield int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
