"""A certificate is never wrong: random networks against the enumeration of their regions, and what misled it once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from enumeration import greatest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import linear, mlp, refuses
from torch import Tensor, nn

from latentopt.analysis.certify import Certificate, CertificateStatus, CertifyMethod, certify
from latentopt.analysis.certify.chain_reader import read_chain
from latentopt.analysis.certify.crown import Crown
from latentopt.analysis.certify.relu_chain import AffineLayer, ReLUChain
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.sets import Box

METHODS: tuple[CertifyMethod, ...] = ("branch-and-bound", "milp")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def network(sizes: tuple[int, ...], seed: int, scale: float, silent: float = 0.0) -> nn.Sequential:
    """A network at torch's own start, its parameters times ``scale``, a share of its weights zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers:
            layer.weight.mul_(scale * (torch.rand_like(layer.weight) >= silent))
            layer.bias.mul_(scale)
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def problem(net: nn.Module, inputs: int, dtype: torch.dtype = torch.float32) -> Problem:
    return Problem(net, Unit(), (inputs,), 1, Box(-1.0, 1.0), like=torch.empty(0, dtype=dtype))


def holds(found: Certificate, exact: float, tolerance: float, size: float) -> None:
    """The certificate is right about a maximum that is known; ``size``: how large the output's terms can be."""
    assert found.bound >= exact - 1e-11 * size
    assert found.value <= exact + 1e-11 * size
    if found.status is CertificateStatus.OPTIMAL:
        assert found.gap <= tolerance * abs(found.value) + 1e-5 * size


def check(
    sizes: tuple[int, ...], seed: int, scale: float, silent: float, method: CertifyMethod, tolerance: float
) -> None:
    net, ones = network(sizes, seed, scale, silent), np.ones(sizes[0])
    chain = read_chain(net, -torch.ones(sizes[0]), torch.ones(sizes[0]))
    exact, size = greatest(chain, -ones, ones), float(chain.sizes(torch.ones(sizes[0]).double())[-1])
    start, asked = torch.zeros(sizes[0]), problem(net, sizes[0])
    holds(certify(asked, start=start, method=method, tolerance=tolerance, seconds=20), exact, tolerance, size)
    above, below = exact - 0.01 * abs(exact) - 1e-5 * size, exact + 0.01 * abs(exact) + 1e-5 * size
    assert certify(asked, start=start, method=method, goal=above, seconds=20).status is CertificateStatus.ABOVE
    assert certify(asked, start=start, method=method, goal=below, seconds=20).status is CertificateStatus.BELOW


NETS = {
    "sizes": st.integers(1, 3).flatmap(
        lambda n: st.lists(st.integers(2, 8 if n < 3 else 6), min_size=1, max_size=4).map(
            lambda hidden: (n, *hidden, 1)
        )
    ),
    "seed": st.integers(0, 10**6),
    "scale": st.floats(0.5, 10.0),
    "silent": st.sampled_from([0.0, 0.0, 0.3]),
    "method": st.sampled_from(METHODS),
    "tolerance": st.sampled_from([1e-3, 1e-6, 0.0, 2.0]),
}


@settings(max_examples=25, deadline=None)
@given(**NETS)
def test_random_networks_have_the_maximum_that_enumeration_finds(sizes, seed, scale, silent, method, tolerance):
    check(sizes, seed, scale, silent, method, tolerance)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(**NETS)
def test_thousands_of_random_networks_have_the_maximum_that_enumeration_finds(
    sizes, seed, scale, silent, method, tolerance
):
    check(sizes, seed, scale, silent, method, tolerance)


def test_a_box_is_cut_by_its_own_plane_alone():
    net = network((2, 6, 6, 6, 1), 224, 4.0)
    reached = float(net(GRID).max())
    for start in (None, torch.zeros(2)):
        found = certify(problem(net, 2), start=start)
        assert found.status is CertificateStatus.OPTIMAL
        assert found.bound >= reached > 5.03
        assert certify(problem(net, 2), goal=5.0, start=start).status is CertificateStatus.ABOVE


