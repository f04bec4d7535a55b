"""Lanczos' method, each sample by itself: the eigenvalues of largest size of a symmetric matrix known by products."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.batch_math import sample_norm


class Ritz(NamedTuple):
    """Approximate eigenpairs."""

    values: Tensor  # (B, k) descending
    vectors: Tensor  # (B, k, D) orthonormal
    residual: Tensor  # (B, k) ||H v - l v||


def lanczos(
    product: Callable[[Tensor], Tensor], like: Tensor, k: int, iterations: int, tolerance: float, seed: int
) -> Ritz:
    """The k eigenpairs of largest size.

    Every new vector is made orthogonal to all before it, twice. Where the space of a sample is used up it goes on from
    a random vector, so that eigenvalues that occur more than once are found. A sample's pairs are those of the first
    iteration at which all its residuals are under ``tolerance`` times its largest eigenvalue, so they do not depend on
    the batch; of the last one if that never happens.

    Args:
        product: vectors (B, D) to the matrices' products with them.
        like: (B, D), for dtype and device.
        k, iterations: 1 <= k <= iterations <= D.
        seed: of the first vector, the same for all samples.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, size = like.shape
    basis, alphas, betas = like.new_zeros(batch, 0, size), like.new_zeros(batch, 0), like.new_zeros(batch, 0)
    found, done = None, torch.zeros(batch, dtype=torch.bool, device=like.device)
    left, beta, scale = torch.zeros_like(like), like.new_zeros(batch), like.new_zeros(batch)
    for count in range(1, iterations + 1):
        fresh = _orthogonal(torch.randn(size, generator=generator).to(like).expand(batch, -1), basis)
        fresh = fresh / sample_norm(fresh)[:, None]
        used_up = beta <= 100 * torch.finfo(like.dtype).eps * scale
        beta = beta.masked_fill(used_up, 0)
        q = torch.where(used_up[:, None], fresh, left / beta.masked_fill(used_up, 1)[:, None])
        if count > 1:
            betas = torch.cat([betas, beta[:, None]], 1)
        basis = torch.cat([basis, q[:, None]], 1)
        image = product(q)
        alphas = torch.cat([alphas, (q * image).sum(1, keepdim=True)], 1)
        scale = torch.maximum(scale, sample_norm(image))
        left = _orthogonal(image, basis)
        beta = sample_norm(left)
        if count >= k:
            pairs = _ritz(alphas, betas, beta, basis, k)
            found = pairs if found is None else Ritz(*(_kept(done, a, b) for a, b in zip(found, pairs, strict=True)))
            # A residual of 0 may be that of a space that was used up before all of k were met: one look more.
            exact = pairs.residual.amax(1) <= tolerance * pairs.values.abs().amax(1)
            done = done | (exact & (count > k))
            if bool(done.all()):
                break
    assert found is not None
    return found


def _orthogonal(v: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):  # twice is enough (Parlett)
        v = v - ((basis @ v[:, :, None]).mT @ basis)[:, 0]
    return v


def _kept(done: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return torch.where(done.reshape(-1, *[1] * (old.ndim - 1)), old, new)


def _ritz(alphas: Tensor, betas: Tensor, beta: Tensor, basis: Tensor, k: int) -> Ritz:
    """From the tridiagonal matrix with these diagonals."""
    T = torch.diag_embed(alphas) + torch.diag_embed(betas, 1) + torch.diag_embed(betas, -1)
    values, s = torch.linalg.eigh(T)
    order = largest(values, k)
    values, s = values.gather(1, order), s.gather(2, order[:, None].expand(-1, s.shape[1], -1))
    return Ritz(values, s.mT @ basis, beta[:, None] * s[:, -1].abs())


def largest(values: Tensor, k: int) -> Tensor:
    """The places (B, k) of the k values of largest size, in descending order of the values."""
    order = values.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
    return order.gather(1, values.gather(1, order).argsort(dim=1, descending=True, stable=True))
