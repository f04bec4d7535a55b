"""Actions refined by a critic: the closed form against autograd, the lean loop against `solve`, exact maxima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import mlp, near, rand, randn, refill, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.noise import Noise
from latentopt.optimizers import Optimizer, registry
from latentopt.rl.ascent import descend
from latentopt.rl.chains import chains
from latentopt.rl.closed_form import ClosedForm
from latentopt.rl.critics import reduced
from latentopt.rl.methods import ACTIONS, method
from latentopt.rl.problem import ActionBatch, ActionValues, Around, Worst, action_batch
from latentopt.rl.refine import Refiner, refine_action
from latentopt.rl.single import Single

S, A, B = 5, 3, 4


class Twins(nn.Module):
    """Two critics of observation and action side by side."""

    def __init__(self, *widths: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.first = mlp(S + A, *widths, 1, seed=seed, dtype=dtype)
        self.second = mlp(S + A, *widths, 1, seed=seed + 1, dtype=dtype)

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([observations, actions], dim=1)
        return self.first(both), self.second(both)


class Opaque(nn.Module):
    """The same critics, in a form that is not recognised."""

    def __init__(self, twins: nn.Module) -> None:
        super().__init__()
        self.twins = twins

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        assert len(observations) == len(actions)  # which a tracer cannot know
        return self.twins(observations, actions)


def soft_min(values: Tensor) -> Tensor:
    return -torch.logsumexp(-values, 0)


CRITICS = {"min": "min", "first": "first", "function": soft_min}
every_critic = pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS)


def posed(q: nn.Module, critic, batch: int = B, box: float = 0.5) -> tuple[ActionBatch, lo.Problem, Tensor]:
    """The batch in closed form, the problem in general, and the actor's actions."""
    s, u = randn(batch, S, seed=3), 2 * rand(batch, A, seed=4) - 1
    feasible = Around(np.maximum(u.numpy() - box, -1), np.minimum(u.numpy() + box, 1))
    values = lambda s, a: torch.stack([v.reshape(len(a)) for v in q(s, a)])  # noqa: E731
    network = ActionValues(values, s, torch.zeros(A).double(), torch.ones(A).double())
    layers = chains(q)
    assert layers
    form = ClosedForm.of(layers, critic, s.numpy(), np.zeros(A), np.ones(A))
    general = lo.Problem(network, Worst(critic), (A,), batch, feasible, like=u)
    return action_batch(form, network, feasible, u, seed=5, steps=12), general, u


@every_critic
@pytest.mark.parametrize("widths", [(6,), (8, 7), (6, 5, 4)])
@settings(max_examples=8)
@given(seed=st.integers(0, 100), tau=st.sampled_from([None, 0.25, 1.0]), copies=st.integers(1, 3))
def test_the_closed_form_is_autograds(critic, widths, seed, tau, copies):
    closed, general, u = posed(Twins(*widths, seed=seed), critic)
    u = torch.cat([general.feasible.project(u + 0.2 * randn(B, A, seed=copy)) for copy in range(copies)])
    rows = torch.arange(B).repeat(copies)
    general = general.rows(rows, Noise(0, torch.zeros_like(rows)))
    here, grad = general.gradient(u) if tau is None else general.soft_gradient(u, tau)
    for problem in (closed.take(rows), *([closed] if copies == 1 else [])):
        mine, my_grad = problem.gradient(u) if tau is None else problem.soft_gradient(u, tau)
        near(mine.value, here.value, 1e-12)
        near(my_grad, grad, 1e-12)
        near(problem.evaluate(u).value, here.value, 1e-12)


@pytest.mark.parametrize("critic", ["min", "first"])
@pytest.mark.parametrize("widths", [(6,), (8, 7), (6, 5, 4)])
@settings(max_examples=8)
@given(seed=st.integers(0, 100), box=st.sampled_from([0.01, 0.1, 0.5, 2.0]))
def test_a_single_observation_folded_is_the_whole_in_its_box(critic, widths, seed, box):
    closed, general, u = posed(Twins(*widths, seed=seed), critic, batch=1, box=box)
    closed, general = closed.fold(), general.whole()
    for point in [general.feasible.project(u + box * randn(1, A, seed=at)) for at in range(4)]:
        here, grad = general.gradient(point)
        mine, my_grad = closed.gradient(point)
        near(mine.value, here.value, 1e-12)
        near(my_grad, grad, 1e-12)
        near(closed.evaluate(point).value, here.value, 1e-12)
        near(closed.soft_gradient(point, 0.5)[1], general.soft_gradient(point, 0.5)[1], 1e-12)


