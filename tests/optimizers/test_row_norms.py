from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from nets import (
    Counted,
    conv,
    fitting,
    linear,
    mlp,
    near,
    pattern,
    plain_gradient,
    rand,
    randn,
    ready,
    switched,
)
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from latentopt.gates import Norms, dual, preactivations, row_norms
from latentopt.optimizers import FreeGates, RowNorms


def basis(x: Tensor) -> Tensor:
    return torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)


def fixed(gates: list[Tensor]) -> Callable[[int, Tensor], Tensor]:
    return lambda index, z: gates[index]


def opened(index: int, z: Tensor) -> Tensor:
    """The gate that is the pattern."""
    return (z > 0).to(z.dtype)


def true_row_norms(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of the Jacobian of ``function`` at each sample of ``x``."""
    rows = [jacobian(lambda v: function(v[None])[0], sample) for sample in x]  # each (*site, *features)
    return torch.stack([row.flatten(-x[0].ndim).norm(dim=-1) for row in rows if isinstance(row, Tensor)])


def affirm(network: Callable[[Tensor], Tensor], x: Tensor, norms: Norms, layers: list[int] | None = None) -> None:
    """The norms are those of the Jacobian of the plain network, at every switch and at the output."""
    assert len(norms.switches) == len(preactivations(network, x, layers))
    for index, norm in enumerate(norms.switches):
        near(norm, true_row_norms(lambda v, index=index: preactivations(network, v, layers)[index], x), 1e-9)
    near(norms.output, true_row_norms(network, x), 1e-9)


POOLS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "1d": (nn.MaxPool1d(2), (9,)),
    "1d overlapping, padded": (nn.MaxPool1d(3, 2, padding=1), (9,)),
    "1d dilated, rounded up": (lambda h: F.max_pool1d(h, 2, 3, dilation=2, ceil_mode=True), (9,)),
    "1d of torch": (lambda h: torch.max_pool1d(h, 3, 2), (9,)),
    "1d adaptive": (nn.AdaptiveMaxPool1d(4), (9,)),
    "2d": (nn.MaxPool2d(2), (4, 6)),
    "2d overlapping, padded": (nn.MaxPool2d(3, (2, 1), padding=1), (4, 5)),
    "2d with places": (lambda h: F.max_pool2d(h, 2, return_indices=True)[0], (4, 5)),
    "2d with places by position": (lambda h: F.max_pool2d(h, 2, 1, 0, 1, False, True)[0], (4, 5)),
    "2d by its places": (lambda h: F.max_unpool2d(*F.max_pool2d(h, 2, return_indices=True), [2, 2]), (4, 6)),
    "2d by keyword": (lambda h: F.max_pool2d(input=h, kernel_size=3, stride=1), (4, 5)),
    "2d method": (lambda h: torch.max_pool2d(h, (2, 3)), (4, 6)),
    "2d adaptive": (nn.AdaptiveMaxPool2d((2, 3)), (4, 5)),
    "2d adaptive with places": (lambda h: F.adaptive_max_pool2d(h, 3, return_indices=True)[0], (4, 5)),
    "3d": (nn.MaxPool3d(2, 1), (3, 2, 3)),
    "3d overlapping, padded": (nn.MaxPool3d(3, 2, padding=1), (3, 4, 3)),
    "3d adaptive": (nn.AdaptiveMaxPool3d((2, 1, 2)), (3, 2, 3)),
}


class Pooled(nn.Module):
    """Convolution, ReLU, max pooling, capped ReLU, linear; of maps with one to three dimensions."""

    def __init__(self, pool: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(len(shape))
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 1]
        self.first, self.pool = kind(2, 3, 3, padding=1).double(), pool
        features = pool(torch.zeros(1, 3, *shape)).numel()
        self.second, self.last = nn.Linear(features, 6).double(), nn.Linear(6, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.first(x).relu())
        return self.last(F.hardtanh(self.second(3 * h.flatten(1)), 0, 1.5))


@pytest.mark.parametrize(("pool", "shape"), POOLS.values(), ids=POOLS)
def test_exact_row_norms_behind_max_pooling_are_those_of_the_jacobian(pool, shape):
    network, x = Pooled(pool, shape), randn(3, 2, *shape)
    affirm(network, x, row_norms(network, x, opened, basis(x), exact=True))


@pytest.mark.parametrize(("pool", "shape"), POOLS.values(), ids=POOLS)
def test_the_true_pattern_reproduces_the_network_and_its_gradient_behind_max_pooling(pool, shape):
    network, x = Pooled(pool, shape), randn(3, 2, *shape)
    leaf = x.clone().requires_grad_()
    both = dual(network, leaf, switched(pattern(network, x)))
    near(both.real, network(x), 1e-13)
    near(both.gated, network(x), 1e-13)
    near(torch.autograd.grad(both.gated.square().sum() / 2, leaf)[0], plain_gradient(network, x), 1e-12)


@pytest.mark.parametrize(
    "pool", [lambda h: F.max_pool1d(h, 2), lambda h: F.max_pool2d(h[:, None].expand(-1, 2, -1), 2)]
)
def test_pooling_of_maps_without_channels(pool):
    network, x = lambda x: pool((x @ randn(4, 6)).relu()), randn(3, 4)
    affirm(network, x, row_norms(network, x, opened, basis(x), exact=True))


@pytest.mark.parametrize("layers", [None, [0], [1]])
def test_exact_row_norms_at_the_true_pattern_are_those_of_the_jacobian(layers):
    """Also of chosen layers: the others' gates are the pattern."""
    network, x = conv(), randn(3, 1, 5, 5)
    affirm(network, x, row_norms(network, x, opened, basis(x), True, layers), layers)


@pytest.mark.parametrize(
    "act",
    [nn.LeakyReLU(0.2), nn.PReLU(6, 0.3, dtype=torch.float64), abs, nn.ReLU6(), nn.Hardtanh(-0.5, 1), nn.ReLU(True)],
)
def test_exact_row_norms_of_other_activations_are_those_of_the_jacobian(act):
    layers, x = mlp(4, 6, 6, 3, seed=1), randn(5, 4)

    def network(x: Tensor) -> Tensor:
        return layers[4](act(layers[2](act(layers[0](x)))))

    affirm(network, x, row_norms(network, x, opened, basis(x), exact=True))


def test_exact_row_norms_at_any_gates_are_those_of_the_weights_product():
    network, x = mlp(4, 6, 5, 3, seed=1), randn(3, 4)
    gates = [rand(3, 6, seed=1), rand(3, 5, seed=2)]
    norms = row_norms(network, x, fixed(gates), basis(x), exact=True)
    first, second, last = (linear(network, index).weight for index in (0, 2, 4))
    rows = second @ (gates[0][:, :, None] * first)
    near(norms.switches[0], first.norm(dim=1).expand(3, -1), 1e-12)
    near(norms.switches[1], rows.norm(dim=2), 1e-12)
    near(norms.output, (last @ (gates[1][:, :, None] * rows)).norm(dim=2), 1e-12)


@pytest.mark.parametrize("exact", [True, False])
def test_directions_in_several_passes_give_what_they_give_in_one(exact):
    network, x = Counted(conv()), randn(3, 1, 5, 5)
    directions = basis(x) if exact else randn(25, 3, 1, 5, 5, seed=3)
    whole = row_norms(network, x, opened, directions, exact)
    assert whole.forwards == 26
    assert network.forwards == 3 * 26
    for most, forwards in [(1, 50), (7, 29), (24, 27), (25, 26)]:
        network.forwards = 0
        parts = row_norms(network, x, opened, directions, exact, most=most)
        assert parts.forwards == forwards
        assert network.forwards == 3 * forwards
        for a, b in zip([*parts.switches, parts.output], [*whole.switches, whole.output], strict=True):
            near(a, b, 1e-12)


def test_probes_estimate_the_row_norms_the_better_the_more_they_are():
    network, x = conv(), randn(8, 1, 5, 5)
    exact = row_norms(network, x, opened, basis(x), exact=True)

    def error(count: int) -> float:
        estimate = row_norms(network, x, opened, randn(count, 8, 1, 5, 5, seed=7), exact=False)
        pairs = zip([*estimate.switches, estimate.output], [*exact.switches, exact.output], strict=True)
        return float(torch.cat([((e - n).abs() / n)[n > 1e-9].flatten() for e, n in pairs]).mean())

    errors = [error(count) for count in (4, 16, 64, 256, 1024)]
    # A mean square of K normal numbers has the relative spread (2 / K)^(1/2), its root half of that: .56 / K^(1/2).
    assert all(0.45 < e * k**0.5 < 0.7 for e, k in zip(errors, (4, 16, 64, 256, 1024), strict=True))
    assert all(a > 1.7 * b for a, b in pairwise(errors))


def norms_of(distances: RowNorms, alpha: float = 4.0) -> tuple[list[Tensor], list[Tensor], list[Tensor], int]:
    """Norms of the switches, the exact ones, the gates s(eta), and the cost of a step."""
    network, x = Counted(mlp(4, 6, 5, 3, seed=1).requires_grad_(False)), randn(3, 4)
    problem = ready(fitting(network, (4,), randn(3, 3)))
    gates = FreeGates(alpha=alpha, r=0, row_norms=distances)
    look = gates.direction(problem, x, gates.init(problem, x))
    assert network.forwards == 3 * look.cost.forwards
    own = [torch.sigmoid(alpha * (p - 0.5)) for p in pattern(network, x)]
    exact = row_norms(network, x, fixed(own), basis(x), exact=True)
    return list(look.state.norms), [*exact.switches, exact.output], own, look.cost.forwards


def test_distances_are_the_exact_norms():
    norms, exact, _, forwards = norms_of(RowNorms("exact"))
    assert forwards == 2 + 4 + 1
    for a, b in zip(norms, exact, strict=True):
        near(a, b, 1e-12)


def test_distances_estimated_by_probes_come_near():
    norms, exact, _, forwards = norms_of(RowNorms("probes", probes=4000))
    assert forwards == 2 + 4000 + 16
    for a, b in zip(norms, exact, strict=True):
        near(a / b, torch.ones_like(a), 0.06)  # 5 standard deviations


def test_distances_of_a_layer_are_the_root_mean_square_of_its_rows():
    norms, exact, _, _ = norms_of(RowNorms("layer", probes=4000))
    for a, b in zip(norms[:-1], exact[:-1], strict=True):
        assert torch.equal(a, a[:, :1].expand_as(a))
        near(a[:, 0] / b.square().mean(1).sqrt(), torch.ones(3).double(), 0.06)


def test_without_distances_nothing_is_computed():
    norms, _, _, forwards = norms_of(RowNorms("none"))
    assert norms == []
    assert forwards == 2


def test_a_rows_norm_may_include_its_own_gate():
    norms, exact, own, _ = norms_of(RowNorms("exact", own_gate=True, floor=1e-9))
    for a, b, gate in zip(norms, exact, own, strict=False):
        near(a, b * gate, 1e-12)
    near(norms[-1], exact[-1], 1e-12)


@pytest.mark.parametrize("floor", [0.5, 3.0])
def test_norms_are_floored(floor):
    norms, exact, _, _ = norms_of(RowNorms("exact", floor=floor))
    for a, b in zip(norms[:-1], exact[:-1], strict=True):
        near(a, b.clamp_min(floor), 1e-12)
    near(norms[-1], exact[-1], 1e-12)


def test_rows_behind_closed_gates_are_as_far_as_a_hundredth_of_their_layer_says():
    norms, exact, own, _ = norms_of(RowNorms("exact", own_gate=True), alpha=2000.0)
    for a, b, gate in zip(norms, exact, own, strict=False):
        rms = (b * gate).square().mean(1, keepdim=True).sqrt()
        near(a, torch.maximum(b * gate, 0.01 * rms), 1e-12)
        assert (a == 0.01 * rms)[gate < 0.5].all()
