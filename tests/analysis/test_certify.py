"""`certify` against enumeration by linear programs, its two methods against each other, its bounds against samples."""

from __future__ import annotations

import os
import time
from itertools import product

import numpy as np
import pytest
import scipy.optimize
import torch
from enumeration import greatest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import conv, linear, mlp, near, rand, refill, refuses
from scipy.optimize import linprog
from torch import Tensor, nn

from latentopt.analysis.certify import CertificateStatus, certify, certify_robustness
from latentopt.analysis.certify.chain_reader import read_chain
from latentopt.analysis.certify.crown import Crown
from latentopt.analysis.certify.relu_chain import ReLUChain
from latentopt.classification import Misclassify
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.sets import Box, Free, L2Ball, LinfBall, bounded_ball
from latentopt.solver.loop import solve
from latentopt.zoo.random_nets import WIDTHS, random_net


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def unit_of(network: nn.Module, inputs: int, low: float = -1.0, high: float = 1.0) -> Problem:
    return Problem(network, Unit(), (inputs,), 1, Box(low, high), like=torch.empty(0, dtype=torch.float64))


def enumerated(chain: ReLUChain, low: float, high: float) -> float:
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
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_both_methods_find_what_enumeration_finds(sizes, seed):
    network = mlp(*sizes, seed=seed)
    box = -torch.ones(sizes[0]).double(), torch.ones(sizes[0]).double()
    chain = read_chain(network, *box)
    exact = enumerated(chain, -1.0, 1.0)
    assert abs(greatest(chain, *(side.numpy() for side in box)) - exact) <= 1e-9 * (1 + abs(exact))
    for method in ("branch-and-bound", "milp"):
        found = certify(unit_of(network, sizes[0]), method=method, tolerance=1e-6, seconds=20.0)
        assert found.status is CertificateStatus.OPTIMAL
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
    relaxed = Crown(chain, high.abs().amax(0) + reach)
    warm = [rand(4, size, seed=seed).float() for size in relaxed.sizes]
    every = Crown(chain, high.abs().amax(0) + reach, every=True).intervals(low, high)
    for plane in (relaxed.bound(low, high), relaxed.bound(low, high, warm)):
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


def test_lines_of_the_second_layer_are_the_same_by_tables_and_one_by_one():
    chain = read_chain(mlp(4, 9, 7, 1, seed=3), *(sign * torch.ones(4).double() for sign in (-1, 1)))
    relaxed = Crown(chain, torch.ones(4).double(), every=True)
    middle, reach = rand(6, 4) - 0.5, 0.4 * rand(6, 4, seed=1)
    low, high = relaxed.intervals(middle - reach, middle + reach)[1]
    relaxed.table = None
    plain_low, plain_high = relaxed.intervals(middle - reach, middle + reach)[1]
    near(low, plain_low, 1e-3)
    near(high, plain_high, 1e-3)
    assert bool((low <= plain_low + 1e-9).all())  # float32's rounding is on the safe side
    assert bool((high >= plain_high - 1e-9).all())


@pytest.mark.parametrize(
    "network",
    [
        conv(),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU(0.2), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(
            nn.Flatten(), nn.Linear(25, 4), nn.ReLU6(), nn.Dropout(), nn.Linear(4, 3), nn.PReLU(), nn.Identity()
        ),
        nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.Hardtanh(-0.3, 0.2), nn.Linear(4, 2)),
    ],
)
def test_networks_are_read_whatever_computes_the_layers(network):
    refill(network, 1, torch.float32)
    low, high = -torch.ones(1, 5, 5), torch.ones(1, 5, 5)
    chain = read_chain(network, low, high)
    x = 4 * rand(50, 1, 5, 5) - 2
    near(chain(x.flatten(1)), network.double()(x), 1e-9)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).relu()


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), "calls tanh"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid()), "calls sigmoid"),
        (Skip(), "another network"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.MaxPool1d(2)), "max pooling"),
        (nn.Sequential(nn.Linear(3, 5000), nn.ReLU(), nn.Linear(5000, 1)), "5000"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), "shape (3,)"),
    ],
)
def test_networks_that_are_no_chain_are_refused(network, words):
    with refuses("network", words):
        read_chain(network.eval(), -torch.ones(3), torch.ones(3))


def test_weights_that_are_not_finite_are_refused():
    network = mlp(3, 4, 1)
    linear(network, 0).weight[0, 0] = torch.nan
    with refuses("network", "finite"):
        read_chain(network, -torch.ones(3), torch.ones(3))


def test_bad_input_is_refused():
    network, one = mlp(3, 4, 2), torch.zeros(1, 3).double()
    for problem, name in [
        (Problem(network, Unit(), (3,), 1, Free(), like=one), "feasible"),
        (Problem(network, Unit(), (3,), 1, L2Ball(one, 1.0), like=one), "feasible"),
        (Problem(network, Unit(), (3,), 1, Box(-1.0, torch.inf), like=one), "feasible"),
        (Problem(network, lambda z: z.square().sum(1), (3,), 1, Box(-1.0, 1.0), like=one), "objective"),
        (Problem(network, Misclassify("ce", torch.tensor([0])), (3,), 1, Box(-1.0, 1.0), like=one), "objective"),
        (Problem(network, Misclassify("margin", torch.tensor([2])), (3,), 1, Box(-1.0, 1.0), like=one), "labels"),
        (Problem(network, Unit(), (3,), 1, Box(-1.0, 1.0), like=one, penalty=lambda x: x.sum(1)), "problem"),
    ]:
        with refuses(name):
            certify(problem, start=one)
    problem = unit_of(network, 3)
    with refuses("sample"):
        certify(problem, sample=1)
    with refuses("start"):
        certify(problem, start=torch.zeros(4))
    with refuses("seconds"):
        certify(problem, seconds=0.0)
    with refuses("tolerance"):
        certify(problem, tolerance=-1.0)
    with refuses("method"):
        certify(problem, method="guess")  # pyright: ignore[reportArgumentType]
    with refuses("goal"):
        certify(problem, goal=float("nan"))


