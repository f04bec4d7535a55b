"""Formulas for the perturbation after raw gradient ascent on a classifier's loss (arXiv 2205.15130).

``delta <- delta + a grad loss(x + delta)`` from ``delta = 0``, m times. Sign steps, normalised steps and projections
follow other laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from latentopt.analysis.dynamics.hessian import Eigenpairs, region_eigenpairs
from latentopt.analysis.dynamics.linear_region import linear_region, loss_at_input, slices_in_memory
from latentopt.analysis.dynamics.logit_loss import loss_gradient
from latentopt.analysis.dynamics.quadratic import QuadraticModel, combine
from latentopt.analysis.dynamics.validation import per_sample_steps, validate_classifier
from latentopt.arguments import Values
from latentopt.classification import Loss
from latentopt.errors import InputError, nonnegative
from latentopt.networks.freezing import frozen

Formula = Literal["first-order", "eigen", "region-exact"]
FORMULAS: tuple[Formula, ...] = get_args(Formula)


def predict_perturbation(
    network: Callable[[Tensor], Any],
    x: Values,
    labels: Values,
    step: float | Tensor,
    steps: int,
    method: Formula = "eigen",
    loss: Loss = "ce",
    *,
    pairs: Eigenpairs | None = None,
) -> Tensor:
    """Predict the perturbation after ``steps`` of raw gradient ascent, without doing them.

    ``first-order`` keeps the gradient constant: ``a m g``. ``eigen`` keeps the Hessian constant:
    ``sum_i ((1 + a l_i)^m - 1) / l_i (v_i . g) v_i``, and ``a m`` times the rest of g. ``region-exact`` keeps the
    region constant, and is exact as long as no gate flips: ``c <- c + a grad loss(z + J J^T c)`` on the logits,
    ``delta = J^T c``.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.
        step: step size a, >= 0: a number, or one for each sample (B,).
        steps: number of steps m, >= 0; 0 gives 0.
        method: first-order, eigen or region-exact.
        pairs: known eigenpairs for ``eigen``, as Lanczos finds them where the Jacobian is too large. Default: all of
            them, from the Jacobian.

    Returns:
        The perturbations (B, *shape).

    Raises:
        InputError: as `input_hessian_eigs`; the step is negative; or the prediction is not finite, as
            ``(1 + a l)^m`` is too large.

    >>> network, x = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    >>> predict_perturbation(network, x, torch.tensor([0]), step=0.1, steps=0)
    tensor([[0., 0.]])
    """
    if method not in FORMULAS:
        raise InputError("method", f"one of {', '.join(FORMULAS)}", repr(method))
    nonnegative("steps", steps, integer=True)
    with frozen(network):
        network, x, labels, classes = validate_classifier(network, x, labels, loss)
        a = per_sample_steps(step, x)
        if method == "first-order" or (method == "eigen" and pairs is not None):
            delta = _known_model(network, x, labels, loss, pairs).perturbation(a, steps)
        else:
            slices = slices_in_memory(x, classes)
            parts = (RegionFormulas(network, x[rows], labels[rows], loss, a[rows]) for rows in slices)
            delta = torch.cat([part.end(method, steps) for part in parts])
    broken = (~delta.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise InputError("steps", "so few, of such a size, that the formula is finite", f"{steps} (sample {broken[0]})")
    return delta.reshape(x.shape)


class RegionFormulas:
    """The formulas in the linear regions of some samples.

    Args:
        network, x, labels, loss: validated.
        a: (B,) step sizes.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, a: Tensor) -> None:
        self.region, self.labels, self.a = linear_region(network, x), labels, a
        self.loss: Loss = loss

    def model(self, method: Formula) -> QuadraticModel:
        """Return the quadratic model; for ``first-order`` without the Hessian."""
        gradient = combine(loss_gradient(self.loss, self.region.z, self.labels), self.region.J)
        return (
            QuadraticModel.of_gradient(gradient) if method == "first-order" else QuadraticModel(gradient, *self.eigen)
        )

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """The Hessian's eigenvalues (B, r) and eigenvectors (B, r, D)."""
        return region_eigenpairs(self.region, self.labels, self.loss)

    def end(self, method: Formula, steps: int) -> Tensor:
        """Return the perturbation (B, D) after the last step."""
        if method == "region-exact":
            return combine(self._last_coefficients(steps), self.region.J)
        return self.model(method).perturbation(self.a, steps)

    def end_gradient(self, steps: int) -> Tensor:
        """Return the loss's gradient (B, D) after the last step, if no gate flips."""
        z, J = self.region
        moved = z + combine(self._last_coefficients(steps), J @ J.mT)
        return combine(loss_gradient(self.loss, moved, self.labels), J)

    def path(self, method: Formula, steps: int) -> Iterator[Tensor]:
        """Yield the perturbations (B, D) after 1, 2, ... steps."""
        if method == "region-exact":
            for c in self._coefficients(steps):
                yield combine(c, self.region.J)
            return
        model = self.model(method)
        for m in range(1, steps + 1):
            yield model.perturbation(self.a, m)

    def _coefficients(self, steps: int) -> Iterator[Tensor]:
        """Yield ``c`` (B, K) after 1, 2, ... steps."""
        z, J = self.region
        c, G = torch.zeros_like(z), J @ J.mT
        for _ in range(steps):
            c = c + self.a[:, None] * loss_gradient(self.loss, z + combine(c, G), self.labels)
            yield c

    def _last_coefficients(self, steps: int) -> Tensor:
        *_, last = (torch.zeros_like(self.region.z), *self._coefficients(steps))
        return last


def _known_model(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, pairs: Eigenpairs | None
) -> QuadraticModel:
    """Return the quadratic model with known eigenpairs, or none."""
    gradient = loss_at_input(network, x, labels, loss).gradient.flatten(1)
    if pairs is None:
        return QuadraticModel.of_gradient(gradient)
    fits = pairs.values.ndim == 2 and pairs.vectors.shape == (*pairs.values.shape, *x.shape[1:])
    if not fits or len(pairs.values) != len(x):
        got = f"values {tuple(pairs.values.shape)}, vectors {tuple(pairs.vectors.shape)}"
        raise InputError("pairs", f"those of these {len(x)} samples", got)
    return QuadraticModel(gradient, pairs.values, pairs.vectors.flatten(2))
