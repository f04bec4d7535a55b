from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import conv, linear, mlp, near, randn, refill, refuses
from torch import Tensor, nn

from latentopt.analysis.regions import (
    Walk,
    boundary,
    flips,
    has_max_pooling,
    pattern,
    region_keys,
    trajectory_statistics,
    walk,
)
from latentopt.gates import Network, preactivations
from latentopt.zoo.capped import CappedReLU

RELU = nn.ReLU()


def pooled() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1)).double()


def at(x: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Points (N, *shape) of the segment from ``x`` to ``end`` (*shape)."""
    return x + t.reshape(-1, *[1] * x.ndim) * (end - x)


def follows(network: Network, x: Tensor, end: Tensor, found: Walk, row: int) -> None:
    """The pattern on a row's segment, sampled, is the one at its start with the crossed switches turned so far."""
    t = torch.linspace(0, 1, 1501, dtype=x.dtype)
    crossed = found.t[row][: int(found.crossings[row])]
    assert bool((crossed.diff() >= 0).all())
    near_one = ((t[:, None] - crossed).abs() < 1e-9).any(1)
    sampled = [(z > 0).flatten(1) for z in preactivations(network, at(x[row], end[row], t))]
    turned = torch.zeros(len(t), sum(part.shape[1] for part in sampled), dtype=torch.long)
    names = [(site, unit) for site, part in enumerate(sampled) for unit in range(part.shape[1])]
    for when, site, unit in zip(crossed, found.site[row], found.unit[row], strict=False):
        turned[:, names.index((int(site), int(unit)))] += t > when
    gates = torch.cat(sampled, 1)
    predicted = gates[:1] ^ (turned % 2 == 1)
    assert torch.equal(predicted[~near_one], gates[~near_one])


def test_pieces_are_counted_from_the_left():
    x = torch.tensor([[-1.0, 0.0, 0.5, 2.0]])
    assert pattern(RELU, x).tolist() == [[0, 0, 1, 1]]
    assert pattern(CappedReLU(1.0), x).tolist() == [[0, 0, 1, 2]]
    assert pattern(nn.Hardtanh(), x).tolist() == [[0, 1, 1, 2]]
    assert pattern(nn.LeakyReLU(), x).tolist() == [[0, 0, 1, 1]]


def test_sites_follow_each_other_and_can_be_chosen():
    net, x = mlp(2, 5, 3, 1), randn(4, 2)
    z = preactivations(net, x)
    assert torch.equal(pattern(net, x), torch.cat([(part > 0).int() for part in z], 1))
    assert torch.equal(pattern(net, x, [1]), (z[1] > 0).int())


def test_the_pattern_of_max_pooling_is_the_place_of_the_maximum():
    net = pooled()
    x = randn(3, 1, 5, 5)  # 3 x 3 after the convolution, one window of 2 x 2
    relu = net[:2](x)
    found = pattern(net, x)
    assert torch.equal(found[:, :18], (relu > 0).flatten(1).int())
    window = relu[:, :, :2, :2].flatten(2).argmax(2)
    assert torch.equal(found[:, 18:].long(), window // 2 * 3 + window % 2)
    assert pattern(net, x, [0]).shape == (3, 18)
    assert pattern(nn.MaxPool1d(2), torch.tensor([[[1.0, 3.0, 5.0, 2.0]]])).tolist() == [[1, 2]]
    assert has_max_pooling(net, x)
    assert not has_max_pooling(net[:2], x)


def test_flips_are_counted_by_hand():
    patterns = torch.tensor([[[0, 1, 2], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]], [[1, 1, 0], [1, 1, 1]]])
    assert flips(patterns).tolist() == [[2, 0], [0, 3]]
    assert region_keys(patterns[:, 1]).unique().shape == (2,)
    assert len(region_keys(torch.cartesian_prod(*[torch.arange(3)] * 6)).unique()) == 3**6


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_nearest_boundary_of_one_layer_is_its_closed_form(dtype, tolerance):
    net = mlp(6, 20, 1, dtype=dtype)
    x, direction = randn(50, 6, dtype=dtype), randn(50, 6, seed=1, dtype=dtype)
    z = net[0](x)
    pace = (direction / direction.norm(dim=1, keepdim=True)) @ linear(net, 0).weight.T
    ahead = -z / pace
    nearest, unit = ahead.where(ahead > 0, torch.inf).min(1)
    found = boundary(net, x, direction)
    near(found.distance, nearest.detach(), tolerance)
    assert torch.equal(found.unit, unit)
    assert bool((found.site == 0).all())
    assert torch.equal(found.distance, boundary(net, x, direction / 4).distance)  # any length


def test_at_a_boundary_its_unit_is_zero_and_behind_it_another():
    net, x, direction = mlp(2, 12, 12, 1), randn(30, 2), randn(30, 2, seed=1)
    direction = direction / direction.norm(dim=1, keepdim=True)
    found = boundary(net, x, direction)
    ends = found.distance.isfinite()
    assert ends.sum() > 20
    x, direction, distance = x[ends], direction[ends], found.distance[ends][:, None]
    z = torch.cat(preactivations(net, x + distance * direction), 1)
    index = (found.site * 12 + found.unit)[ends]
    near(z[range(len(x)), index], torch.zeros(len(x)).double(), 1e-12)
    before, behind = (pattern(net, x + (distance + side) * direction) for side in (-1e-7, 1e-7))
    assert torch.equal(before, pattern(net, x))
    changed = before != behind
    assert bool(changed[range(len(x)), index].all())
    assert bool((changed.sum(1) == 1).all())


def test_where_there_is_no_boundary_the_distance_is_infinite():
    found = boundary(RELU, torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert (found.distance.tolist(), found.site.tolist(), found.unit.tolist()) == ([torch.inf], [-1], [-1])


@given(
    widths=st.lists(st.integers(1, 10), min_size=2, max_size=4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
)
@settings(max_examples=30, deadline=None)
def test_a_walk_tells_the_pattern_at_every_point(widths, seed, scale):
    net = mlp(*widths, 1, seed=seed)
    x, end = (scale * randn(3, widths[0], seed=seed + more) for more in (1, 2))
    found = walk(net, x, end)
    assert bool(found.complete.all())
    for row in range(3):
        follows(net, x, end, found, row)


def test_a_walk_finds_what_fine_samples_find():
    net, x, end = mlp(3, 16, 16, 8, 1), 2 * randn(4, 3, seed=1), 2 * randn(4, 3, seed=2)
    t = torch.linspace(0, 1, 100_001, dtype=x.dtype)
    counts = [flips(pattern(net, at(x[row], end[row], t))[:, None]).sum().item() for row in range(4)]
    assert walk(net, x, end).crossings.tolist() == counts


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.PReLU(), nn.ReLU(inplace=True)])
def test_every_activation_is_walked_through(activation):
    net = refill(nn.Sequential(nn.Linear(3, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 1)), 3)
    x, end = randn(2, 3, seed=1), 3 * randn(2, 3, seed=2)
    found = walk(net, x, end)
    for row in range(2):
        follows(net, x, end, found, row)


def test_a_convolutional_network_is_walked_through_like_its_samples_alone():
    net, x, end = conv(), randn(2, 1, 5, 5, seed=1), randn(2, 1, 5, 5, seed=2)
    found = walk(net, x, end)
    for row in range(2):
        follows(net, x, end, found, row)
        alone = walk(net, x[row : row + 1], end[row : row + 1])
        assert torch.equal(alone.unit[0], found.unit[row, : alone.unit.shape[1]])
        near(alone.t[0], found.t[row, : alone.t.shape[1]], 1e-12)


def test_both_kinks_of_a_capped_unit_are_boundaries():
    x, end = torch.tensor([[-1.0], [0.5], [3.0]]), torch.tensor([[4.0], [0.7], [-1.0]])
    found = walk(CappedReLU(1.0), x, end)
    assert found.crossings.tolist() == [2, 0, 2]
    near(found.t[[0, 2]], torch.tensor([[0.2, 0.4], [0.5, 0.75]]), 1e-6)
    assert found.unit.tolist() == [[0, 0], [-1, -1], [0, 0]]
    net = nn.Sequential(mlp(2, 9), CappedReLU(0.4), refill(nn.Linear(9, 7), 4), CappedReLU(0.3))
    x, end = 2 * randn(3, 2, seed=5), 2 * randn(3, 2, seed=6)
    t = torch.linspace(0, 1, 50_001, dtype=x.dtype)
    steps = [pattern(net, at(x[row], end[row], t)).diff(dim=0).abs().sum().item() for row in range(3)]
    assert walk(net, x, end).crossings.tolist() == steps


def test_a_walk_agrees_with_the_pattern_at_its_ends():
    """A ReLU is open where z > 0: leaving 0 upwards crosses at the start, reaching 0 from above at the end."""
    ends = torch.tensor([[0.0], [1.0], [-1.0], [0.0]])
    for x in ends:
        for end in ends:
            crossings = walk(RELU, x[None], end[None]).crossings
            assert crossings == flips(torch.stack([pattern(RELU, x[None]), pattern(RELU, end[None])]))[0]


def test_a_walk_that_reaches_its_limit_says_so():
    x, end = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 1.0, 1.0]]), torch.full((2, 3), 9.0)
    found = walk(RELU, x, end, limit=2)
    assert found.crossings.tolist() == [2, 1]
    assert found.complete.tolist() == [False, True]
    assert found.t.tolist() == [[pytest.approx(0.1), pytest.approx(2 / 11)], [pytest.approx(0.1), torch.inf]]
    assert walk(RELU, x, end, limit=3).complete.all()
    assert walk(RELU, x, x).crossings.tolist() == [0, 0]


