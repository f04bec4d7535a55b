"""The NumPy path of small critics: the closed form against autograd, its steps against the optimisers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from critics import A, B, Opaque, S, Twins, every_critic
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import mlp, near, rand, randn
from torch import Tensor, nn

import latentopt as lo
from latentopt.noise import Noise
from latentopt.optimizers import Optimizer
from latentopt.optimizers.registry import METHODS
from latentopt.rl.critics import CriticObjective, ScaledCritic
from latentopt.rl.fast.action_problem import ClosedFormBatch, ClosedFormCritics
from latentopt.rl.fast.ascent import ascend
from latentopt.rl.fast.chains import chains_of
from latentopt.rl.fast.closed_form import ClosedForm
from latentopt.rl.fast.stacked import StackedForm
from latentopt.rl.fast.steps import change_of, has_steps, look_of
from latentopt.sets import Box


def posed(
    q: nn.Module, critic, batch: int = B, radius: float = 0.5, fold: bool = False, steps: int = 12
) -> tuple[ClosedFormBatch, lo.Problem, Tensor]:
    """The problem in closed form and in general, and the actor's actions."""
    s, u = randn(batch, S, seed=3), 2 * rand(batch, A, seed=4) - 1
    feasible = Box((u - radius).clamp_min(-1), (u + radius).clamp_max(1))
    values = lambda s, a: torch.stack([v.reshape(len(a)) for v in q(s, a)])  # noqa: E731
    network = ScaledCritic(values, s, torch.zeros(A).double(), torch.ones(A).double())
    general = lo.Problem(network, CriticObjective(critic), (A,), batch, feasible, like=u)
    layers = chains_of(q)
    assert layers
    form = ClosedForm.from_chains(layers, critic, s.numpy(), np.zeros(A), np.ones(A))
    box = (feasible.low[0].numpy(), feasible.high[0].numpy()) if fold else None  # pyright: ignore[reportIndexIssue]
    whole = general.whole(Noise(5, torch.zeros(batch, dtype=torch.long)), steps)
    shared = {name: getattr(whole, name) for name in whole.__dataclass_fields__}
    return ClosedFormBatch(**{**shared, "record": False}, critics=ClosedFormCritics(form, box)), general, u


def agree(closed: ClosedFormBatch, general, u: Tensor, tau: float | None) -> None:
    (here, grad), (mine, my_grad) = (
        batch.gradient(u) if tau is None else batch.soft_gradient(u, tau) for batch in (general, closed)
    )
    near(mine.value, here.value, 1e-12)
    near(my_grad, grad, 1e-12)
    near(closed.evaluate(u).value, here.value, 1e-12)


@every_critic
@pytest.mark.parametrize("widths", [(6,), (8, 7), (6, 5, 4)])
@settings(max_examples=8)
@given(seed=st.integers(0, 100), tau=st.sampled_from([None, 0.25, 1.0]), copies=st.integers(1, 3))
def test_the_closed_form_is_autograds(critic, widths, seed, tau, copies):
    closed, general, u = posed(Twins(*widths, seed=seed), critic)
    u = torch.cat([general.feasible.project(u + 0.2 * randn(B, A, seed=copy)) for copy in range(copies)])
    tiled = general.whole().tiled(copies)
    for batch in (closed.tiled(copies), *([closed] if copies == 1 else [])):
        agree(batch, tiled, u, tau)


@pytest.mark.parametrize("critic", ["min", "first"])
@pytest.mark.parametrize("widths", [(6,), (8, 7), (6, 5, 4)])
@settings(max_examples=8)
@given(seed=st.integers(0, 100), radius=st.sampled_from([0.01, 0.1, 0.5, 2.0]))
def test_a_single_observation_folded_is_the_whole_in_its_box(critic, widths, seed, radius):
    closed, general, u = posed(Twins(*widths, seed=seed), critic, 1, radius, fold=True)
    for point in [general.feasible.project(u + radius * randn(1, A, seed=at)) for at in range(4)]:
        agree(closed, general.whole(), point, None)
        agree(closed, general.whole(), point, 0.5)


