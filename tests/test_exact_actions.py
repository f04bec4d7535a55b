"""Branch and bound against enumeration, and its bounds against samples."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import rand, randn

from latentopt.bench.exact_actions import _upper, forward, maximum


def net(seed: int, *sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = list(enumerate(pairwise(sizes)))
    return [(randn(b, a, seed=seed + 9 * at), randn(b, seed=seed + 5 * at + 1)) for at, (a, b) in pairs]


@settings(max_examples=12)
@given(seed=st.integers(0, 1000))
def test_the_maximum_is_that_of_a_grid(seed):
    layers = net(seed, 2, 9, 7, 1)
    low, high = torch.tensor([-1.0, -0.5]).double(), torch.tensor([0.5, 1.0]).double()
    lines = [torch.linspace(float(a), float(b), 201, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    most = float(forward(layers, torch.cartesian_prod(*lines)).max())
    found = maximum(layers, low, high, seconds=20.0, tolerance=1e-3)
    assert found.gap <= 1e-3
    assert found.value >= most - 1e-3
    assert abs(float(forward(layers, found.x[None])) - found.value) < 1e-12
    assert found.bound >= most


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), depth=st.integers(1, 3), reach=st.sampled_from([0.01, 0.3, 2.0]))
def test_no_point_of_a_box_is_above_its_bound(seed, depth, reach):
    layers = net(seed, 3, *[8, 6, 5][:depth], 1)
    middle = 2 * rand(4, 3, seed=seed) - 1
    low, high = middle - reach, middle + reach
    upper, corner = _upper(layers, low, high)
    for at in range(4):
        points = low[at] + (high[at] - low[at]) * rand(500, 3, seed=at)
        assert float(forward(layers, points).max()) <= float(upper[at]) + 1e-9
    assert ((corner == low) | (corner == high)).all()


def test_out_of_time_the_gap_is_stated():
    found = maximum(net(0, 6, 64, 64, 1), -torch.ones(6).double(), torch.ones(6).double(), seconds=0.05)
    assert found.gap > 1e-3
    assert found.boxes > 0
