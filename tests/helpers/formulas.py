"""ADR-GD with free gates for one sample of one MLP, written out with explicit weights (arXiv 2406.00494)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from nets import mlp
from torch import Tensor, nn
from torch.nn.functional import relu

from latentopt.noise import Noise
from latentopt.optimizers import ADRGD, GD, FreeGates

LEAST = torch.finfo(torch.float64).tiny ** 0.5  # no norm is taken of less: its square would be 0
DRAWS = Noise(0, torch.zeros(1, dtype=torch.long))


class Point(NamedTuple):
    x: Tensor  # (3,)
    beta: Tensor  # ()
    eta: list[Tensor] | None = None  # (6,), (5,); None: before the first step
    noisy: tuple[int, ...] = (0, 0)


class After(NamedTuple):
    point: Point
    constraint: Tensor  # () where the step began
    stuck: list[bool]  # which eta got noise


def network() -> nn.Sequential:
    return mlp(3, 6, 5, 2, seed=3).requires_grad_(False)


def step(method: ADRGD, point: Point, t: int, target: Tensor) -> After:
    """Step ``t``, from 1, of Algorithm 1; the objective is the mean squared error to ``target`` (2,)."""
    g, descent = method.gates, method.descent
    assert isinstance(g, FreeGates)
    assert isinstance(descent, GD)
    W1, b1, W2, b2, W3, b3 = network().parameters()
    x, beta = point.x.clone().requires_grad_(), point.beta.clone().requires_grad_()

    h1 = W1 @ x + b1  # of the real network
    h2 = W2 @ relu(h1) + b2
    if point.eta is None or (g.resync and t % g.resync == 0):
        eta = [0.5 + g.start * (2 * (h > 0).double() - 1) for h in (h1, h2)]
    else:
        eta = point.eta
    eta = [e.clone().requires_grad_() for e in eta]
    s = [torch.sigmoid(g.alpha * (e - 0.5)) for e in eta]
    h1_ = W1 @ x + b1  # of the surrogate, eq. 6
    h2_ = W2 @ torch.diag(s[0]) @ h1_ + b2
    f_ = W3 @ torch.diag(s[1]) @ h2_ + b3

    S1, S2 = (torch.diag(gate).detach() for gate in s)
    n1, n2, n_out = (P.norm(dim=1) for P in (W1, W2 @ S1 @ W1, W3 @ S2 @ W2 @ S1 @ W1))
    if g.row_norms.kind == "none":
        n1, n2, n_out = torch.ones(6), torch.ones(5), torch.ones(2)
    elif g.row_norms.own_gate:
        n1, n2 = (S1 @ n1).clamp_min(g.row_norms.floor), (S2 @ n2).clamp_min(g.row_norms.floor)
    L = _constraint(h1 / n1, eta[0], g.reduce) + _constraint(h2 / n2, eta[1], g.reduce)
    if g.scale != "none":
        f_ = f_ / (n_out.clamp_min(1e-12) if g.scale == "row" else f_.detach().norm())
    J = -(f_ - target).square().mean()
    (-J + beta * L).backward()  # eq. 9

    new_eta, stuck = [], []
    for i, e in enumerate(eta):
        length = _grad(e).norm()
        divisor = {"always": max(length, LEAST), "above one": max(length, 1), "never": 1}[g.rescale]
        new = e.detach() - g.a_eta * _grad(e) / divisor
        new = _within(new, g)
        stuck.append(bool(length < g.delta) and t - point.noisy[i] > g.T_p)
        if stuck[i]:
            new = _within(new + g.r * DRAWS.normal(new[None], "eta", t, i)[0], g)
        new_eta.append(new)
    g_beta = _grad(beta)
    new_beta = beta.detach() - g.gamma if g_beta < g.delta_beta else beta.detach() + g.a_beta * g_beta
    new_beta = new_beta.clamp(g.beta_min, g.beta_max)
    g_x = _grad(x) / _grad(x).norm() if descent.normalize else _grad(x)
    if descent.clip is not None and g_x.norm() > descent.clip:
        g_x = descent.clip * g_x / g_x.norm()
    noisy = tuple(t if now else value for now, value in zip(stuck, point.noisy, strict=True))
    return After(Point((x - descent.lr * g_x).detach(), new_beta, new_eta, noisy), L.detach(), stuck)


def _constraint(distance: Tensor, eta: Tensor, reduce: str) -> Tensor:
    """Of one layer: eq. 8, or of the authors' code the most violated closed gate and the most violated open one."""
    if reduce == "sum":
        terms = [relu(d * (0.5 - e)) + relu(-d * (e - 0.5)) for d, e in zip(distance, eta, strict=True)]
        return torch.stack(terms).sum()
    return (relu(distance) * relu(0.5 - eta)).max() + (relu(-distance) * relu(eta - 0.5)).max()


def _within(eta: Tensor, g: FreeGates) -> Tensor:
    return eta if g.reach is None else eta.clamp(0.5 - g.reach, 0.5 + g.reach)


def _grad(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad
