"""ADR-GD on the critics of stable-baselines3: the action that the least of two values likes best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import fitting, near, path, pattern, plain_gradient, rand, randn, ready, refill, switched
from torch import Tensor, nn

import latentopt as lo
from latentopt.gates import dual, sites
from latentopt.sets import Box

spaces = pytest.importorskip("gymnasium.spaces")
policies = pytest.importorskip("stable_baselines3.common.policies")
extractors = pytest.importorskip("stable_baselines3.common.torch_layers")


class LeastValue(nn.Module):
    """Actions (rows, 2) to the least of the critics' values (rows, 1) at observations (B, 3), copy by copy."""

    def __init__(self, critic: nn.Module, observations: Tensor) -> None:
        super().__init__()
        self.critic, self.observations = critic, observations

    def forward(self, action: Tensor) -> Tensor:
        observations = self.observations.repeat(len(action) // len(self.observations), 1)
        return torch.cat(self.critic(observations, action), 1).min(1, keepdim=True).values

    def take(self, rows: Tensor) -> LeastValue:
        return LeastValue(self.critic, self.observations[rows])


def least_value(batch: int) -> LeastValue:
    space, actions = (spaces.Box(-1, 1, (size,), np.float64) for size in (3, 2))
    extractor = extractors.FlattenExtractor(space)
    critic = policies.ContinuousCritic(space, actions, [16, 16], extractor, extractor.features_dim, n_critics=2)
    return LeastValue(refill(critic, seed=5), randn(batch, 3, seed=1))


@pytest.mark.parametrize(("layers", "count"), [(None, 4), ([1, 3], 2), ([2, 3], 2), ([3], 1)])
def test_the_true_pattern_reproduces_the_least_value_and_its_gradient(layers, count):
    network, action = least_value(6), 2 * rand(6, 2) - 1
    assert [site.module for site in sites(network, action)] == [f"critic.qf{i}.{j}" for i in (0, 1) for j in (1, 3)]
    gates = pattern(network, action, layers)
    assert len(gates) == count
    leaf = action.clone().requires_grad_()
    both = dual(network, leaf, switched(gates), layers)
    near(both.real, network(action), 1e-13)
    near(both.gated, network(action), 1e-13)
    near(torch.autograd.grad(both.gated.square().sum() / 2, leaf)[0], plain_gradient(network, action), 1e-12)


METHODS = {
    "soft gates": lo.ADRGD(lo.SoftGates(), lo.Adam(lr=0.1)),
    "paper": lo.ADRGD.paper(a_x=0.2, beta0=0.5, a_eta=0.1, r=0.05, delta=1e-3, delta_beta=0.1),
    "paper, one critic's last layer": lo.ADRGD.paper(a_x=0.2, beta0=0.5, layers=[3]),
    "reference": lo.ADRGD.reference(a_x=0.2),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_adr_gd_comes_within_a_hundredth_of_the_best_action(method):
    network = least_value(4)
    problem = lo.Problem(network, lambda value: -value[:, 0], (2,), 4, Box(-1.0, 1.0), like=network.observations)
    result = lo.solve(problem, method, steps=60, restarts=8)
    line = torch.linspace(-1, 1, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)  # 10201 actions
    values = network.take(torch.arange(4).repeat(len(grid)))(grid.repeat_interleave(4, 0)).reshape(len(grid), 4)
    greatest, least = values.amax(0), values.amin(0)
    assert (-result.value >= greatest - 0.01 * (greatest - least)).all()
    near(-result.value, network(result.x)[:, 0], 1e-12)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_batch_of_observations_gives_what_each_gives_alone(method):
    network, action = least_value(4), 2 * rand(4, 2) - 1
    problem = fitting(network, (2,), 5 + randn(4, 1), Box(-1.0, 1.0))
    together = path(method, ready(problem), action, 5)[-1]
    for sample in range(4):
        near(together[[sample]], path(method, ready(problem, [sample]), action[[sample]], 5)[-1], 1e-9)