def test_a_trajectory_counts_flips_regions_and_crossings():
    x = torch.tensor([[-1.0, 1.0], [2.0, 1.0], [-3.0, 1.0], [-3.0, -1.0]])[:, None]
    found = trajectory_statistics(RELU, torch.cat([x, x.flip(2)], 1), batch_size=2)
    assert found.flips.tolist() == [[1, 1], [1, 1], [1, 1]]
    assert found.regions.tolist() == [3, 3]
    assert found.crossings is not None
    assert found.crossings.tolist() == [[1, 1], [1, 1], [1, 1]]
    assert found.complete is not None
    assert found.complete.all()
    hinges = mlp(1, 2)
    hinges[0].load_state_dict({"weight": torch.tensor([[1.0], [-1.0]]), "bias": torch.tensor([0.0, 0.5])})
    there = trajectory_statistics(nn.Sequential(hinges, RELU), torch.tensor([[[-1.0]], [[1.0]], [[1.0]]]).double())
    assert there.flips.tolist() == [[2], [0]]
    alone = trajectory_statistics(RELU, x[:1])
    assert (alone.flips.shape, alone.regions.tolist()) == ((0, 1), [1])
    assert alone.crossings is not None
    assert alone.crossings.shape == (0, 1)


def test_max_pooling_has_patterns_and_flips_but_no_walks():
    net, x = pooled(), randn(3, 2, 1, 5, 5)
    with refuses("network", "max pooling"):
        walk(net, x[0], x[1])
    with refuses("network", "max pooling"):
        boundary(net, x[0], x[1])
    with refuses("network", "max pooling"):
        trajectory_statistics(net, x)
    found = trajectory_statistics(net, x, crossings=False)
    assert torch.equal(found.flips[0], (pattern(net, x[1]) != pattern(net, x[0])).sum(1))
    assert found.crossings is None


