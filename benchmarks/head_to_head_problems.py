"""Problems with budgets of six families, for tuning and for the test.

The families were fixed before the search for a better ADR-GD began. Tuning has seeds, images and states of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.action_agents import agent_states
from benchmarks.attack_runs import cases_of
from benchmarks.classifiers import CLASSIFIERS
from benchmarks.generators import GENERATORS
from benchmarks.inversion_methods import RECOVERED
from benchmarks.networks import RandomNets
from latentopt.classification import Misclassify
from latentopt.inverse.problem import Reconstruction
from latentopt.noise import Noise
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.rl.critics import CriticObjective, ScaledCritic, stacked
from latentopt.sets import Box, bounded_ball
from latentopt.zoo.random_nets import WIDTHS

FRESH = 1000
"""Offset of the tuning seeds."""
REACH = 5.0
"""Half width of the latent box for methods whose step sizes are relative to a set: 5 standard deviations."""


@dataclass(frozen=True, eq=False)
class BudgetedProblem:
    """A batch of problems.

    Args:
        family: nets, attacks, single, restarts, real or critics.
        name: of the network and what is asked of it.
        seed: of the targets and the starts.
        problem: what is minimised.
        first: where the first start is (B, *shape); None: at random, another place for each problem.
        seconds: CPU time of a method, all problems together.
        passes: forwards and backwards of a problem; a method goes on until both are spent, or twice the time.
        steps: of a round of a method whose step sizes fall, the shorter of two that are tried.
        unit: what step sizes are measured in: half the width of a box, 1 among latents.
        scale: standard deviation of the starts among latents; 0: in the feasible set.
    """

    family: str
    name: str
    seed: int
    problem: Problem
    first: Tensor | None
    seconds: float
    passes: int
    steps: int
    unit: float = 1.0
    scale: float = 0.0

    def shrunk(self, factor: float) -> BudgetedProblem:
        """Return the case with both budgets scaled."""
        return replace(self, seconds=factor * self.seconds, passes=max(1, int(factor * self.passes)))

    def posed(self, boxed: bool) -> Problem:
        """Return the problem; ``boxed``: in a set of finite radius."""
        if not (boxed and self.scale):
            return self.problem
        problem = copy.copy(self.problem)
        problem.feasible = Box(-REACH, REACH)
        return problem

    def starts(self, restarts: int, round_: int) -> Tensor:
        """Return the starts (restarts, B, *shape) of a round, the same for every method."""
        B, shape = self.problem.batch, self.problem.shape
        draws = Noise(self.seed, round_ * 1000 + torch.arange(restarts * B))
        like = self.problem.like.new_empty(restarts * B, *shape)
        if self.scale:
            starts = (self.scale * draws.normal(like, "start")).clamp(-REACH, REACH)
        else:
            feasible = self.problem.feasible.take(torch.arange(B).repeat(restarts))
            starts = feasible.project(feasible.sample(like, draws))
        starts = starts.reshape(restarts, B, *shape)
        if self.first is not None and round_ == 0:
            starts[0] = self.first
        return starts


@dataclass(frozen=True)
class NetworkBudget:
    """A network that is trace over in one or more families.

    Args:
        seconds: see `BudgetedProblem`; with restarts twice as many.
        passes: likewise.
        steps: see `BudgetedProblem`.
    """

    seconds: float
    passes: int
    steps: int


LATENT: dict[str, NetworkBudget] = {
    "celeba-vae": NetworkBudget(3.0, 300, 100),
    "celeba-betah": NetworkBudget(3.0, 300, 100),
    "celeba-btcvae": NetworkBudget(3.0, 300, 100),
    "road-gan": NetworkBudget(5.0, 400, 150),
    "dcgan64": NetworkBudget(8.0, 800, 300),
    "mnist-dcgan": NetworkBudget(16.0, 1200, 500),
}
REAL = ("celeba-vae", "celeba-betah", "celeba-btcvae", "dcgan64", "mnist-dcgan")
"""Generators with real images."""
NETS: dict[str, NetworkBudget] = {
    "A": NetworkBudget(1.0, 12000, 200),
    "B": NetworkBudget(4.0, 6000, 200),
    "C": NetworkBudget(4.0, 6000, 200),
    "D": NetworkBudget(3.0, 6000, 200),
    "E": NetworkBudget(8.0, 3000, 200),
}
ATTACKED: dict[str, tuple[str, float, NetworkBudget]] = {
    "mnist-pgd .2": ("mnist-pgd", 0.2, NetworkBudget(6.0, 400, 50)),
    "mnist-pgd .25": ("mnist-pgd", 0.25, NetworkBudget(6.0, 400, 50)),
    "cnn-a-adv 8/255": ("cnn-a-adv", 8 / 255, NetworkBudget(6.0, 1000, 100)),
    "resnet2b 8/255": ("resnet2b", 8 / 255, NetworkBudget(6.0, 1000, 100)),
    "cifar-base 8/255": ("cifar-base", 8 / 255, NetworkBudget(6.0, 1000, 100)),
}
CRITICS: dict[str, NetworkBudget] = {
    name: NetworkBudget(2.0, 1500, 100) for name in ("halfcheetah", "hopper", "walker2d")
}
COUNT = {"nets": 16, "attacks": 64, "single": 32, "restarts": 16, "real": 16, "critics": 128}
"""Number of problems in a case."""


def _nets(family: str, name: str, seed: int, tune: bool) -> BudgetedProblem:
    network, count = NETS[name], COUNT[family]
    first = 200 + count * seed + FRESH * tune
    problem = Problem(
        RandomNets(WIDTHS[name], range(first, first + count)), Unit(0), WIDTHS[name][:1], count, Box(-1.0, 1.0)
    )
    zero = torch.zeros(count, WIDTHS[name][0])
    return BudgetedProblem(family, name, seed, problem, zero, network.seconds, network.passes, network.steps)


def _attacks(family: str, name: str, seed: int, tune: bool) -> BudgetedProblem:
    classifier, eps, network = ATTACKED[name]
    count = COUNT[family]
    first = count * seed + 256 * tune
    (case,) = cases_of(classifier, CLASSIFIERS[classifier], (eps,), range(first, first + count), seed)
    right = ~case.errors
    x, y = case.x[right], case.y[right]
    feasible = bounded_ball(x, torch.full_like(y, eps, dtype=x.dtype), "linf", *case.input_range)
    problem = Problem(case.model, Misclassify("margin", y), x.shape[1:], len(x), feasible, like=x)
    return BudgetedProblem(family, name, seed, problem, x, network.seconds, network.passes, network.steps, eps)


def _latents(family: str, name: str, seed: int, tune: bool) -> BudgetedProblem:
    network, source, own = LATENT[name], GENERATORS[name], family != "real"
    generator, count = source.build().fused(), COUNT[family]
    if own:
        with torch.no_grad():
            targets = generator(generator.latents(count, 11 + seed + FRESH * tune))
    else:
        targets = source.targets(0, count, not tune)
    problem = Reconstruction(generator, targets, tolerance=RECOVERED if own else None)
    longer = 2 if family == "restarts" else 1
    return BudgetedProblem(
        family,
        name,
        seed + FRESH * tune,
        problem,
        None,
        longer * network.seconds,
        longer * network.passes,
        network.steps,
        scale=generator.start_scale,
    )


def _critics(family: str, name: str, seed: int, tune: bool) -> BudgetedProblem:
    network, count = CRITICS[name], COUNT[family]
    met = agent_states(name, count, seed + FRESH * tune)
    a = met.actions.clamp(-1, 1)

    def values(observations: Tensor, actions: Tensor) -> Tensor:
        return stacked(met.agent.critics(observations, actions), len(actions))

    critic = ScaledCritic(values, met.observations, torch.zeros_like(a[0]), torch.ones_like(a[0]))
    feasible = Box((a - 1).clamp_min(-1), (a + 1).clamp_max(1))
    problem = Problem(critic, CriticObjective("first"), a.shape[1:], count, feasible, like=a)
    return BudgetedProblem(family, name, seed, problem, a, network.seconds, network.passes, network.steps)


FAMILIES: dict[str, tuple[tuple[str, ...], Callable[[str, str, int, bool], BudgetedProblem]]] = {
    "nets": (tuple(NETS), _nets),
    "attacks": (tuple(ATTACKED), _attacks),
    "single": (tuple(LATENT), _latents),
    "restarts": (tuple(LATENT), _latents),
    "real": (REAL, _latents),
    "critics": (tuple(CRITICS), _critics),
}
"""Networks and what makes their cases, by family. Latent recovery is judged twice: from single starts, and by the time
until all targets are recovered."""
