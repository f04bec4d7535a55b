"""The Hessian of a classifier's loss in its input, inside a linear region (arXiv 2205.15130).

There ``z(x + delta) = z + J delta``, so ``H = J^T (d^2 loss / dz^2) J``; for cross-entropy ``J^T (diag p - p p^T) J``,
of rank <= K - 1. The boundaries of the regions do not contribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from latentopt.analysis.dynamics.lanczos import lanczos, largest
from latentopt.analysis.dynamics.linear_region import LARGEST, LinearRegion, linear_region, slices_in_memory
from latentopt.analysis.dynamics.logit_loss import derivative, loss_hessian, loss_value, other_classes, softmax_factor
from latentopt.analysis.dynamics.validation import validate_classifier
from latentopt.arguments import Values
from latentopt.classification import Loss
from latentopt.errors import InputError, positive, seed_within
from latentopt.networks.freezing import frozen
from latentopt.reports import Row
from latentopt.results import SavedResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EigenMethod = Literal["exact", "lanczos"]


@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs(SavedResult):
    """Eigenvalues and eigenvectors of each sample's Hessian in the input."""

    values: Tensor  # (B, r) descending
    vectors: Tensor  # (B, r, *shape) orthonormal
    residual: Tensor  # (B, r) ||H v - l v|| by Lanczos; else 0

    @property
    def rows(self) -> list[Row]:
        """One row for each eigenvalue of each sample."""
        values, residual = self.values.tolist(), self.residual.tolist()
        pairs = [(i, j, value) for i, row in enumerate(values) for j, value in enumerate(row)]
        return [{"sample": i, "number": j, "value": value, "residual": residual[i][j]} for i, j, value in pairs]

    def summary(self) -> dict[str, Any]:
        """Return the number of samples and eigenvalues, and the greatest one, by name."""
        samples, count = self.values.shape
        greatest = float(self.values.max()) if count else float("nan")
        return {"samples": samples, "eigenvalues": count, "greatest": greatest}

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(range(1, self.values.shape[1] + 1), self.values.detach().cpu().double().T, "o-", ms=3, alpha=0.5)
        axes.set(xlabel="number", ylabel="eigenvalue of the Hessian in the input")
        axes.grid(alpha=0.3)