def test_units_of_weight_zero_do_not_take_the_place_of_others():
    one, eye = torch.ones(1).double(), AffineLayer(torch.eye(3).double(), torch.zeros(3).double())
    chain = ReLUChain(
        (
            AffineLayer(torch.ones(3, 1).double(), torch.zeros(3).double()),
            eye,
            AffineLayer(torch.tensor([[0.0, 1.0, 1.0]]).double(), torch.zeros(1).double()),
        )
    )
    assert float(Crown(chain, one).bound(-one[None], one[None]).bound) >= 2.0


def test_a_tolerance_above_1_lowers_no_bound():
    net = network((2, 5, 5, 1), 3, 2.0)
    linear(net, -1).bias.sub_(10.0)
    exact = greatest(read_chain(net, -torch.ones(2), torch.ones(2)), -np.ones(2), np.ones(2))
    for tolerance in (1.5, 3.0):
        assert certify(problem(net, 2), tolerance=tolerance, start=torch.zeros(2)).bound >= exact


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize("method", METHODS)
def test_scales_of_weights_and_outputs_change_nothing(scale, method):
    plain, scaled = (network((2, 6, 5, 1), 7, 2.0) for _ in range(2))
    for index, factor in ((0, scale), (2, 1 / scale), (4, scale)):
        linear(scaled, index).weight.mul_(factor)
    linear(scaled, 0).bias.mul_(scale)
    linear(scaled, 4).bias.mul_(scale)
    expected, found = (
        certify(problem(net, 2), method=method, tolerance=1e-4, start=torch.zeros(2)) for net in (plain, scaled)
    )
    assert found.status is expected.status is CertificateStatus.OPTIMAL
    assert abs(found.value / scale - expected.value) <= 1e-5 * abs(expected.value)
    assert abs(found.bound / scale - expected.bound) <= 2e-4 * abs(expected.value)
    goal = expected.value * scale
    assert certify(problem(scaled, 2), goal=0.99 * goal, method=method).status is CertificateStatus.ABOVE
    assert certify(problem(scaled, 2), goal=1.01 * goal, method=method).status is CertificateStatus.BELOW


GRID = torch.cartesian_prod(*[torch.linspace(-1, 1, 801)] * 2)


def peak() -> nn.Sequential:
    """A network of two inputs with outputs from 0 to 15 on `GRID`."""
    net = network((2, 8, 1), 1, 1.0)
    least, most = net(GRID).aminmax()
    linear(net, -1).weight.mul_(15 / (most - least))
    linear(net, -1).bias.sub_(net(GRID).min())
    return net


def piecewise(y: Tensor) -> Tensor:
    return -(y[:, 0] - 5).clamp(min=0)


KINKED = {
    "hinge": piecewise,
    "absolute": lambda y: (5 - y[:, 0]).abs(),
    "leaky": lambda y: nn.functional.leaky_relu(5 - y[:, 0], 0.1),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind",
    ["hinge", pytest.param("absolute", marks=pytest.mark.slow), "leaky"],  # 14 s of boxes
)
def test_kinks_of_an_objective_are_part_of_what_is_certified(kind, method):
    net, objective = peak(), KINKED[kind]
    reached = float(-objective(net(GRID)).min())
    found = certify(Problem(net, objective, (2,), 1, Box(-1.0, 1.0)), method=method, tolerance=1e-6)
    assert found.bound >= reached - 1e-9
    assert abs(found.value - reached) <= 0.02 * (1 + abs(reached))
    assert abs(float(-objective(net.double()(found.x[None]))) - found.value) <= 1e-9


class Late(nn.Module):
    """A chain until its output passes 5."""

    def __init__(self, kink) -> None:
        super().__init__()
        self.inner, self.kink = peak(), kink

    def forward(self, x: Tensor) -> Tensor:
        return self.kink(self.inner(x))


@pytest.mark.parametrize(
    "kink",
    [
        lambda y: torch.minimum(y, y.new_tensor(1e4)),
        lambda y: torch.where(y > 1e4, 0.0, y),
        lambda y: nn.functional.threshold(y, -1e4, 0.0),
        lambda y: y - (y > 1e4).to(y) * y,
        lambda y: torch.cat([y, y], 1).amax(1, keepdim=True),
        lambda y: torch.cat([y, y], 1).sort(1).values[:, :1],
        lambda y: y + y.sub(1e4).sign() + 1,
        lambda y: y if float(y.max()) < 1e4 else -y,
    ],
)
def test_kinks_that_no_point_shows_are_refused(kink):
    with refuses("network"):
        certify(problem(Late(kink).eval(), 2))
    net = peak()
    with refuses("objective"):
        certify(Problem(net, lambda y: kink(y)[:, 0], (2,), 1, Box(-1.0, 1.0)))


