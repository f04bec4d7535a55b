"""Free gates: ADR-GD's activation variables eta as printed (arXiv 2406.00494, eqs. 6, 8, 9, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from latentopt._deprecated import old_attribute, renamed_keywords
from latentopt.arguments import checked
from latentopt.autodiff import gradients, require_gradient
from latentopt.batch_math import per_sample, sample_norm, where_rows
from latentopt.errors import InputError, nonnegative, positive
from latentopt.gates import dual
from latentopt.networks.outputs import argument_of
from latentopt.optimizers.base import Cost
from latentopt.optimizers.gate_rule import Direction, GateRule, check_layers
from latentopt.optimizers.row_norms import RowNorms
from latentopt.problem import Batch, Evaluation

Rescale = Literal["always", "above one", "never"]
Reduce = Literal["sum", "max"]
Scale = Literal["none", "row", "norm"]

aten = torch.ops.aten


class FreeState(NamedTuple):
    """State of the gates; `eta`, `noisy` and `norms` are empty before the first step."""

    t: int  # steps done
    fresh: Tensor  # (B,) bool, whether eta is to be set to the activation pattern
    beta: Tensor  # (B,) weight of the constraint
    eta: tuple[Tensor, ...]  # of each switch (B, *site)
    noisy: tuple[Tensor, ...]  # of each switch (B,), step of its last noise
    norms: tuple[Tensor, ...]  # of each switch (B, *site), ||P_j||, and of the output (B, *out)


@renamed_keywords(distances="row_norms")
@checked
@dataclass(frozen=True)
class FreeGates(GateRule):
    """Gates as variables eta of their own, by default as in the paper.

    Args:
        alpha: slope of the gate ``s(eta) = sigmoid(alpha (eta - 1/2))``.
        beta0: first weight of the constraint.
        a_eta: step size of eta, along its rescaled gradient.
        a_beta: step size of beta while the constraint is not met.
        gamma: decrease of beta in a step while the constraint is met; the paper does not state it.
        r: size of the noise.
        delta: noise on a layer when the norm of its eta's gradient is below this ...
        T_p: ... and more than this many steps have passed since its last noise.
        delta_beta: the constraint counts as met below this.
        rescale: of eta's gradient: to norm 1 "always", only where it is "above one", or "never".
        reduce: the constraint of a layer: the "sum" over its neurons (eq. 8), or the "max" of either term.
        start: distance of eta from 1/2 when it is set to the activation pattern, in (0, 1/2].
        reach: largest distance of eta from 1/2. None: no limit.
        resync: steps between two resets of eta to the activation pattern. None: no resets.
        beta_min: least beta.
        beta_max: greatest beta. None: no limit.
        scale: divide the surrogate's output by the norm of each unit's "row" of the affine map, or by its own "norm".
        row_norms: how the norms ``||P_j||`` are computed.
        layers: numbers of the sites with gates (`latentopt.gates.sites` lists them). None: all. If they are the last
            ones, both networks share the layers before, and a step is cheaper, though it counts as two passes.
    """

    alpha: float = 2000.0
    beta0: float = 1.0
    a_eta: float = 0.5
    a_beta: float = 0.01
    gamma: float = 0.01
    r: float = 0.1
    delta: float = 1e-4
    T_p: int = 10
    delta_beta: float = 0.01
    rescale: Rescale = "always"
    reduce: Reduce = "sum"
    start: float = 0.5
    reach: float | None = None
    resync: int | None = None
    beta_min: float = 0.0
    beta_max: float | None = None
    scale: Scale = "none"
    row_norms: RowNorms = field(default_factory=RowNorms)
    layers: Sequence[int] | None = None

    distances = old_attribute("FreeGates", "distances", "row_norms")

    def __post_init__(self) -> None:
        for name in ("alpha", "a_eta", "start"):
            positive(f"FreeGates.{name}", getattr(self, name))
        nonnegative("FreeGates.T_p", self.T_p, integer=True)
        for name in ("beta0", "a_beta", "gamma", "r", "delta", "delta_beta", "beta_min"):
            nonnegative(f"FreeGates.{name}", getattr(self, name))
        for name in ("reach", "resync", "beta_max"):
            if getattr(self, name) is not None:
                positive(f"FreeGates.{name}", getattr(self, name), integer=name == "resync")
        for name, choice in (("rescale", Rescale), ("reduce", Reduce), ("scale", Scale)):
            if getattr(self, name) not in get_args(choice):
                raise InputError(f"FreeGates.{name}", f"one of {', '.join(get_args(choice))}", getattr(self, name))
        check_layers("FreeGates.layers", self.layers)

    def init(self, batch: Batch, x: Tensor) -> FreeState:
        fresh = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return FreeState(0, fresh, x.new_full((len(x),), self.beta0), (), (), ())

    def direction(self, batch: Batch, x: Tensor, state: FreeState) -> Direction:
        t = state.t + 1
        fresh = state.fresh if bool(state.fresh.any()) else None
        if self.resync and t % self.resync == 0:
            fresh = torch.ones_like(state.fresh)
        forwards = 0
        if self.row_norms.due(state.t):
            gate = lambda index, z: self._gate(self._eta(state.eta, fresh, index, z))  # noqa: E731
            norms = self.row_norms.norms(batch, x, gate, self.layers, t)
            state, forwards = state._replace(norms=(*norms.switches, norms.output)), norms.forwards
        args = (x, torch.tensor(float(t), device=x.device), state.beta, state.eta, state.noisy, state.norms)
        if fresh is None:
            moved = batch.call(self, lambda *args: self._advance(batch, None, *args), *args)
        else:
            moved = self._advance(batch, fresh, *args)
        info = {"constraint": moved.constraint, "beta": state.beta, "flips": moved.flips}
        fresh = state.fresh if fresh is None else torch.zeros_like(fresh)
        next_state = FreeState(t, fresh, moved.beta, self._noise(batch, t, moved), moved.noisy, state.norms)
        return Direction(moved.evaluation, moved.grad, next_state, Cost(2 + forwards, 2), info)

    def _gate(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * (eta - 0.5))

    def _eta(self, eta: tuple[Tensor, ...], fresh: Tensor | None, index: int, z: Tensor) -> Tensor:
        """Return the variable of a switch (B, *site), set to the activation pattern where it is fresh."""
        if fresh is None:
            return eta[index]
        pattern = 0.5 + self.start * (2 * (z > 0).to(z.dtype) - 1)
        return where_rows(fresh, pattern, eta[index]) if eta else pattern

    def _advance(
        self,
        batch: Batch,
        fresh: Tensor | None,
        x: Tensor,
        t: Tensor,
        beta: Tensor,
        eta: tuple[Tensor, ...],
        noisy: tuple[Tensor, ...],
        norms: tuple[Tensor, ...],
    ) -> _GateStep:
        """Compute the gradients of eq. 9, and step eta and beta."""
        half = len(x)
        etas: list[Tensor] = []
        constraints: list[Tensor] = []
        flips: list[Tensor] = []

        def switch(index: int, z: Tensor) -> Tensor:
            etas.append(self._eta(eta, fresh, index, z[:half].detach()).detach().requires_grad_())
            norm = norms[index] if norms else torch.ones_like(etas[-1])
            output, constraint, flipped = _Switch.apply(z, etas[-1], norm, self.alpha, self.reduce)
            constraints.append(constraint)
            flips.append(flipped)
            return output

        x = x.detach().requires_grad_()
        with torch.enable_grad():
            real, gated = dual(batch.network, x, switch, self.layers)
            require_gradient(real, argument_of(batch.network))
            constraint = torch.stack(constraints).sum(0)
            total = batch.loss(self._scaled(gated, norms), x) + beta * constraint  # eq. 9, minimised
            grad, *grads = gradients(total, [x, *etas], unused=True)  # eta of a site that no gradient passes through
        with torch.no_grad():
            real, constraint = real.detach(), constraint.detach()
            lengths = [sample_norm(g) for g in grads]
            noisy = noisy or tuple(torch.zeros_like(n, dtype=torch.float32) for n in lengths)
            stuck = torch.stack(
                [(n < self.delta) & (t - last > self.T_p) for n, last in zip(lengths, noisy, strict=True)]
            )
            return _GateStep(
                evaluation=Evaluation(batch.loss(real, x), real),
                grad=grad,
                eta=tuple(self._step_eta(e, g, n) for e, g, n in zip(etas, grads, lengths, strict=True)),
                beta=self._beta(beta, constraint),
                noisy=tuple(torch.where(s, t, last) for s, last in zip(stuck, noisy, strict=True)),
                stuck=stuck,
                any_stuck=stuck.any(),
                constraint=constraint,
                flips=torch.stack(flips).sum(0),
            )

    def _scaled(self, gated: Tensor, norms: tuple[Tensor, ...]) -> Tensor:
        if self.scale == "norm":
            return gated / per_sample(sample_norm(gated.detach()), gated)
        return gated / norms[-1] if self.scale == "row" and norms else gated

    def _step_eta(self, eta: Tensor, grad: Tensor, norm: Tensor) -> Tensor:
        step = torch.full_like(norm, self.a_eta)
        if self.rescale == "always":
            step = step / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)  # smaller squares underflow to 0
        elif self.rescale == "above one":
            step = step / norm.clamp_min(1)
        return self._clamp(torch.addcmul(eta.detach(), per_sample(step, eta), grad, value=-1))

    def _clamp(self, eta: Tensor) -> Tensor:
        return eta if self.reach is None else eta.clamp(0.5 - self.reach, 0.5 + self.reach)

    def _beta(self, beta: Tensor, constraint: Tensor) -> Tensor:
        met = constraint < self.delta_beta
        beta = torch.where(met, beta - self.gamma, beta + self.a_beta * constraint)
        return beta.clamp(self.beta_min, self.beta_max)

    def _noise(self, batch: Batch, t: int, moved: _GateStep) -> tuple[Tensor, ...]:
        eta = list(moved.eta)
        if self.r and bool(moved.any_stuck):
            for index in moved.stuck.any(1).nonzero()[:, 0].tolist():
                rows = moved.stuck[index].nonzero()[:, 0]
                e = eta[index][rows]
                xi = batch.noise.take(rows).normal(e, "eta", t, index)
                eta[index] = eta[index].index_copy(0, rows, self._clamp(e + self.r * xi))
        return tuple(eta)


class _GateStep(NamedTuple):
    """Result of a step of eta and beta, before the noise."""

    evaluation: Evaluation  # of the real network
    grad: Tensor  # (B, *shape) of eq. 9 by the input
    eta: tuple[Tensor, ...]  # of each switch (B, *site)
    beta: Tensor  # (B,)
    noisy: tuple[Tensor, ...]  # of each switch (B,)
    stuck: Tensor  # (switches, B) whose eta gets noise
    any_stuck: Tensor  # ()
    constraint: Tensor  # (B,) where the step started
    flips: Tensor  # (B,) gates that differ from the network's there


class _Switch(Function):
    """One switch of both networks, with its constraint; the backward pass in closed form.

    ``z`` (2 B, *site), ``eta`` and ``norm`` (B, *site) to the output (2 B, *site), ``relu(z)`` in the first half and
    ``s(eta) z`` in the second, and the constraint (B,) of eq. 8. The norms take no gradient.
    """

    @staticmethod
    def forward(
        ctx, z: Tensor, eta: Tensor, norm: Tensor, alpha: float, reduce: Reduce
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Memory traffic dominates the cost, so operations are few and in place.
        real, gated = z.chunk(2)
        slack = 0.5 - eta
        gate = (-alpha * slack).sigmoid_()
        output = torch.empty_like(z)
        torch.clamp(real, min=0, out=output[: len(real)])
        torch.mul(gate, gated, out=output[len(real) :])
        # Both terms of eq. 8 are relu(d (1/2 - eta)): one where the gate is closed, the other where it is open.
        hinge = (real * slack).div_(norm).clamp_(min=0)
        active = hinge.sign()
        flips = active.reshape(len(real), -1).sum(1)
        if reduce == "max":
            active = _greatest(hinge, slack)
            hinge.mul_(active)
        ctx.save_for_backward(z, slack, norm, gate, active)
        ctx.alpha, ctx.terms = alpha, 2 if reduce == "sum" else 1
        ctx.mark_non_differentiable(flips)
        return output, ctx.terms * hinge.reshape(len(real), -1).sum(1), flips

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        z, slack, norm, gate, active = ctx.saved_tensors
        real, gated = z.chunk(2)
        grad_real, grad_gated = grads[0].chunk(2)
        weight = (active * per_sample(ctx.terms * grads[1], active)).div_(norm)
        grad_z = torch.empty_like(z)
        torch.mul(grad_gated, gate, out=grad_z[len(real) :])
        by_real = grad_z[: len(real)]
        aten.threshold_backward.grad_input(grad_real, real, 0, grad_input=by_real)
        by_real.addcmul_(weight, slack)
        by_gate = grad_gated * gated
        aten.sigmoid_backward.grad_input(by_gate, gate, grad_input=by_gate)
        return grad_z, by_gate.mul_(ctx.alpha).addcmul_(weight, real, value=-1), None, None, None


def _greatest(hinge: Tensor, slack: Tensor) -> Tensor:
    """Mark the greatest hinge of the closed gates and that of the open ones with 1, others with 0; (B, *site)."""
    flat, closed = hinge.reshape(len(hinge), -1), (slack > 0).reshape(len(hinge), -1)
    chosen = torch.zeros_like(flat)
    for part in (flat * closed, flat * ~closed):
        greatest, place = part.max(1, keepdim=True)
        chosen.scatter_add_(1, place, greatest.sign())
    return chosen.reshape(hinge.shape)