def test_folding_drops_units():
    closed, _, _ = posed(Twins(40, 20), "min", 1, 0.05, fold=True)
    assert isinstance(closed.critics.hard, StackedForm)
    assert closed.critics.hard.first.shape[1] < 40  # of 80


FAST: dict[str, Optimizer] = {
    **{name: METHODS[name]() for name in ("gd-critic", "adam-critic", "adr-gd-critic", "gd", "adam", "adr-gd-soft")},
    "raw gd": lo.GD(lr=0.2),
    "soft gd": lo.ADRGD(lo.SoftGates(1.0, steps=7), lo.GD(lr=0.2, schedule="exponential")),
}
OTHERS: dict[str, Optimizer] = {
    **{name: METHODS[name]() for name in ("adr-gd-paper-critic", "adr-gd-reference-critic", "cem", "random-shooting")},
    **{name: METHODS[name]() for name in ("pgd", "momentum", "lbfgs", "cma-es", "adr-gd-attack")},
    "clipped gd": lo.GD(lr=0.2, clip=0.1),
    "some gates": lo.ADRGD(lo.SoftGates(share=0.5), lo.Adam()),
}


def test_which_methods_have_steps_on_arrays():
    assert all(has_steps(method) for method in FAST.values())
    assert not any(has_steps(method) for method in OTHERS.values())


@pytest.mark.parametrize("name", FAST)
def test_a_step_on_arrays_is_the_optimisers(name):
    method, (closed, _, x) = FAST[name], posed(Twins(8, 7), "min")
    look, change = look_of(method, closed.critics, closed.steps), change_of(method, closed.steps)
    state, u = method.init(closed, x), x.numpy()
    for t in range(closed.steps):
        step = method.step(closed, x, state)
        grad = look(u, t).grad
        assert grad is not None
        u = closed.feasible.project(torch.from_numpy(u - change(-grad, t))).numpy()
        x, state = step.x, step.state
        near(torch.from_numpy(u), x, 1e-12)


@pytest.mark.parametrize("name", [*FAST, *OTHERS])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_lean_loop_finds_what_solve_finds(name, batch, restarts):
    method = {**FAST, **OTHERS}[name]
    closed, general, u = posed(Twins(8, 7), "min", batch)
    theirs = lo.solve(general, method, steps=12, restarts=restarts, seed=5, start=u)
    found = ascend(closed, method, u, restarts)
    near(torch.from_numpy(found.value), theirs.value, 1e-9)
    near(torch.from_numpy(found.x), theirs.x, 1e-6)
    near(torch.from_numpy(found.first), general.evaluate(u).value, 1e-12)
    assert found.forwards == int(theirs.forwards[0]) - 1  # `solve` looks once more at what it returns
    assert found.backwards == int(theirs.backwards[0])


def test_only_chains_are_recognised():
    class Wrapped(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.net = network

        def forward(self, s: Tensor, a: Tensor) -> Tensor:
            return self.net(torch.cat([s, a], 1))

    class Scaled(Twins):
        def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            first, second = super().forward(observations, actions)
            return 2 * first, second

    class Swapped(Twins):
        def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(actions, observations)

    hooked, tanh = Twins(6), Twins(6)
    hooked.first[0].register_forward_hook(lambda *_: None)
    tanh.first[1] = nn.Tanh()
    normed = Wrapped(nn.Sequential(nn.Linear(S + A, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1)))
    assert [len(chain) for chain in chains_of(Twins(6, 5)) or []] == [3, 3]
    assert [len(chain) for chain in chains_of(Wrapped(mlp(S + A, 6, 1))) or []] == [2]
    for q in (tanh, Scaled(6), normed, Swapped(6), hooked, Opaque(Twins(6)), lambda s, a: a):
        assert chains_of(q) is None