def input_hessian_eigs(
    network: Callable[[Tensor], Any],
    x: Values,
    labels: Values,
    loss: Loss = "ce",
    *,
    k: int | None = None,
    method: EigenMethod | None = None,
    iterations: int | None = None,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> Eigenpairs:
    """Compute eigenpairs of the Hessian of the loss in the input, each sample by itself.

    Args:
        network: a piecewise-linear classifier, inputs (B, *shape) to logits (B, K); in eval mode while it is used.
        x: (B, *shape), finite floats; float64 where every digit counts.
        labels: (B,) long.
        loss: ce, margin, dlr, or a function of logits and labels to (B,).
        k: number of pairs, those of largest size; ``exact`` returns fewer where the rank is lower. Default: the rank,
            min(K - 1, D) of cross-entropy, min(K, D) of another loss, with D the size of an input.
        method: exact: from the Jacobian, K backward passes, exact to rounding; or lanczos: Hessian-vector products,
            each as expensive as two backward passes. Default: exact for ``ce``, lanczos for any other loss.
        iterations: greatest number of products of Lanczos. Default: ``2 K + 2 k + 20``.
        tolerance: residual, as a share of the largest eigenvalue, at which Lanczos stops; in float32 1e-6 at least.
        seed: of Lanczos' first vector.

    Returns:
        Values (B, r), vectors (B, r, *shape) and residuals (B, r).

    Raises:
        InputError: the network is not piecewise linear or has one class only; inputs, labels, loss or k are not as
            described; or the Jacobians do not fit in memory, where Lanczos does.

    >>> pairs = input_hessian_eigs(torch.nn.Linear(5, 3), torch.zeros(2, 5), torch.tensor([0, 1]))
    >>> pairs.values.shape, pairs.vectors.shape
    (torch.Size([2, 2]), torch.Size([2, 2, 5]))
    """
    if method not in (None, *get_args(EigenMethod)):
        raise InputError("method", "exact or lanczos", repr(method))
    if iterations is not None:
        positive("iterations", iterations, integer=True)
    positive("tolerance", tolerance)
    seed_within(seed)
    with frozen(network):
        network, x, labels, classes = validate_classifier(network, x, labels, loss)
        size = x[0].numel()
        rank = min(classes - (loss == "ce"), size)
        if k is not None:
            positive("k", k, integer=True)
            if k > size:
                raise InputError("k", f"at most {size}, the size of an input", k)
        count = rank if k is None else k
        if (method or ("exact" if loss == "ce" else "lanczos")) == "exact":
            return _exact(network, x, labels, loss, min(count, rank), classes)
        if iterations is not None and iterations < count:
            raise InputError("iterations", f"at least as many as eigenpairs, {count}", iterations)
        products = min(iterations or 2 * classes + 2 * count + 20, size)
        multiply = _multiplier(network, x, labels, loss)
        tolerance = max(tolerance, 10 * torch.finfo(x.dtype).eps)
        values, vectors, residual = lanczos(
            lambda v: multiply(v.reshape(x.shape)).flatten(1), x.flatten(1), count, products, tolerance, seed
        )
        return Eigenpairs(values, vectors.unflatten(2, x.shape[1:]), residual)


def _exact(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, k: int, classes: int
) -> Eigenpairs:
    if len(x) * k * x[0].numel() > LARGEST:
        raise InputError("k", f"eigenvectors of at most {LARGEST} numbers (fewer of them, or fewer samples)", k)
    slices = slices_in_memory(x, classes)
    parts = [region_eigenpairs(linear_region(network, x[rows]), labels[rows], loss, k) for rows in slices]
    values, vectors = (torch.cat(part) for part in zip(*parts, strict=True))
    return Eigenpairs(values, vectors.unflatten(2, x.shape[1:]), torch.zeros_like(values))


def region_eigenpairs(region: LinearRegion, labels: Tensor, loss: Loss, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the k pairs of largest size, values (B, k) descending and vectors (B, k, D), from the Jacobian."""
    z, J = region
    if loss == "ce":  # H = A^T A: its singular values keep the digits that H would lose
        R, top = softmax_factor(z)
        rows = other_classes(top, z.shape[1])[:, :, None].expand(-1, -1, J.shape[2])
        differences = J.gather(1, rows) - J.gather(1, top[:, :, None].expand(-1, -1, J.shape[2]))
        _, s, V = torch.linalg.svd(R @ differences, full_matrices=False)
        values, vectors = s.square(), V
    else:  # H = Q (T S T^T) Q^T with J^T = Q T
        Q, T = torch.linalg.qr(J.mT)
        values, u = torch.linalg.eigh(T @ loss_hessian(loss, z, labels) @ T.mT)
        vectors = (Q @ u).mT
    order = largest(values, k or values.shape[1])
    return values.gather(1, order), vectors.gather(1, order[:, :, None].expand(-1, -1, J.shape[2]))


def hessian_vector(
    network: Callable[[Tensor], Any], x: Values, labels: Values, loss: Loss = "ce"
) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies each sample's Hessian with a vector, by differentiating twice.

    The gradient is computed once, here; each product is one more backward pass through it.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.

    Returns:
        A function of vectors (B, *shape) to their products (B, *shape).

    Raises:
        InputError: as `input_hessian_eigs`.
    """
    with frozen(network):
        network, x, labels, _ = validate_classifier(network, x, labels, loss)
        return _multiplier(network, x, labels, loss)


def _multiplier(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss
) -> Callable[[Tensor], Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        gradient = derivative(loss_value(loss, network(x), labels).sum(), x, create_graph=True)
    return partial(derivative, gradient, x)
