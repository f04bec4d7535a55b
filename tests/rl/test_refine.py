"""Actions refined by a critic: never worse, exact maxima, batches and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from critics import A, B, Opaque, S, Twins, every_critic
from nets import mlp, near, rand, randn, refill, refuses
from torch import Tensor, nn

from latentopt.rl.critics import reduced
from latentopt.rl.fast.chains import chains_of
from latentopt.rl.refine import Refiner, refine_action

NAMES = ("adr-gd-critic", "adam-critic", "gd-critic", "adr-gd-paper-critic", "adr-gd-reference-critic")
NAMES = (*NAMES, "cem", "random-shooting")


@every_critic
@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_observations_alone(name):
    q, s, a = Twins(8, 7), randn(B, S, seed=3), 2 * rand(B, A, seed=4) - 1
    refiner = Refiner(q, -1.0, 1.0, optimizer=name, steps=15)
    together = refiner(s, a, seed=2)
    for row in range(B):
        near(refiner(s[[row]], a[[row]], seed=2).action, together.action[[row]], 1e-7)


@pytest.mark.parametrize("name", ["adam-critic", "cem", "random-shooting"])
def test_the_greatest_of_a_critic_of_one_action_is_found(name):
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(S + 1, 30, 20, 1, seed=2)

        def forward(self, s: Tensor, a: Tensor) -> Tensor:
            return self.net(torch.cat((s, a), -1)).squeeze(-1)

    q, s = One(), randn(6, S, seed=3)
    assert chains_of(q)
    line = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None]
    values = torch.stack([q(row.expand(len(line), -1), line).detach() for row in s])
    settings = {"optimizer": name, "steps": 60, "restarts": 8 if name == "adam-critic" else 1}
    result = refine_action(q, s, torch.zeros(6, 1), -1.0, 1.0, radius=1.0, **settings)
    spread = values.amax(1) - values.amin(1)
    assert (result.after >= values.amax(1) - 0.01 * spread).all()


def test_a_linear_critic_is_raised_to_the_corner_of_the_box():
    q = lambda s, a: a @ torch.tensor([1.0, -2.0, 0.5])  # noqa: E731
    s, a = torch.zeros(2, 1), torch.tensor([[0.0, 0.5, 0.9], [-0.2, 0.0, -1.0]])
    result = refine_action(q, s, a, -1.0, 1.0, radius=0.25, optimizer="gd-critic")
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
    for name in NAMES:
        for form in (q, Opaque(q)):
            refine_action(form, randn(B, S), 0.5 * rand(B, A), -1.0, 1.0, optimizer=name)
    assert q.training
    assert all(p.grad is None and p.requires_grad for p in q.parameters())


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(S + A, 6), nn.Tanh(), nn.Linear(6, 1)).double()

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        return self.net(torch.cat([s, a], 1))


def test_the_default_takes_plain_steps_on_a_critic_without_gates():
    """The soft gradient of a network without gates is its own."""
    q, s, a = Smooth(), randn(B, S), 0.5 * rand(B, A)
    cases: list[dict[str, Any]] = [{}, {"optimizer": "adam-critic"}]
    default, plain = (refine_action(q, s, a, -1.0, 1.0, **settings) for settings in cases)
    assert torch.equal(default.action, plain.action)
    assert torch.equal(default.forwards, plain.forwards)


def test_bad_input_is_refused():
    q, s, a = Twins(6, 5), randn(B, S), 0.5 * rand(B, A)

    def refused(*words: str, q: Any = q, s=s, a=a, low: Any = -1.0, high: Any = 1.0, **settings) -> None:
        with refuses(*words):
            refine_action(q, s, a, low, high, **settings)

    refused("actions", "outside", a=a + 2)
    refused("actions", "continuous", a=torch.ones(B, dtype=torch.long))
    refused("actions", "finite", a=a * torch.nan)
    refused("observations", "finite", s=s * torch.nan)
    refused("observations", "8 numbers together", s=s[:, 1:])
    refused("observations", "one for each", s=s[1:])
    refused("q", "observations (4,) and actions (3,)", q=Opaque(q), s=s[:, 1:])
    refused("q", "one value an action", q=lambda s, a: a)
    refused("q", "finite", q=lambda s, a: a.sum(1) / 0)
    refused("q", "a function", q="critic")
    refused("network", "tanh", q=Smooth(), optimizer="adr-gd-paper-critic")
    refused("low", low=1.0, high=-1.0)
    refused("low", "each of the 3", low=[-1.0, -1.0])
    refused("low", low=None, high=None)
    refused("radius", radius=0.0)
    refused("critic", critic="max")
    refused("critic", "(2, 4) to (4,)", critic=lambda values: values)
    refused("optimizer", "adam-critic", optimizer="sgd")
