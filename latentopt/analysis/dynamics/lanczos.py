"""Lanczos' method for a batch of symmetric matrices known by products: the eigenvalues of largest size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.batch_math import sample_norm


class RitzPairs(NamedTuple):
    """Approximate eigenpairs of each sample's matrix."""

    values: Tensor  # (B, k) descending
    vectors: Tensor  # (B, k, D) orthonormal
    residual: Tensor  # (B, k) ||H v - l v||


def lanczos(
    product: Callable[[Tensor], Tensor], like: Tensor, k: int, iterations: int, tolerance: float, seed: int
) -> RitzPairs:
    """Return the k eigenpairs of largest size.

    Every new vector is made orthogonal to all before it, twice. Where a sample's Krylov space is exhausted, a random
    vector continues it, so that repeated eigenvalues are found. A sample's pairs are those of the first iteration at
    which all its residuals are below ``tolerance`` times its largest eigenvalue, so they do not depend on the batch; of
    the last one if that never happens.

    Args:
        product: maps vectors (B, D) to the matrices' products with them.
        like: (B, D), for dtype and device.
        k, iterations: 1 <= k <= iterations <= D.
        tolerance: relative residual.
        seed: of the first vector, the same for all samples.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, size = like.shape
    basis, alphas, betas = like.new_zeros(batch, 0, size), like.new_zeros(batch, 0), like.new_zeros(batch, 0)
    pairs, done = None, torch.zeros(batch, dtype=torch.bool, device=like.device)
    rest, beta, scale = torch.zeros_like(like), like.new_zeros(batch), like.new_zeros(batch)
    for count in range(1, iterations + 1):
        fresh = _orthogonalize(torch.randn(size, generator=generator, device="cpu").to(like).expand(batch, -1), basis)
        fresh = fresh / sample_norm(fresh)[:, None]
        exhausted = beta <= 100 * torch.finfo(like.dtype).eps * scale
        beta = beta.masked_fill(exhausted, 0)
        q = torch.where(exhausted[:, None], fresh, rest / beta.masked_fill(exhausted, 1)[:, None])
        if count > 1:
            betas = torch.cat([betas, beta[:, None]], 1)
        basis = torch.cat([basis, q[:, None]], 1)
        image = product(q)
        alphas = torch.cat([alphas, (q * image).sum(1, keepdim=True)], 1)
        scale = torch.maximum(scale, sample_norm(image))
        rest = _orthogonalize(image, basis)
        beta = sample_norm(rest)
        if count >= k:
            latest = _ritz_pairs(alphas, betas, beta, basis, k)
            pairs = latest if pairs is None else _replace(pairs, latest, ~done)
            # A residual of 0 may be that of a space exhausted before all of k were met: one iteration more.
            is_exact = latest.residual.amax(1) <= tolerance * latest.values.abs().amax(1)
            done = done | (is_exact & (count > k))
            if bool(done.all()):
                break
    assert pairs is not None
    return pairs


def _orthogonalize(v: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):  # twice is enough (Parlett)
        v = v - ((basis @ v[:, :, None]).mT @ basis)[:, 0]
    return v


def _replace(pairs: RitzPairs, latest: RitzPairs, rows: Tensor) -> RitzPairs:
    """Return ``pairs`` with those of ``latest`` where ``rows`` (B,) is true."""
    return RitzPairs(
        *(
            torch.where(rows.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(pairs, latest, strict=True)
        )
    )


def _ritz_pairs(alphas: Tensor, betas: Tensor, beta: Tensor, basis: Tensor, k: int) -> RitzPairs:
    """Return the pairs of the tridiagonal matrix with these diagonals."""
    T = torch.diag_embed(alphas) + torch.diag_embed(betas, 1) + torch.diag_embed(betas, -1)
    values, s = torch.linalg.eigh(T)
    order = largest(values, k)
    values, s = values.gather(1, order), s.gather(2, order[:, None].expand(-1, s.shape[1], -1))
    return RitzPairs(values, s.mT @ basis, beta[:, None] * s[:, -1].abs())


def largest(values: Tensor, k: int) -> Tensor:
    """Return the indices (B, k) of the k values of largest size, in descending order of the values."""
    order = values.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
    return order.gather(1, values.gather(1, order).argsort(dim=1, descending=True, stable=True))
