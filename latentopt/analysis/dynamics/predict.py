"""What raw gradient ascent on a classifier's loss does to an input, by formula (arXiv 2205.15130).

``delta <- delta + a grad loss(x + delta)`` from ``delta = 0``, m times. Sign steps, normalised steps and projections
follow other laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.checks import check, step_sizes
from latentopt.analysis.dynamics.hessian import Eigenpairs, eigenpairs
from latentopt.analysis.dynamics.modes import Modes, along, combined
from latentopt.analysis.dynamics.region import Region, look, pieces, region
from latentopt.classification import Loss
from latentopt.errors import InputError, nonnegative
from latentopt.networks.freezing import frozen

Method = Literal["first-order", "eigen", "region-exact"]
METHODS: tuple[Method, ...] = get_args(Method)


def predict_perturbation(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    step: float | Tensor,
    steps: int,
    method: Method = "eigen",
    loss: Loss = "ce",
    *,
    pairs: Eigenpairs | None = None,
) -> Tensor:
    """The perturbation (B, *shape) after ``steps`` of raw gradient ascent, without doing them.

    ``first-order`` takes the gradient for constant: ``a m g``. ``eigen`` takes the Hessian for constant:
    ``sum_i ((1 + a l_i)^m - 1) / l_i (v_i . g) v_i``, and ``a m`` times what is left of g. ``region-exact`` takes the
    region for constant, and is exact as long as no gate flips: ``c <- c + a grad loss(z + J J^T c)`` on the logits,
    ``delta = J^T c``.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.
        step: step size a, >= 0: a number, or one for each sample (B,).
        steps: m, >= 0; 0 gives 0.
        method: first-order, eigen or region-exact.
        pairs: for ``eigen``, some that are known, as Lanczos finds them where the Jacobian is too large. None:
            all, from the Jacobian.

    Raises:
        InputError: as `input_hessian_eigs`; the step is negative; or the prediction is not finite, since
            ``(1 + a l)^m`` is too large.

    >>> network, x = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    >>> predict_perturbation(network, x, torch.tensor([0]), step=0.1, steps=0)
    tensor([[0., 0.]])
    """
    if method not in METHODS:
        raise InputError("method", f"one of {', '.join(METHODS)}", repr(method))
    nonnegative("steps", steps, integer=True)
    with frozen(network):
        classes = check(network, x, labels, loss)
        a = step_sizes(step, x)
        if method == "first-order" or (method == "eigen" and pairs is not None):
            found = along(known_modes(network, x, labels, loss, pairs), a, steps)
        else:
            parts = (Local(network, x[rows], labels[rows], loss, a[rows]) for rows in pieces(x, classes))
            found = torch.cat([part.end(method, steps) for part in parts])
    broken = (~found.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise InputError("steps", "so few, of such a size, that the formula is finite", f"{steps} (sample {broken[0]})")
    return found.reshape(x.shape)


class Local:
    """Some samples' regions and the formulas in them.

    Args:
        network, x, labels, loss: checked.
        a: (B,) step sizes.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, a: Tensor) -> None:
        self.around, self.labels, self.a = region(network, x), labels, a
        self.loss: Loss = loss

    def modes(self, method: Method) -> Modes:
        """For ``first-order`` without the Hessian."""
        slope = logits.gradient(self.loss, self.around.z, self.labels)
        gradient = combined(slope, self.around.J)
        if method == "first-order":
            return Modes(gradient, gradient[:, :0], gradient[:, None][:, :0])
        return Modes(gradient, *self.eigen)

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """The Hessian's eigenpairs: values (B, r) and vectors (B, r, D)."""
        return eigenpairs(self.around, self.labels, self.loss)

    def end(self, method: Method, steps: int) -> Tensor:
        """The perturbation (B, D) after so many steps."""
        if method == "region-exact":
            return combined(self._last(steps), self.around.J)
        return along(self.modes(method), self.a, steps)

    def end_gradient(self, steps: int) -> Tensor:
        """The loss's gradient (B, D) after so many steps, if no gate flips."""
        z = _moved(self.around, self._last(steps))
        return combined(logits.gradient(self.loss, z, self.labels), self.around.J)

    def _last(self, steps: int) -> Tensor:
        """``c`` (B, K) after so many steps."""
        *_, last = (torch.zeros_like(self.around.z), *_coefficients(self.around, self.labels, self.loss, self.a, steps))
        return last

    def path(self, method: Method, steps: int) -> Iterator[Tensor]:
        """The perturbations (B, D) after 1, 2, ... steps."""
        if method == "region-exact":
            for c in _coefficients(self.around, self.labels, self.loss, self.a, steps):
                yield combined(c, self.around.J)
            return
        modes = self.modes(method)
        for m in range(1, steps + 1):
            yield along(modes, self.a, m)


def known_modes(
    network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss, pairs: Eigenpairs | None
) -> Modes:
    """With some eigenpairs that are known, or none."""
    gradient = look(network, x, labels, loss).gradient.flatten(1)
    if pairs is None:
        return Modes(gradient, gradient[:, :0], gradient[:, None][:, :0])
    fits = pairs.values.ndim == 2 and pairs.vectors.shape == (*pairs.values.shape, *x.shape[1:])
    if not fits or len(pairs.values) != len(x):
        came = f"values {tuple(pairs.values.shape)}, vectors {tuple(pairs.vectors.shape)}"
        raise InputError("pairs", f"those of these {len(x)} samples", came)
    return Modes(gradient, pairs.values, pairs.vectors.flatten(2))


def _coefficients(around: Region, labels: Tensor, loss: Loss, a: Tensor, steps: int) -> Iterator[Tensor]:
    """``c`` (B, K) after 1, 2, ... steps."""
    c = torch.zeros_like(around.z)
    G = around.J @ around.J.mT
    for _ in range(steps):
        c = c + a[:, None] * logits.gradient(loss, around.z + combined(c, G), labels)
        yield c


def _moved(around: Region, c: Tensor) -> Tensor:
    """The logits (B, K) at ``delta = J^T c``."""
    return around.z + combined(c, around.J @ around.J.mT)
