"""Levenberg-Marquardt (Levenberg 1944, Marquardt 1963) for each sample by itself, damped after Nielsen 1999."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.autodiff import jvp
from latentopt.batch_math import sample_norm
from latentopt.errors import nonnegative, positive
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.optimizers.lbfgs import face_at
from latentopt.problem import Batch

CHUNK = 256
"""Tangents that pass through the network at once, at least those of one sample."""
SINGULAR = 1e-12
"""Undamped directions whose curvature is at most this share of the greatest are skipped."""
MIN_REJECTED, MAX_DAMPING = 1e-4, 1e16
"""Least damping after a rejected trial, and greatest damping."""


class LMState(NamedTuple):
    x: Tensor  # (B, *shape) the last accepted point
    value: Tensor  # (B,) objective there; inf before the first
    g: Tensor  # (B, n) J^T r there, half the gradient; like all below in float64
    V: Tensor  # (B, k, n) the directions of steps, eigenvectors of J^T J on the face; 0 where there are fewer
    curvature: Tensor  # (B, k) their eigenvalues, rising
    bend: Tensor  # (B,) curvature that the border of a ball adds
    predicted: Tensor  # (B,) decrease of the current trial
    damping: Tensor  # (B,) in units of the greatest curvature
    growth: Tensor  # (B,) factor of the damping should the trial be rejected


@checked
@dataclass(frozen=True)
class LevenbergMarquardt(Optimizer):
    """Levenberg-Marquardt, damped Gauss-Newton steps on a sum of squares ``|r(x)|^2`` such as `MSE`.

    The iterate is a trial; each sample has a damping of its own. A trial is accepted if it lowers the objective; then
    the residuals are linearised anew, and the next trial is ``x + h`` with ``(J^T J + mu I) h = -J^T r``. Else, also if
    the objective or the Jacobian is not finite, the next trial is a shorter step with more damping from the last
    accepted point. In a bounded set, trials are projected, and steps lie in the face of the accepted point.

    ``gain`` in the history is the decrease of a trial in units of the one that the linearised residuals predict (NaN
    where nothing was tried). Within one activation region of a network with an affine output the objective is the
    predicted quadratic: the gain is 1, and an undamped step ends at the region's minimiser. So ``1 - gain`` measures
    the effect of crossing regions, and of curvature in the network (a smooth output layer).

    A step counts a forward of the trial, one of the linearised pass, and one for each of its tangents: n for inputs of
    n numbers. Above ``cg_above`` numbers, steps lie in the Krylov space of ``cg_steps`` conjugate gradients instead,
    each a forward, its tangent, and a backward. A rejected trial takes only its own forward but counts the same, so
    that the budget of a sample does not depend on the samples beside it.

    Args:
        damping: the first mu, >= 0, in units of the largest eigenvalue of J^T J.
        cg_above: size of an input above which no full Jacobian is built, >= 0.
        cg_steps: dimension of the Krylov space, >= 1.

    Raises:
        InputError: (from `step`) the objective or the penalty is no sum of squares, or the network has an operation
            without a forward-mode derivative.
    """

    recovers = True

    damping: float = 1e-4
    cg_above: int = 128
    cg_steps: int = 20

    def __post_init__(self) -> None:
        nonnegative("LevenbergMarquardt.damping", self.damping)
        nonnegative("LevenbergMarquardt.cg_above", self.cg_above, integer=True)
        positive("LevenbergMarquardt.cg_steps", self.cg_steps, integer=True)

    def init(self, batch: Batch, x: Tensor) -> LMState:
        zero = x.flatten(1).double()
        zero = torch.zeros_like(zero)
        n, zeros = zero.shape[1], zero.new_zeros(len(x))
        k = n if n <= self.cg_above else min(n, self.cg_steps)
        value = torch.full_like(zeros, torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
        V = zero.new_zeros(len(x), k, n)
        return LMState(x, value, zero, V, V[:, :, 0], zeros, zeros, zeros + self.damping, zeros + 2)

    def step(self, batch: Batch, x: Tensor, state: LMState) -> Step:
        evaluation = batch.evaluate(x)
        value = evaluation.value.to(state.value)
        rows = (value.isfinite() & (value < state.value)).nonzero()[:, 0]
        gain = torch.where(state.value.isfinite(), (state.value - value).double() / state.predicted, torch.nan)
        moved = state
        if len(rows):
            part = batch.take(rows)
            g, V, N, bend = self._linearised(part, x[rows], evaluation.output[rows])
            sound = g.isfinite().all(1) & N.isfinite().flatten(1).all(1)
            curvature, E = torch.linalg.eigh(N[sound])
            rows = rows[sound]
            fresh = {"x": x[rows], "value": value[rows]}
            fresh |= {"g": g[sound], "V": E.mT @ V[sound], "curvature": curvature, "bend": bend[sound]}
            moved = state._replace(**{name: getattr(state, name).index_copy(0, rows, t) for name, t in fresh.items()})
        accepted = torch.zeros_like(gain).index_fill(0, rows, 1.0)
        damping, growth = _damped(gain, accepted > 0, state)
        next_x, predicted = _trial(batch, moved._replace(damping=damping))
        info = {"gain": gain.to(x), "damping": damping.to(x), "accepted": accepted.to(x)}
        state = moved._replace(damping=damping, growth=growth, predicted=predicted)
        return Step(next_x, state, evaluation, self._cost(x[0].numel()), info)

    def _cost(self, n: int) -> Cost:
        k = min(n, self.cg_steps)
        return Cost(2 + n, 0) if n <= self.cg_above else Cost(2 + 2 * k, k)

    def _linearised(self, batch: Batch, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``g``, a basis V (B, k, n) of the steps, ``N = V J^T J V^T`` (B, k, k), and ``bend``, at ``x``.

        The basis is orthonormal, 0 where it ends; or, where k = n, the projector onto the face.
        """
        n = x[0].numel()
        r = batch.residual(output, x)
        if n <= self.cg_above:
            g, N = _normal(batch, x, r)
            project, bend = _face(batch, x, g)
            V = project(torch.eye(n, dtype=g.dtype, device=g.device).expand(len(x), n, n))
            return g, V, V @ N @ V, bend
        return _krylov(batch, x, min(n, self.cg_steps))


