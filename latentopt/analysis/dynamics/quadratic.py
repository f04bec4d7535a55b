"""Gradient ascent on a quadratic: each eigenvector of the Hessian grows by itself (arXiv 2205.15130)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class QuadraticModel(NamedTuple):
    """The gradient at the clean input, and the Hessian's eigenpairs there."""

    gradient: Tensor  # (B, D)
    values: Tensor  # (B, r)
    vectors: Tensor  # (B, r, D)

    @classmethod
    def of_gradient(cls, gradient: Tensor) -> QuadraticModel:
        """The model without a Hessian."""
        return cls(gradient, gradient[:, :0], gradient[:, None][:, :0])

    def perturbation(self, a: Tensor, m: int) -> Tensor:
        """Return the perturbation (B, D) after m steps: eigenvectors grow, the rest of the gradient by ``a m``."""
        share, rest = self._split()
        return combine(growth(a[:, None], m, self.values) * share, self.vectors) + (a * m)[:, None] * rest

    def end_gradient(self, a: Tensor, m: int) -> Tensor:
        """Return the gradient (B, D) after m steps, ``sum_i (1 + a l_i)^m (v_i . g) v_i`` plus the rest."""
        share, rest = self._split()
        return combine((1 + a[:, None] * self.values) ** m * share, self.vectors) + rest

    def _split(self) -> tuple[Tensor, Tensor]:
        """Return the gradient's shares ``v_i . g`` (B, r), and the rest of it (B, D)."""
        share = (self.vectors @ self.gradient[:, :, None])[:, :, 0]
        return share, self.gradient - combine(share, self.vectors)


def growth(a: Tensor, m: int, l: Tensor) -> Tensor:  # noqa: E741
    """Return ``((1 + a l)^m - 1) / l``, ``a m`` at l = 0: a geometric sum, ``a sum_(j < m) (1 + a l)^j``.

    Accurate near ``a l = 0`` and ``a l = -2``, where the difference would lose its digits; infinite on overflow.

    Args:
        a: step sizes >= 0.
        m: number of steps, >= 0.
        l: eigenvalues of either sign.

    >>> growth(torch.tensor(0.5), 2, torch.tensor([0.0, 2.0, -2.0]))
    tensor([1.0000, 1.5000, 0.5000])
    """
    t = a * l
    beyond = t < -1  # (1 + t)^m = (-1)^m (1 + s)^m with s = -2 - t > -1
    power = torch.expm1(m * torch.log1p(torch.where(beyond, -2 - t, t))) if m else torch.zeros_like(t)
    power = torch.where(beyond & (m % 2 == 1), -2 - power, power)
    flat = t.abs() < torch.finfo(t.dtype).tiny
    return a * torch.where(flat, m, power / t.masked_fill(flat, 1))


def combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Return ``sum_i weights_i rows_i``: (B, r) and (B, r, D) to (B, D)."""
    return (weights[:, None] @ rows)[:, 0]