def test_folding_drops_units():
    closed, _, _ = posed(Twins(40, 20), "min", batch=1, box=0.05)
    closed = closed.fold()
    assert isinstance(closed.folded, Single)
    assert closed.folded.first.shape[1] < 40  # of 80


METHODS: dict[str, Optimizer] = {
    **{name: method(name).optimizer for name in ACTIONS},
    "raw gd": lo.GD(lr=0.2),
    "clipped gd": lo.GD(lr=0.2, clip=0.1),
    **{name: registry.method(name) for name in ("pgd", "momentum", "lbfgs", "cma-es")},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_lean_loop_finds_what_solve_finds(name, batch, restarts):
    closed, general, u = posed(Twins(8, 7), "min", batch)
    theirs = lo.solve(general, METHODS[name], steps=12, restarts=restarts, seed=5, start=u)
    found = descend(closed, METHODS[name], u, restarts)
    near(torch.as_tensor(found.value), theirs.value, 1e-9)
    near(torch.as_tensor(found.x), theirs.x, 1e-6)
    near(torch.as_tensor(found.first), general.evaluate(u).value, 1e-12)
    assert found.forwards == int(theirs.forwards[0]) - 1  # `solve` looks once more at what it returns
    assert found.backwards == int(theirs.backwards[0])


@every_critic
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("form", [lambda q: q, Opaque], ids=["closed", "general"])
def test_never_worse_within_the_box_and_true(name, critic, form):
    q, s, a = Twins(8, 7), randn(B, S, seed=3), 2 * rand(B, A, seed=4) - 1
    low, high = torch.tensor([-1.0, -2.0, -1.5]), torch.tensor([1.0, 1.0, 3.0])
    a = (low + high) / 2 + (high - low) / 2 * a
    result = refine_action(form(q), s, a, low, high, radius=0.3, optimizer=name, critic=critic)
    value = lambda x: reduced(torch.stack([v[:, 0] for v in q(s, x)]), critic).detach()  # noqa: E731
    assert (value(result.action) >= value(a)).all()
    near(result.before, value(a), 1e-12)
    near(result.after, value(result.action), 1e-12)
    assert (result.action >= low).all()
    assert (result.action <= high).all()
    assert ((result.action - a).abs() <= 0.3 * (high - low) / 2 + 1e-12).all()
    assert (result.gain >= 0).all()
    assert result.gain.max() > 0
    assert (result.forwards > 20).all()


@pytest.mark.parametrize("name", ACTIONS)
def test_a_batch_is_its_observations_alone(name):
    q, s, a = Twins(8, 7), randn(B, S, seed=3), 2 * rand(B, A, seed=4) - 1
    refiner = Refiner(q, -1.0, 1.0, optimizer=name, steps=15)
    together = refiner(s, a, seed=2)
    for row in range(B):
        near(refiner(s[[row]], a[[row]], seed=2).action, together.action[[row]], 1e-7)


@pytest.mark.parametrize("name", ["multi-start", "cem", "random-shooting"])
def test_the_greatest_of_a_critic_of_one_action_is_found(name):
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(S + 1, 30, 20, 1, seed=2)

        def forward(self, s: Tensor, a: Tensor) -> Tensor:
            return self.net(torch.cat((s, a), -1)).squeeze(-1)

    q, s = One(), randn(6, S, seed=3)
    assert chains(q)
    line = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None]
    values = torch.stack([q(row.expand(len(line), -1), line).detach() for row in s])
    result = refine_action(q, s, torch.zeros(6, 1), -1.0, 1.0, radius=1.0, optimizer=name, steps=60)
    spread = values.amax(1) - values.amin(1)
    assert (result.after >= values.amax(1) - 0.01 * spread).all()


def test_a_linear_critic_is_raised_to_the_corner_of_the_box():
    q = lambda s, a: a @ torch.tensor([1.0, -2.0, 0.5])  # noqa: E731
    s, a = torch.zeros(2, 1), torch.tensor([[0.0, 0.5, 0.9], [-0.2, 0.0, -1.0]])
    result = refine_action(q, s, a, -1.0, 1.0, radius=0.25, optimizer="gd")
    near(result.action, torch.tensor([[0.25, 0.25, 1.0], [0.05, -0.25, -0.75]]), 1e-6)
    near(result.gain, torch.tensor([0.8, 0.875]), 1e-6)