def _damped(gain: Tensor, accepted: Tensor, state: LMState) -> tuple[Tensor, Tensor]:
    """Return the next damping and growth (B,) by Nielsen's rule."""
    fewer = state.damping * (1 - (2 * gain - 1) ** 3).clamp(1 / 10, 2).nan_to_num(2.0)
    more = state.damping.clamp_min(MIN_REJECTED) * state.growth
    first = state.value.isinf()
    damping = torch.where(accepted, fewer, more).clamp_max(MAX_DAMPING)
    growth = torch.where(accepted, 2.0, (2 * state.growth).clamp_max(MAX_DAMPING))
    return torch.where(first, state.damping, damping), torch.where(first, state.growth, growth)


def _trial(batch: Batch, state: LMState) -> tuple[Tensor, Tensor]:
    """Return the next iterate, and the decrease (B,) that the linearised residuals predict there."""
    x, g, V, curvature = state.x, state.g, state.V, state.curvature
    largest = curvature[:, -1:].clamp_min(0)
    shifted = curvature + state.damping[:, None] * largest + state.bend[:, None]
    along = -(V @ g[:, :, None])[:, :, 0]
    y = torch.where(shifted > SINGULAR * largest, along / shifted, 0.0)
    h = (V.mT @ y[:, :, None]).reshape(x.shape)
    next_x = batch.feasible.project((x + h).to(x))
    h = (next_x - x).flatten(1).to(g)  # after projection
    y = (V @ h[:, :, None])[:, :, 0]
    return next_x, -2 * (g * h).sum(1) - (curvature * y.square()).sum(1)


def _normal(batch: Batch, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``J^T r`` (B, n) and ``J^T J`` (B, n, n), computed for a few samples at a time."""
    n, gs, Ns = x[0].numel(), [], []
    for rows in torch.arange(len(x), device=x.device).split(max(1, CHUNK // n)):
        part = batch.take(rows)
        units = torch.eye(n, dtype=x.dtype, device=x.device).reshape(n, 1, *x.shape[1:])
        J = torch.func.vmap(_pushed(part, x[rows]))(units.expand(n, *x[rows].shape)).movedim(0, 1).double()  # (B, n, m)
        gs.append((J @ r[rows, :, None].double())[:, :, 0])
        Ns.append(J @ J.mT)
    return torch.cat(gs), torch.cat(Ns)


def _krylov(batch: Batch, x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same in the Krylov space of J^T J and g in the face, by Lanczos' method, fully orthogonalised."""
    z = x.detach().requires_grad_()
    with torch.enable_grad():
        r = batch.residual(batch.network(z), z)
    push = _pushed(batch, x)

    def pulled(u: Tensor, last: bool) -> Tensor:
        (back,) = torch.autograd.grad(r, z, u, retain_graph=not last)
        return back.flatten(1).double()

    g = pulled(r.detach(), k == 1)
    project, bend = _face(batch, x, g)
    V, W = g.new_zeros(len(x), k, g.shape[1]), []
    v = g
    for i in range(k):
        before = sample_norm(v)
        for _ in range(2):  # one pass leaves rounding errors of a vector nearly normal to the face
            v = project(v[:, None])[:, 0]
            v = v - (V.mT @ (V @ v[:, :, None]))[:, :, 0]
        size = sample_norm(v)
        goes_on = size > 100 * torch.finfo(x.dtype).eps * before
        V[:, i] = torch.where(goes_on[:, None], v / size[:, None], 0.0)
        w = push(V[:, i].to(x).reshape(x.shape))
        W.append(w.double())
        if i < k - 1:
            v = pulled(w, i == k - 2)
    JV = torch.stack(W, 1)
    return g, V, JV @ JV.mT, bend


def _pushed(batch: Batch, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a tangent (B, *shape) to the change of the residuals (B, m) along it."""

    def residual(z: Tensor) -> Tensor:
        return batch.residual(batch.network(z), z)

    return torch.no_grad()(lambda tangent: jvp(residual, x, tangent)[1])


def _face(batch: Batch, x: Tensor, g: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the projection of vectors (B, count, n) onto the face of ``x``, and the curvature (B,) of its border."""
    face = face_at(batch.feasible, x, g.to(x).reshape(x.shape))
    face = type(face)(*(part.double() for part in face))
    has_face = (face.normal != 0).any(1)
    radius = batch.feasible.radius(x).double().expand_as(x).flatten(1)[:, 0]  # of a ball, where one holds x
    bend = -(g * face.normal).sum(1).clamp_max(0) / radius
    return face.tangent, torch.where(has_face, bend, 0.0)
