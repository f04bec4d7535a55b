"""Images from linear measurements with total variation (Chambolle and Pock 2011), the baseline without a network."""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt.operators import Operator

STEP = 1 / 3
"""Both step sizes, for operators of norm <= 1 beside differences of pixels, of norm <= sqrt(8)."""


def total_variation(operator: Operator, y: Tensor, x: Tensor, weight: float, steps: int = 300) -> Tensor:
    """Minimise ``|A x - y|^2 / 2 + weight TV(x)`` by the primal-dual method.

    TV is the sum over pixels and channels of the Euclidean norm of the two differences to the next pixels.

    Args:
        operator: A, of norm <= 1.
        y: measurements (B, ...).
        x: first images (B, C, H, W).
        weight: >= 0.
        steps: number of steps.

    Returns:
        Images (B, C, H, W).
    """
    p, q, ahead = torch.zeros_like(y), torch.zeros(2, *x.shape).to(x), x
    for _ in range(steps):
        p = (p + STEP * (operator(ahead) - y)) / (1 + STEP)
        q = q + STEP * _differences(ahead)
        q = q * (weight / q.norm(dim=0).clamp_min(weight)) if weight else torch.zeros_like(q)
        later = x - STEP * (operator.adjoint(p, x.shape[1:]) + _adjoint(q))
        x, ahead = later, 2 * later - x
    return x


def deepinv_total_variation(operator: Operator, y: Tensor, x: Tensor, weight: float, steps: int = 300) -> Tensor:
    """Minimise the same by deepinv's FISTA with its `TVPrior`, whose inner loop has 20 steps, from a warm start.

    Args:
        operator, y, x, weight, steps: as in `total_variation`.

    Returns:
        Images (B, C, H, W).

    Raises:
        ImportError: there is no deepinv.
    """
    from deepinv.optim import FISTA, L2, TVPrior  # pyright: ignore[reportMissingImports]
    from deepinv.physics import LinearPhysics  # pyright: ignore[reportMissingImports]

    shape = x.shape[1:]
    physics = LinearPhysics(A=lambda x, **_: operator(x), A_adjoint=lambda y, **_: operator.adjoint(y, shape))
    prior = TVPrior(n_it_max=20)
    method = FISTA(L2(), prior, stepsize=1.0, lambda_reg=weight, max_iter=steps, early_stop=False)
    with torch.no_grad():
        return method(y, physics, init={"est": (x, x.clone())})


def _differences(x: Tensor) -> Tensor:
    """Return the differences (2, B, C, H, W) to the next row and column; 0 at the last ones."""
    q = torch.zeros(2, *x.shape).to(x)
    q[0, ..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    q[1, ..., :-1] = x[..., 1:] - x[..., :-1]
    return q


def _adjoint(q: Tensor) -> Tensor:
    x = torch.zeros_like(q[0])
    x[..., :-1, :] -= q[0, ..., :-1, :]
    x[..., 1:, :] += q[0, ..., :-1, :]
    x[..., :-1] -= q[1, ..., :-1]
    x[..., 1:] += q[1, ..., :-1]
    return x
