"""`certify` against enumeration by linear programs, its two methods against each other, its bounds against samples."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import mlp, rand
from scipy.optimize import linprog
from torch import nn

from latentopt.analysis.certify import Status, certify
from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.read import read_chain
from latentopt.analysis.certify.relaxed import Relaxed
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.sets import Box


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def unit_of(network: nn.Module, inputs: int, low: float = -1.0, high: float = 1.0) -> Problem:
    return Problem(network, Unit(), (inputs,), 1, Box(low, high), like=torch.empty(0, dtype=torch.float64))


def enumerated(chain: Chain, low: float, high: float) -> float:
    """The maximum over all activation patterns, each a linear program over the points that have it."""
    best = -np.inf
    for pattern in product((0.0, 1.0), repeat=chain.units):
        slope, offset = np.eye(chain.inputs), np.zeros(chain.inputs)
        rows, sides, gates = [], [], list(pattern)
        for weight, bias in ((w.numpy(), b.numpy()) for w, b in chain.layers[:-1]):
            slope, offset = weight @ slope, weight @ offset + bias
            gate = np.array(gates[: len(bias)])
            gates = gates[len(bias) :]
            rows.append((1 - 2 * gate)[:, None] * slope)  # z <= 0 where the gate is shut, -z <= 0 where it is open
            sides.append(-(1 - 2 * gate) * offset)
            slope, offset = gate[:, None] * slope, gate * offset
        weight, bias = (part.numpy() for part in chain.layers[-1])
        slope, offset = weight @ slope, weight @ offset + bias
        found = linprog(-slope[0], np.concatenate(rows), np.concatenate(sides), bounds=[(low, high)] * chain.inputs)
        if found.status == 0:
            best = max(best, -found.fun + offset[0])
    return float(best)


@pytest.mark.parametrize("sizes", [(2, 8, 1), (3, 4, 4, 1), (2, 3, 3, 2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_both_methods_find_what_enumeration_finds(sizes, seed):
    network = mlp(*sizes, seed=seed)
    box = -torch.ones(sizes[0]).double(), torch.ones(sizes[0]).double()
    exact = enumerated(read_chain(network, *box), -1.0, 1.0)
    for method in ("split", "milp"):
        found = certify(unit_of(network, sizes[0]), method=method, tolerance=1e-6, seconds=20.0)
        assert found.status is Status.OPTIMAL
        assert found.bound >= exact - 1e-9
        assert abs(found.value - exact) <= 1e-5 * (1 + abs(exact))
        assert found.value <= exact + 1e-9
        assert abs(float(network(found.x[None])) - found.value) <= 1e-12
        assert found.method == method


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), depth=st.integers(1, 3), reach=st.sampled_from([0.01, 0.3, 2.0]))
def test_no_point_of_a_box_is_above_its_bound(seed, depth, reach):
    network = mlp(3, *[8, 6, 5][:depth], 1, seed=seed)
    middle = 2 * rand(4, 3, seed=seed) - 1
    low, high = middle - reach, middle + reach
    chain = read_chain(network, low[0], high[0])
    relaxed = Relaxed(chain, high.abs().amax(0) + reach)
    warm = [rand(4, size, seed=seed).float() for size in relaxed.sizes]
    every = Relaxed(chain, high.abs().amax(0) + reach, every=True).intervals(low, high)
    for plane in (relaxed.upper(low, high), relaxed.upper(low, high, warm)):
        for at in range(4):
            points = low[at] + (high[at] - low[at]) * rand(500, 3, seed=at)
            assert float(network(points).max()) <= float(plane.bound[at])
            above = plane.bound[at] + (points - plane.x[at]) @ plane.slope[at]  # the plane itself
            assert bool((network(points)[:, 0] <= above + 1e-12).all())
            h = points
            for (weight, bias), (least, most) in zip(chain.layers[:-1], every, strict=True):
                z = h @ weight.T + bias
                assert bool(((z >= least[at]) & (z <= most[at])).all())
                h = z.relu()
