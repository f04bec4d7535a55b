"""What `latentopt analyze certify` asks of: random networks, a classifier's images, a critic's states."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latentopt.classification import Misclassify
from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.labelled import open_labelled
from latentopt.networks.classifier import range_of
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.rl.critics import FixedStateCritic
from latentopt.sets import Box, bounded_ball
from latentopt.zoo import cards
from latentopt.zoo.random_nets import WIDTHS, random_net

RANDOM = "random-"
DIGITS = "digits"


class Case(NamedTuple):
    """One maximum to certify."""

    name: str
    problem: Problem  # of one sample


def random_cases(model: str, seeds: str) -> list[Case]:
    """A random network's unit over [-1, 1]^n, for each of its seeds.

    Raises:
        InputError: no such networks, or the seeds are not numbers and ranges, between commas.
    """
    kind = model.removeprefix(RANDOM)
    if kind not in WIDTHS:
        raise InputError("model", f"one of {', '.join(RANDOM + name for name in WIDTHS)}", repr(model))
    shape = (WIDTHS[kind][0],)
    nets = ((seed, random_net(WIDTHS[kind], seed)) for seed in numbers("seeds", seeds))
    return [Case(f"{kind} seed {seed}", Problem(net, Unit(), shape, 1, Box(-1.0, 1.0))) for seed, net in nets]


def numbers(name: str, text: str) -> list[int]:
    """The numbers of "0-3,7".

    Raises:
        InputError: it says something else.
    """
    found = list[int]()
    for part in str(text).split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends):
            raise InputError(name, 'numbers and ranges between commas, such as "0-3,7"', repr(text))
        found += range(int(ends[0]), int(ends[-1]) + 1)
    if not found:
        raise InputError(name, "at least one number", repr(text))
    return found


def classifier_cases(model: str, data: str, eps: float | None, limit: int, seed: int) -> list[Case]:
    """The margin of the other classes around images, as far as the range of valid inputs reaches.

    Raises:
        InputError: no eps, or the data or the model is not there.
    """
    if eps is None:
        raise InputError("eps", "the radius of the balls around a classifier's images", "None")
    nonnegative("eps", eps)
    images, labels = open_labelled(data, limit=limit)
    network = digits_classifier(seed) if model == DIGITS else cards.load_classifier(model)
    low, high = range_of(network)
    return [
        Case(
            f"{data} {at}",
            Problem(
                network,
                Misclassify("margin", labels[at : at + 1]),
                images.shape[1:],
                1,
                bounded_ball(images[at : at + 1].clamp(low, high), eps, "linf", low, high),
                like=images,
            ),
        )
        for at in range(len(images))
    ]


def digits_classifier(seed: int) -> nn.Module:
    """A small classifier of scikit-learn's digits, 64-32-32-10, trained in a second on those from 300 on."""
    images, labels = open_labelled(DIGITS)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)]
        network = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[300:]), labels[300:]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def critic_cases(agent: str, env: str | None, box: float, limit: int, seed: int) -> list[Case]:
    """An agent's first critic around its own actions, for states that it meets; without ``env`` normal ones.

    Raises:
        InputError: no such file or environment.
    """
    from latentopt.rl.agents import load_agent
    from latentopt.rl.rollout import collect_observations, make_environment

    positive("box", box)
    acts_in = None if env is None else make_environment(env)
    loaded = load_agent(Path(agent), acts_in)
    if acts_in is None:
        observations = torch.randn(limit, loaded.sizes[0], generator=torch.Generator().manual_seed(seed))
    else:
        observations = collect_observations(loaded, acts_in, limit, seed)
    with torch.no_grad():
        actions = loaded.actor(observations)
    cases = list[Case]()
    for observation, action in zip(observations, actions, strict=True):
        network = FixedStateCritic(loaded.critics.networks[0], observation)
        problem = Problem(network, Unit(), action.shape, 1, _near(action, box), like=action)
        cases.append(Case(f"state {len(cases)}", problem))
    return cases


def _near(action: Tensor, box: float) -> Box:
    return Box((action - box).clamp_min(-1)[None], (action + box).clamp_max(1)[None])
