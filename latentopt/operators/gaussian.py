"""Compressed sensing: few random projections of the whole image (Bora et al. 2017, arXiv:1703.03208)."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from latentopt.errors import InputError, nonnegative, positive
from latentopt.operators.base import Operator

DENSE = 2**27  # entries up to which a matrix is cached
BLOCK = 2**22  # entries drawn at a time


@dataclass(frozen=True)
class Gaussian(Operator):
    """Random projections y = A x (B, m) of the image's n values; the entries of A are independent, N(0, 1/m).

    Complex projections are (B, 2, m), their real and imaginary parts, with entries of A whose parts are N(0, 1/(2m)).

    A is drawn on the CPU in float32 from ``seed``, m and n, so it is the same on every device and in every dtype. The
    two matrices used last are cached if they have up to 2**27 entries (512 MiB in float32). A larger matrix is drawn
    again, block by block, at each call and each gradient, which takes seconds but gives the same values.

    Args:
        measurements: m, an integer from 1 to n.
        seed: an integer from 0 to 2**63 - 1.
        is_complex: whether the entries of A are complex.

    >>> import torch
    >>> Gaussian(20)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 20])
    """

    measurements: int
    seed: int = 0
    is_complex: bool = False
    is_linear = True

    def __post_init__(self) -> None:
        positive("Gaussian.measurements", self.measurements, integer=True)
        nonnegative("Gaussian.seed", self.seed, integer=True)
        if self.seed >= 2**63:
            raise InputError("Gaussian.seed", "at most 2**63 - 1", self.seed)

    def __call__(self, image: Tensor) -> Tensor:
        n = prod(image.shape[1:])
        if self.measurements > n:
            raise InputError("Gaussian.measurements", f"at most {n}, the values of an image", self.measurements)
        if self.is_complex:
            return _product(image.flatten(1), 2 * self.measurements, n, self.seed, False).unflatten(1, (2, -1))
        return _product(image.flatten(1), self.measurements, n, self.seed, False)


@torch.library.custom_op("latentopt::gaussian", mutates_args=())
def _product(x: Tensor, m: int, n: int, seed: int, transpose: bool) -> Tensor:
    """Compute A x (B, m), or with ``transpose`` A^T x (B, n); one operation for autograd and compilers."""
    result, start = x.new_zeros(len(x), n if transpose else m), 0
    for block in _blocks(m, n, seed, x.dtype, x.device):
        rows = slice(start, start + len(block))
        if transpose:
            result.addmm_(x[:, rows], block)
        else:
            result[:, rows] = x @ block.T
        start = rows.stop
    return result


@_product.register_fake
def _(x: Tensor, m: int, n: int, seed: int, transpose: bool) -> Tensor:
    return x.new_empty(len(x), n if transpose else m)


def _save(ctx, inputs, output) -> None:
    _, *ctx.matrix, ctx.transpose = inputs


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _product(grad, *ctx.matrix, not ctx.transpose), None, None, None, None


_product.register_autograd(_backward, setup_context=_save)


def _blocks(m: int, n: int, seed: int, dtype: torch.dtype, device: torch.device) -> Iterable[Tensor]:
    """Return the rows of A in blocks (rows, n), cached or drawn."""
    return (_cached_blocks if m * n <= DENSE else _draw_blocks)(m, n, seed, dtype, device)


@lru_cache(maxsize=2)
def _cached_blocks(m: int, n: int, seed: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    with torch.inference_mode(False):  # else no later gradient could use them
        return tuple(_draw_blocks(m, n, seed, dtype, device))


def _draw_blocks(m: int, n: int, seed: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    size = max(1, BLOCK // n)
    for start in range(0, m, size):
        key = hashlib.blake2b(f"{seed}:{m}:{n}:{start}".encode(), digest_size=8)
        generator = torch.Generator().manual_seed(int.from_bytes(key.digest(), "big"))
        rows = torch.randn(min(size, m - start), n, generator=generator, dtype=torch.float32, device="cpu")
        yield rows.div_(m**0.5).to(device=device, dtype=dtype)
