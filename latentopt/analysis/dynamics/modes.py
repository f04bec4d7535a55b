"""Ascent on a quadratic: each eigenvector of the Hessian grows by itself (arXiv 2205.15130)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Modes(NamedTuple):
    """The gradient at the clean input, and the Hessian's eigenpairs there."""

    gradient: Tensor  # (B, D)
    values: Tensor  # (B, r)
    vectors: Tensor  # (B, r, D)


def growth(a: Tensor, m: int, l: Tensor) -> Tensor:  # noqa: E741
    """``((1 + a l)^m - 1) / l``, ``a m`` at l = 0: a geometric sum, ``a sum_(j < m) (1 + a l)^j``.

    Accurate near ``a l = 0`` and ``a l = -2``, where the difference would lose its digits; infinite on overflow.

    Args:
        a: step sizes >= 0.
        m: >= 0.
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


def grown_gradient(modes: Modes, a: Tensor, m: int) -> Tensor:
    """The gradient (B, D) after m steps by the eigen formula: ``sum_i (1 + a l_i)^m (v_i . g) v_i``, and the rest."""
    share, rest = _split(modes)
    return combined((1 + a[:, None] * modes.values) ** m * share, modes.vectors) + rest


def along(modes: Modes, a: Tensor, m: int) -> Tensor:
    """The eigen formula: each eigenvector by its growth, the rest of the gradient by ``a m``."""
    share, rest = _split(modes)
    return combined(growth(a[:, None], m, modes.values) * share, modes.vectors) + (a * m)[:, None] * rest


def _split(modes: Modes) -> tuple[Tensor, Tensor]:
    """The gradient's shares ``v_i . g`` (B, r), and what is left of it (B, D)."""
    share = (modes.vectors @ modes.gradient[:, :, None])[:, :, 0]
    return share, modes.gradient - combined(share, modes.vectors)


def combined(weights: Tensor, rows: Tensor) -> Tensor:
    """``sum_i weights_i rows_i``: (B, r) and (B, r, D) to (B, D)."""
    return (weights[:, None] @ rows)[:, 0]