def test_out_of_time_the_gap_is_stated():
    found = certify(unit_of(random_net(WIDTHS["A"], 0), 10), seconds=0.3, start=torch.zeros(10), tolerance=0.0)
    assert found.status is CertificateStatus.TIME
    assert found.bound > found.value
    assert found.seconds < 5.0
    assert found.boxes > 0


def test_the_margin_is_the_greatest_of_the_classes_and_its_sign_is_a_verdict():
    network, x, y = mlp(2, 6, 3, seed=4), rand(1, 2), torch.tensor([1])
    ball = bounded_ball(x, 0.3, "linf", 0.0, 1.0)
    problem = Problem(network, Misclassify("margin", y), (2,), 1, ball, like=x)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 301).double()] * 2)
    grid = grid[(grid - x).abs().amax(1) <= 0.3]
    logits = network(grid)
    most = float((logits.index_fill(1, y, -torch.inf).amax(1) - logits[:, 1]).max())
    for method in ("branch-and-bound", "milp"):
        found = certify(problem, method=method, tolerance=1e-4)
        assert most <= found.bound
        assert abs(found.value - most) < 0.05 * (1 + abs(most))
        assert certify(problem, goal=most + 0.1, method=method).status is CertificateStatus.BELOW
        assert certify(problem, goal=most - 0.1, method=method).status is CertificateStatus.ABOVE


def test_robustness_is_told_of_each_image():
    network, x = mlp(2, 6, 3, seed=4), rand(6, 2, seed=1)
    y = network(x).argmax(1)
    for found, start in zip(certify_robustness(network, x, y, 0.05), x, strict=True):
        assert found.status in (CertificateStatus.ABOVE, CertificateStatus.BELOW)
        label = int(network(start[None]).argmax())
        around_it = start + 0.05 * (2 * rand(2000, 2) - 1)
        others = network(around_it.clamp(0, 1)).argmax(1) != label
        assert bool(others.any()) <= (found.status is CertificateStatus.ABOVE)
        if found.status is CertificateStatus.ABOVE:
            assert int(network(found.x[None]).argmax()) != label


def test_sides_without_length_are_constants():
    network, x = mlp(3, 5, 1, seed=2), rand(1, 3)
    low, high = x.clone(), x.clone()
    high[0, 1] += 0.5
    found = certify(Problem(network, Unit(), (3,), 1, Box(low, high), like=x), tolerance=1e-6)
    line = low + torch.linspace(0, 0.5, 5001).double()[:, None] * torch.eye(3)[1].double()
    assert found.status is CertificateStatus.OPTIMAL
    assert abs(float(network(line).max()) - found.value) < 1e-3
    point = certify(Problem(network, Unit(), (3,), 1, LinfBall(x, 0.0), like=x))
    assert point.bound == point.value
    assert abs(point.value - float(network(x))) < 1e-12


def test_the_callers_network_stays_as_it_is():
    network = mlp(3, 5, 1, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    certify(Problem(network, Unit(), (3,), 1, Box(-1.0, 1.0)))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.slow
def test_the_optimum_of_net_a_seed_0_is_certified():
    network = random_net(WIDTHS["A"], 0)
    found = certify(Problem(network, Unit(), (10,), 1, Box(-1.0, 1.0)), seconds=300.0)
    assert found.status is CertificateStatus.OPTIMAL
    assert abs(found.value - 64.876) < 1e-3


def test_inputs_take_the_dtype_of_the_network_where_none_is_given():
    problem = Problem(mlp(2, 4, 1, dtype=torch.float64), Unit(), (2,), 1, Box(-1.0, 1.0))
    found = solve(problem, "pgd", steps=50, restarts=4)
    assert certify(problem, start=found).value == pytest.approx(-found.value.item(), abs=1e-3)


def test_seconds_are_wall_clock_time():
    problem, begun = unit_of(random_net(WIDTHS["A"], 2), 10), time.perf_counter()
    certificate = certify(problem, seconds=0.4, start=torch.zeros(10), callback=lambda *_: time.sleep(0.2))
    assert certificate.seconds == pytest.approx(time.perf_counter() - begun, abs=0.1)


def test_standard_output_has_no_lines_of_highs(capfd, monkeypatch):
    def talkative(*args, **kwargs):
        os.write(1, b"HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();\nanother thread's\n")
        return scipy_milp(*args, **kwargs)

    scipy_milp = scipy.optimize.milp
    monkeypatch.setattr("scipy.optimize.milp", talkative)
    assert certify(unit_of(mlp(2, 4, 1), 2), method="milp").status is CertificateStatus.OPTIMAL
    assert set(capfd.readouterr().out.splitlines()) == {"another thread's"}