def test_smooth_networks_are_refused():
    x = randn(2, 3)
    for smooth in (nn.Tanh(), nn.Identity()):
        with refuses("network", "smooth"):
            pattern(smooth, x)
        with refuses("network"):
            boundary(smooth, x, x)
    for mixed in (nn.Sequential(nn.Tanh(), RELU), nn.Sequential(mlp(3, 4), RELU, nn.Softmax(1), mlp(4, 4), RELU)):
        with refuses("network", "piecewise-linear"):
            walk(mixed, x, -x)


def test_what_is_no_batch_is_refused():
    x = randn(2, 3)
    for wrong in (x[0], x[:0], x.long(), [1.0], torch.full((2, 3), torch.nan)):
        with refuses("x"):
            pattern(RELU, wrong)  # pyright: ignore[reportArgumentType]
        with refuses("x"):
            walk(RELU, wrong, x)  # pyright: ignore[reportArgumentType]
    for wrong in (0 * x, x[:, :2], torch.full((2, 3), torch.inf)):
        with refuses("direction"):
            boundary(RELU, x, wrong)
    with refuses("end"):
        walk(RELU, x, x[:1])
    with refuses("limit"):
        walk(RELU, x, x, limit=0)
    for layers in ([1], [-1]):
        with refuses("layers", "0 to 0"):
            pattern(RELU, x, layers)
    with refuses("patterns"):
        flips(torch.zeros(2, 3))
    with refuses("x", "iterates"):
        trajectory_statistics(RELU, x)
    with refuses("batch_size"):
        trajectory_statistics(RELU, x[None], batch_size=0)


def test_the_module_stays_as_it_is():
    net, x = conv().train().requires_grad_(True), randn(2, 1, 5, 5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pattern(net, x)
    walk(net, x, -x)
    boundary(net, x, x)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
