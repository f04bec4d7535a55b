"""A classifier's loss as a function of its logits: value, gradient and Hessian, accurate for confident samples too.

Where a sample is confident, ``p_y - 1`` loses every digit; the sum of the other probabilities keeps them all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt.classification import Loss, loss_function


def derivative(output: Tensor, x: Tensor, direction: Tensor | None = None, create_graph: bool = False) -> Tensor:
    """Differentiate ``output`` at ``x``, and keep its graph; 0 where it does not depend on ``x``.

    Args:
        output: a number, or with ``direction`` a tensor of its shape.
        x: the result has its shape.
        direction: weights of the entries of ``output``.
        create_graph: allow another differentiation.
    """
    if not output.requires_grad:
        return torch.zeros_like(x)
    options = {"retain_graph": True, "create_graph": create_graph, "materialize_grads": True}
    return torch.autograd.grad(output, x, direction, allow_unused=True, **options)[0]


def loss_value(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """Return the loss (B,) of logits ``z`` (B, K); the gradient of ``ce`` is accurate however small it is."""
    if loss != "ce":
        return loss_function(loss)(z, labels)
    gaps = (z - z.gather(1, labels[:, None])).scatter(1, labels[:, None], 0)
    return gaps.logsumexp(1)


def loss_gradient(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient (B, K) of the loss in the logits; ``softmax(z) - e_y`` for ``ce``."""
    if loss == "ce":
        p = z.softmax(1).scatter(1, labels[:, None], 0)
        return p.scatter(1, labels[:, None], -p.sum(1, keepdim=True))
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return derivative(loss_value(loss, z, labels).sum(), z)


def loss_hessian(loss: Loss, z: Tensor, labels: Tensor) -> Tensor:
    """Return the Hessian (B, K, K) of the loss in the logits, by differentiating twice."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        gradient = derivative(loss_value(loss, z, labels).sum(), z, create_graph=True)
        rows = [derivative(gradient[:, k].sum(), z) for k in range(z.shape[1])]
    hessian = torch.stack(rows, 1)
    return (hessian + hessian.mT) / 2


def softmax_factor(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``R`` (B, K - 1, K - 1) and the likeliest class (B, 1), with ``diag p - p p^T = E^T R^T R E``.

    Row j of ``E`` is ``e_j - e_t``, j any class but the likeliest, t: so no digit is lost where p_t is almost 1. With
    ``s = sqrt(p_j)``, ``R = (I - s s^T / (1 + sqrt(p_t))) diag(s)``.
    """
    top = z.argmax(1, keepdim=True)
    p = z.softmax(1)
    s = p.gather(1, other_classes(top, z.shape[1])).sqrt()
    outer = s[:, :, None] * s[:, None, :] / (1 + p.gather(1, top).sqrt())[:, :, None]
    return (torch.eye(s.shape[1], dtype=z.dtype, device=z.device) - outer) * s[:, None, :], top


def other_classes(top: Tensor, classes: int) -> Tensor:
    """Return the classes (B, K - 1) other than ``top`` (B, 1), in order."""
    others = torch.arange(classes - 1, device=top.device)[None]
    return others + (others >= top)
