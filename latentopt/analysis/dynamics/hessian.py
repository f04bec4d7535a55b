"""The Hessian of a classifier's loss in its input, inside a linear region (arXiv 2205.15130).

There ``z(x + delta) = z + J delta``, so ``H = J^T (d^2 loss / dz^2) J``; of cross-entropy ``J^T (diag p - p p^T) J``,
of rank <= K - 1. The boundaries of the regions have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.checks import check
from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.analysis.dynamics.lanczos import lanczos, largest
from latentopt.analysis.dynamics.region import LARGEST, Region, pieces, region
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen

Method = Literal["exact", "lanczos"]


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues and eigenvectors of the Hessian in the input, of each sample."""

    values: Tensor  # (B, r) descending
    vectors: Tensor  # (B, r, *shape) orthonormal
    residual: Tensor  # (B, r) ||H v - l v||: of Lanczos; else 0


def input_hessian_eigs(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    loss: Loss = "ce",
    *,
    k: int | None = None,
    method: Method | None = None,
    iterations: int | None = None,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> Eigenpairs:
    """Eigenpairs of the Hessian of the loss in the input, each sample by itself.

    Args:
        network: a piecewise-linear classifier, inputs (B, *shape) to logits (B, K); in eval mode while it is used.
        x: (B, *shape), finite floats; float64 where every digit counts.
        labels: (B,) long.
        loss: ce, margin, dlr, or a function of logits and labels to (B,).
        k: only the k of largest size, where exact finds as many. None: all that may differ from 0: min(K - 1, D) of
            cross-entropy, min(K, D) of another loss, D the size of an input.
        method: exact: from the Jacobian, K backward passes, exact to rounding; or lanczos: Hessian-vector products,
            each about as dear as two backward passes. None: exact for ``ce``, lanczos for any other loss.
        iterations: most products of Lanczos. None: ``2 K + 2 k + 20``.
        tolerance: residual, as a share of the largest eigenvalue, at which Lanczos stops; in float32 1e-6 at least.
        seed: of Lanczos' first vector.

    Raises:
        InputError: the network is not piecewise linear or has one class only; inputs, labels, loss or k are not what
            they have to be; or the Jacobians are too large to hold, and Lanczos is what to use.

    >>> pairs = input_hessian_eigs(torch.nn.Linear(5, 3), torch.zeros(2, 5), torch.tensor([0, 1]))
    >>> pairs.values.shape, pairs.vectors.shape
    (torch.Size([2, 2]), torch.Size([2, 2, 5]))
    """
    if method not in (None, *get_args(Method)):
        raise InputError("method", "exact or lanczos", repr(method))
    with frozen(network):
        classes = check(network, x, labels, loss)
        rank = min(classes - (loss == "ce"), x[0].numel())
        wanted = _wanted(k, rank, x[0].numel())
        if (method or ("exact" if loss == "ce" else "lanczos")) == "exact":
            return _exact(network, x, labels, loss, min(wanted, rank), classes)
        most = _most(iterations, wanted, classes, x[0].numel())
        positive("tolerance", tolerance)
        product = _products(network, x, labels, loss)
        flat = lambda v: product(v.reshape(x.shape)).flatten(1)  # noqa: E731
        tolerance = max(tolerance, 10 * torch.finfo(x.dtype).eps)
        values, vectors, residual = lanczos(flat, x.flatten(1), wanted, most, tolerance, seed)
        return Eigenpairs(values, vectors.unflatten(2, x.shape[1:]), residual)


def _wanted(k: int | None, rank: int, size: int) -> int:
    """How many pairs are asked for."""
    if k is None:
        return rank
    positive("k", k, integer=True)
    if k > size:
        raise InputError("k", f"at most {size}, the size of an input", k)
    return k


def _most(iterations: int | None, wanted: int, classes: int, size: int) -> int:
    """The products that Lanczos may take."""
    if iterations is not None:
        positive("iterations", iterations, integer=True)
        if iterations < wanted:
            raise InputError("iterations", f"at least as many as eigenpairs, {wanted}", iterations)
    return min(iterations or 2 * classes + 2 * wanted + 20, size)


def _exact(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, k: int, classes: int
) -> Eigenpairs:
    if len(x) * k * x[0].numel() > LARGEST:
        raise InputError("k", f"eigenvectors of at most {LARGEST} numbers (fewer of them, or fewer samples)", k)
    parts = [eigenpairs(region(network, x[rows]), labels[rows], loss, k) for rows in pieces(x, classes)]
    values, vectors = (torch.cat(each) for each in zip(*parts, strict=True))
    return Eigenpairs(values, vectors.unflatten(2, x.shape[1:]), torch.zeros_like(values))


def eigenpairs(around: Region, labels: Tensor, loss: Loss, k: int | None = None) -> tuple[Tensor, Tensor]:
    """The k pairs of largest size, values (B, k) descending and vectors (B, k, D), from the Jacobian."""
    z, J = around
    if loss == "ce":  # H = A^T A: its singular values keep the digits that H would lose
        R, top = logits.factor(z)
        rows = logits.others(top, z.shape[1])[:, :, None].expand(-1, -1, J.shape[2])
        differences = J.gather(1, rows) - J.gather(1, top[:, :, None].expand(-1, -1, J.shape[2]))
        _, s, V = torch.linalg.svd(R @ differences, full_matrices=False)
        values, vectors = s.square(), V
    else:  # H = Q (T S T^T) Q^T with J^T = Q T
        Q, T = torch.linalg.qr(J.mT)
        values, u = torch.linalg.eigh(T @ logits.hessian(loss, z, labels) @ T.mT)
        vectors = (Q @ u).mT
    order = largest(values, k or values.shape[1])
    return values.gather(1, order), vectors.gather(1, order[:, :, None].expand(-1, -1, J.shape[2]))


def hessian_vector(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss = "ce"
) -> Callable[[Tensor], Tensor]:
    """The product of each sample's Hessian with vectors (B, *shape), by differentiating twice.

    The gradient is computed once, here; each product is one more pass backwards through it.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.

    Raises:
        InputError: as there.
    """
    with frozen(network):
        check(network, x, labels, loss)
        return _products(network, x, labels, loss)


def _products(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        gradient = derivative(logits.value(loss, network(at), labels).sum(), at, graph=True)
    return partial(derivative, gradient, at)
