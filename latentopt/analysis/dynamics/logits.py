"""A loss as a function of the logits: value, gradient and Hessian, accurate for confident samples too.

Where a sample is confident, ``p_y - 1`` loses every digit; the sum of the other probabilities keeps them all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.classification import Loss, loss_function


def value(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """The loss (B,) of logits ``z`` (B, K); the gradient of ``ce`` is accurate however small it is."""
    if loss != "ce":
        return loss_function(loss)(z, labels)
    gaps = (z - z.gather(1, labels[:, None])).scatter(1, labels[:, None], 0)
    return gaps.logsumexp(1)


def gradient(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """Of the loss in the logits (B, K); of ``ce`` ``softmax(z) - e_y``."""
    if loss == "ce":
        p = z.softmax(1).scatter(1, labels[:, None], 0)
        return p.scatter(1, labels[:, None], -p.sum(1, keepdim=True))
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return derivative(value(loss, z, labels).sum(), z)


def hessian(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """Of the loss in the logits (B, K, K), by differentiating twice."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        slope = derivative(value(loss, z, labels).sum(), z, graph=True)
        rows = [derivative(slope[:, k].sum(), z) for k in range(z.shape[1])]
    whole = torch.stack(rows, 1)
    return (whole + whole.mT) / 2


def factor(z: Tensor) -> tuple[Tensor, Tensor]:
    """``R`` (B, K - 1, K - 1) and the likeliest class (B, 1), with ``diag p - p p^T = E^T R^T R E``.

    Row j of ``E`` is ``e_j - e_t``, j any class but the likeliest, t: so no digit is lost where p_t is almost 1. With
    ``s = sqrt(p_j)``, ``R = (I - s s^T / (1 + sqrt(p_t))) diag(s)``.
    """
    top = z.argmax(1, keepdim=True)
    p = z.softmax(1)
    s = p.gather(1, others(top, z.shape[1])).sqrt()
    outer = s[:, :, None] * s[:, None, :] / (1 + p.gather(1, top).sqrt())[:, :, None]
    return (torch.eye(s.shape[1], dtype=z.dtype, device=z.device) - outer) * s[:, None, :], top


def others(top: Tensor, classes: int) -> Tensor:
    """The classes (B, K - 1) that are not ``top`` (B, 1), in order."""
    each = torch.arange(classes - 1, device=top.device)[None]
    return each + (each >= top)