@pytest.mark.parametrize(
    "objective",
    [lambda y: y.square().sum(1), lambda y: y[:, 0].exp(), lambda y: y.norm(dim=1), lambda y: 1e-9 * y[:, 0].square()],
)
def test_smooth_objectives_are_refused(objective):
    net = peak()
    with refuses("objective"):
        certify(Problem(net, objective, (2,), 1, Box(-1.0, 1.0)))


def test_a_small_output_is_no_excuse_for_another_network():
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp(2, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return 1e-8 * (x * self.inner(x)).sum(1, keepdim=True)

    with refuses("network"):
        certify(problem(Small(), 2))


def test_a_network_that_works_in_single_precision_inside_is_refused():
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network((2, 4, 1), 0, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner.float()(x.float()).to(x.dtype)

    with refuses("network", "single precision"):
        certify(problem(Single(), 2))


class Bump(nn.Module):
    """The peak, and a bump that no random point meets."""

    def __init__(self, bump) -> None:
        super().__init__()
        self.inner, self.bump = peak(), bump

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return self.bump(y) - y


@pytest.mark.parametrize(
    "bump",
    [
        lambda y: 100 * (-(((y - 7.777) / 1e-6) ** 2)).exp(),
        lambda y: 100 * torch.sigmoid((y - 20) * 1e6),
        lambda y: 100 * ((y.detach() - 7.777).abs() < 1e-6).to(y.dtype) + 0 * y,
        lambda y: 100 * ((y.data - 7.777).abs() < 1e-6).to(y.dtype) + 0 * y,
        lambda y: (y / 1e4).to(torch.int64).to(y.dtype),
        lambda y: torch.zeros(len(y), 1, dtype=torch.int64).copy_(y / 1e4).to(y.dtype) + 0 * y,
        lambda y: 1e-13 * y * y,
        lambda y: 1e-13 / (y + 100),
        lambda y: torch.einsum("bi,bi->bi", y, y) * 1e-13,
        lambda y: torch.as_tensor(100.0 * (abs(y.detach().numpy() - 7.777) < 1e-6)) + 0 * y,
    ],
)
def test_bumps_that_no_point_shows_are_refused(bump):
    with refuses("network"):
        certify(problem(Bump(bump).eval(), 2))
    with refuses("objective"):
        certify(Problem(peak(), lambda y: (y - bump(y))[:, 0], (2,), 1, Box(-1.0, 1.0)))


@pytest.mark.parametrize(
    "part",
    [
        lambda y: torch.cat([y, y.flip(1)], 1)[:, :1] * torch.tensor(2.0).double() / 3 + 1 - y.mean(1, keepdim=True),
        lambda y: torch.stack([y, -y])[0].reshape(len(y), -1).unsqueeze(1).squeeze(1).contiguous(),
        lambda y: y @ torch.ones(1, 1).double() + y.new_zeros(1) + torch.zeros_like(y),
        lambda y: nn.functional.avg_pool1d(nn.functional.pad(y[:, None], (1, 1)), 3)[:, 0],
        lambda y: torch.addmm(torch.ones(1).double(), y, torch.ones(1, 1).double().T),
        lambda y: torch.where(torch.tensor([True]), y, 0.0).sum(1, keepdim=True).expand(-1, 2)[:, 1:],
    ],
)
def test_affine_functions_of_the_output_are_certified(part):
    net = peak().double()
    for asked in (
        Problem(lambda x: part(net(x)), Unit(), (2,), 1, Box(-1.0, 1.0), like=GRID.double()),
        Problem(net, lambda y: -part(y)[:, 0], (2,), 1, Box(-1.0, 1.0), like=GRID.double()),
    ):
        found = certify(asked, start=torch.zeros(2), tolerance=1e-6)
        reached = float(part(net(GRID.double())).max())
        assert found.bound >= reached - 1e-9
        assert found.value - reached <= 0.01 * abs(reached)
