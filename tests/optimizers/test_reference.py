"""`ADRGD.reference` against a plain implementation of what the authors' published code does on random networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from nets import near, ready
from torch import Tensor

import latentopt as lo
from benchmarks.networks import RandomNets
from latentopt.objectives import Unit
from latentopt.sets import Box
from latentopt.zoo.random_nets import WIDTHS, random_layers, random_net

SHAPE = (10, 16, 16, 1)
ALPHA, LR, LR_SIGMA, LR_C, LOWER_C, NOISE, STUCK, WAIT = 2000.0, 0.5, 1.0, 0.01, 0.01, 0.1, 1e-4, 25


class Run(NamedTuple):
    x: list[np.ndarray]  # after each step
    sigma: list[list[np.ndarray]]  # after each step, of each layer: how far its gates are closed, 1 - eta
    c: list[float]  # weight of the constraint after each step
    perturbed: list[tuple[int, int]]  # (step, layer), from 0


def sigmoid(t: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(t, -700, 700)))


def shortened(grad: np.ndarray) -> np.ndarray:
    return grad / max(np.linalg.norm(grad), 1)


class Reference:
    """One run in NumPy, every derivative worked out by hand; weights (in, out), rows from the left.

    Args:
        seed: of the network.
        noise: ``(step, layer)`` to standard normal numbers.
        clock: the step, from 0, at which every layer's waiting for its first noise begins; theirs is 0, ours -1.
    """

    def __init__(self, seed: int, noise, clock: int = -1) -> None:
        drawn = random_layers(SHAPE, seed)
        self.W, self.b, self.noise = drawn[::2], drawn[1::2], noise
        self.x, self.c, self.last = np.zeros(SHAPE[0]), 1.0, [clock] * 2
        self.sigma = [0.5 - 0.01 * np.sign(h) for h in self.real()]

    def real(self) -> list[np.ndarray]:
        """The pre-activations of the network itself."""
        before, found = self.x, []
        for W, b in zip(self.W[:-1], self.b[:-1], strict=True):
            found.append(before @ W + b)
            before = np.maximum(found[-1], 0)
        return found

    def constraint(self, h: np.ndarray, norm: np.ndarray, sigma: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Of one layer: the most violated of its closed gates and of its open ones; its gradients by h and sigma."""
        by_h, by_sigma, value = np.zeros_like(h), np.zeros_like(h), 0.0
        for sign in (1, -1):
            terms = np.maximum(sign * h / norm, 0) * np.maximum(sign * (sigma - 0.5), 0)
            j = int(terms.argmax())
            if terms[j] > 0:
                value += terms[j]
                by_h[j] += (sigma[j] - 0.5) / norm[j]
                by_sigma[j] += h[j] / norm[j]
        return value, by_h, by_sigma

    def step(self, t: int) -> list[int]:
        """Step ``t``, from 0; returns the layers that got noise."""
        W1, W2, W3 = self.W
        b1, b2, _ = self.b
        h1, h2 = self.real()
        s1, s2 = (1 - sigmoid(ALPHA * (sigma - 0.5)) for sigma in self.sigma)
        g1 = self.x @ W1 + b1  # of the gated network
        g2 = (s1 * g1) @ W2 + b2
        P2 = (W1 * s1) @ W2
        P3 = (P2 * s2) @ W3
        L1, L1_h, L1_sigma = self.constraint(h1, np.linalg.norm(W1, axis=0), self.sigma[0])
        L2, L2_h, L2_sigma = self.constraint(h2, np.linalg.norm(P2, axis=0), self.sigma[1])

        # minimised: -gated / ||P3|| + c (L1 + L2), the norms held fixed
        up = -W3[:, 0] / np.linalg.norm(P3)
        by_s2, down = up * g2, W2 @ (up * s2)
        by_s1 = down * g1
        by_sigma = [
            -ALPHA * s * (1 - s) * by_s + self.c * by_L
            for s, by_s, by_L in ((s1, by_s1, L1_sigma), (s2, by_s2, L2_sigma))
        ]
        by_x = W1 @ (down * s1) + self.c * (W1 @ (L1_h + (h1 > 0) * (W2 @ L2_h)))

        self.x = np.clip(self.x - LR * shortened(by_x), -1, 1)
        constraint = L1 + L2
        self.c = float(np.clip(self.c - LOWER_C if constraint <= 0.01 else self.c + LR_C * constraint, 0.2, 10))
        moved = []
        for layer, grad in enumerate(by_sigma):
            grad = shortened(grad)
            if t - self.last[layer] >= WAIT and np.linalg.norm(grad) <= STUCK:
                grad = grad + NOISE * self.noise(t, layer)
                self.last[layer] = t
                moved.append(layer)
            self.sigma[layer] = np.clip(self.sigma[layer] - LR_SIGMA * grad, 0.3, 0.7)
        return moved


@pytest.mark.parametrize("seed", range(4))
def test_the_reference_follows_the_authors_rules_step_by_step(seed):
    """60 steps, with the noise of steps 25 and 50. Their first noise comes a step later than ours: `clock`.

    The gates multiply an error by up to 500 where eta crosses 1/2: measured are 2e-10 up to step 40, 4e-7 up to 60,
    and other trajectories from step 100.
    """
    network = random_net(SHAPE, seed, torch.float64)
    like = torch.zeros(1, 16, dtype=torch.float64)
    problem = ready(lo.Problem(network, Unit(), (10,), 1, Box(-1.0, 1.0), like=like))
    theirs = Reference(seed, lambda t, layer: problem.noise.normal(like, "eta", t + 1, layer)[0].numpy())
    method, x = lo.ADRGD.reference(), torch.zeros(1, 10, dtype=torch.float64)
    state, perturbed = method.init(problem, x), []
    for t in range(60):
        step = method.step(problem, x, state)
        x, state = step.x, step.state
        perturbed += [(t, layer) for layer in theirs.step(t)]
        error = 1e-9 if t <= 40 else 1e-5
        near(x[0], torch.from_numpy(theirs.x), error)
        near(state.gates.beta, torch.tensor([theirs.c], dtype=torch.float64), error)
        for eta, sigma in zip(state.gates.eta, theirs.sigma, strict=True):
            near(1 - eta[0], torch.from_numpy(sigma), error)
    assert perturbed
    assert {t for t, _ in perturbed} <= {24, 49, *range(25, 60)}
    assert float(x.abs().max()) == 1  # the box is felt


@pytest.mark.slow
def test_the_reference_reaches_the_authors_mean_on_the_networks_a():
    """52.30 over seeds 0-19 from the origin in 3000 steps; another seed of the noise moves the mean by about .25."""
    networks = RandomNets(WIDTHS["A"], range(20))
    problem = lo.Problem(networks, Unit(), (10,), 20, Box(-1.0, 1.0))
    result = lo.solve(problem, lo.ADRGD.reference(), steps=3000, seed=0, start=torch.zeros(20, 10))
    assert abs(float(-result.value.mean()) - 52.30) < 0.5
    values: Tensor = torch.cat([random_net(WIDTHS["A"], seed)(result.x[seed][None])[0] for seed in range(20)])
    near(-result.value, values, 1e-3)