def test_weights_that_change_in_place_are_seen():
    q, s, a = Twins(8, 7), randn(B, S, seed=3), 2 * rand(B, A, seed=4) - 1
    refiner = Refiner(q, -1.0, 1.0)
    refiner(s, a)
    refill(q, seed=9)
    for parameter in q.parameters():
        parameter.data.mul_(0.9)
    fresh = Refiner(q, -1.0, 1.0)
    assert torch.equal(refiner(s, a).action, fresh(s, a).action)
    assert torch.equal(refiner(s[:1], a[:1]).action, fresh(s[:1], a[:1]).action)


def test_a_critic_is_left_as_it_is():
    q = Twins(8, 7).train()
    for name in ACTIONS:
        for form in (q, Opaque(q)):
            refine_action(form, randn(B, S), 0.5 * rand(B, A), -1.0, 1.0, optimizer=name)
    assert q.training
    assert all(p.grad is None and p.requires_grad for p in q.parameters())


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(S + A, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        return self.net(torch.cat([s, a], 1))


class Swapped(Twins):
    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(actions, observations)


def test_only_chains_are_recognised():
    class Tanh(Twins):
        def __init__(self) -> None:
            super().__init__(6)
            self.first[1] = nn.Tanh()

    class Scaled(Twins):
        def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            first, second = super().forward(observations, actions)
            return 2 * first, second

    hooked = Twins(6)
    hooked.first[0].register_forward_hook(lambda *_: None)
    assert [len(chain) for chain in chains(Twins(6, 5)) or []] == [3, 3]
    for q in (Tanh(), Scaled(6), Normed(), Swapped(6), hooked, Opaque(Twins(6)), lambda s, a: a):
        assert chains(q) is None


def test_bad_input_is_refused():
    q, s, a = Twins(6, 5), randn(B, S), 0.5 * rand(B, A)
    nan = torch.full((B, S), torch.nan)

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(S + A, 6), nn.Tanh(), nn.Linear(6, 1)).double()

        def forward(self, s: Tensor, a: Tensor) -> Tensor:
            return self.net(torch.cat([s, a], 1))

    with refuses("actions", "outside"):
        refine_action(q, s, a + 2, -1.0, 1.0)
    with refuses("actions", "continuous"):
        refine_action(q, s, torch.ones(B, dtype=torch.long), -1.0, 1.0)
    with refuses("actions", "finite"):
        refine_action(q, s, a * torch.nan, -1.0, 1.0)
    with refuses("observations", "finite"):
        refine_action(q, nan, a, -1.0, 1.0)
    with refuses("observations", "8 numbers together"):
        refine_action(q, s[:, 1:], a, -1.0, 1.0)
    with refuses("observations", "one for each"):
        refine_action(q, s[1:], a, -1.0, 1.0)
    with refuses("q", "observations (4,) and actions (3,)"):
        refine_action(Opaque(q), s[:, 1:], a, -1.0, 1.0)
    with refuses("q", "one value an action"):
        refine_action(lambda s, a: a, s, a, -1.0, 1.0)
    with refuses("q", "finite"):
        refine_action(lambda s, a: a.sum(1) / 0, s, a, -1.0, 1.0)
    with refuses("network", "tanh"):
        refine_action(Smooth(), s, a, -1.0, 1.0, optimizer="adr-gd")
    with refuses("q", "a function"):
        refine_action("critic", s, a, -1.0, 1.0)
    with refuses("low"):
        refine_action(q, s, a, 1.0, -1.0)
    with refuses("low", "each of the 3"):
        refine_action(q, s, a, [-1.0, -1.0], 1.0)
    with refuses("low"):
        refine_action(q, s, a)
    with refuses("radius"):
        refine_action(q, s, a, -1.0, 1.0, radius=0.0)
    with refuses("critic"):
        refine_action(q, s, a, -1.0, 1.0, critic="max")  # pyright: ignore[reportArgumentType]
    with refuses("critic", "(2, 4) to (4,)"):
        refine_action(q, s, a, -1.0, 1.0, critic=lambda values: values)
    with refuses("optimizer", "gd, adam"):
        refine_action(q, s, a, -1.0, 1.0, optimizer="sgd")
