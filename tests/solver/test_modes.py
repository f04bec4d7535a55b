"""Distinct answers among restarts, and equal samples that start apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import operators, sets
from latentopt.inverse.initializers import Mean, Nearest, Random, Regression
from latentopt.solver.modes import find_modes

STARTS = torch.tensor([-3.0, 0.5, 2.0, 2.5, -1.0, 0.1])


class Wells(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.abs(), x], 1)


def wells(batch: int = 1) -> lo.Problem:
    """A problem with minima at -1 and 1, of values 0.1 and 0."""

    def objective(y: Tensor) -> Tensor:
        return (y[:, 0] - 1).abs() + 0.05 * (1 - y[:, 1])

    return lo.Problem(Wells(), objective, (1,), batch, sets.Box(-4.0, 4.0))


def searched(batch: int = 1, **settings: Any) -> lo.Result:
    start = STARTS[:, None, None].expand(-1, batch, 1)
    return lo.solve(wells(batch), lo.GD(lr=0.05), steps=100, restarts=6, start=start, **settings)


def test_modes_are_the_minima_with_the_share_of_restarts_that_ended_there():
    result = searched(2)
    modes = result.modes(Wells(), distance=0.2)
    assert modes.sample.tolist() == [0, 0, 1, 1]
    assert torch.allclose(modes.x[:, 0], torch.tensor([1.0, -1.0] * 2), atol=0.06)
    assert torch.allclose(modes.value, torch.tensor([0.0, 0.1] * 2), atol=0.06)
    assert torch.allclose(modes.weight, torch.tensor([4 / 6, 2 / 6] * 2))
    assert modes.label[:, 0].tolist() == [1, 0, 0, 0, 1, 0]
    assert modes.label[:, 1].tolist() == [3, 2, 2, 2, 3, 2]
    assert torch.equal(modes.x[[0, 2]], result.x)
    assert torch.equal(wells(2).take(modes.sample).evaluate(modes.x).output, modes.output)


@pytest.mark.parametrize(("distance", "count"), [(0.0, 6), (10.0, 1)])
def test_distance_zero_tells_all_restarts_apart_and_a_great_one_none(distance, count):
    result = lo.solve(wells(), lo.GD(lr=0.05), steps=1, restarts=6, start=STARTS[:, None, None])
    modes = result.modes(Wells(), distance)
    assert len(modes.value) == count
    assert modes.value.tolist() == sorted(modes.value.tolist())
    assert modes.weight.sum() == pytest.approx(1)


def test_restarts_join_the_nearest_mode():
    x = torch.tensor([0.0, 1.0, 0.55])[:, None, None]  # within 0.6 of both, nearer to the second
    value = torch.tensor([0.0, 1.0, 2.0])[:, None]
    modes = find_modes(lambda x: x, x, value, torch.zeros(3, 1).bool(), 0.6)
    assert modes.label[:, 0].tolist() == [0, 1, 1]


def test_modes_of_a_batch_are_those_of_its_samples():
    x, value = torch.randn(9, 3, 4), torch.rand(9, 3)
    value[2, 1], value[3, 2] = torch.nan, torch.inf
    dropped = torch.zeros(9, 3).bool()
    dropped[4, 0] = True
    together = find_modes(nn.Identity(), x, value, dropped, 0.9)
    assert together.label[4, 0] == together.label[2, 1] == together.label[3, 2] == -1
    begin = 0
    for sample in range(3):
        own = slice(sample, sample + 1)
        alone = find_modes(nn.Identity(), x[:, own], value[:, own], dropped[:, own], 0.9)
        count = len(alone.value)
        assert 1 < count < 8
        assert torch.equal(together.x[begin : begin + count], alone.x)
        assert torch.equal(together.weight[begin : begin + count], alone.weight)
        valid = alone.label[:, 0] >= 0
        assert torch.equal(together.label[valid, sample] - begin, alone.label[valid, 0])
        begin += count
    assert begin == len(together.value)


def test_dropped_restarts_are_in_no_mode():
    result = searched(halving=[(50, 2)])
    assert (result.all_status == lo.Status.DROPPED).sum() == 4
    modes = result.modes(Wells(), 0.2)
    assert (modes.label >= 0).sum() == 2
    assert modes.weight.sum() == pytest.approx(1)


def test_modes_take_each_samples_condition_and_draw_images(tmp_path):
    class Shifted(nn.Module):
        def forward(self, z: Tensor, by: Tensor) -> Tensor:
            return (z + by)[:, :, None, None].expand(-1, 1, 4, 4)

    generator = lo.Generator(Shifted(), latent_shape=(1,)).given(by=torch.tensor([[0.0], [0.5]]))
    result = lo.solve(lo.Reconstruction(generator, torch.full((2, 1, 4, 4), 0.5)), lo.GD(lr=0.4), steps=40, restarts=3)
    modes = result.modes(generator)
    assert torch.allclose(modes.x[:, 0], torch.tensor([0.5, 0.0]), atol=1e-3)
    assert modes.weight.tolist() == [1, 1]
    modes.plot(tmp_path / "modes.png")
    assert "modes=2" in repr(modes)
    modes.save(tmp_path / "modes.safetensors")
    assert torch.equal(lo.Modes.load(tmp_path / "modes.safetensors").label, modes.label)
    assert [row["sample"] for row in modes.rows] == [0, 1]


def test_a_result_without_restarts_has_no_modes():
    result = searched()
    with refuses("distance"):
        result.modes(Wells(), -1.0)
    object.__setattr__(result, "all_x", torch.empty(0))
    with refuses("result"):
        result.modes(Wells())


BODY = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))).eval()
GENERATOR = lo.Generator(BODY, latent_shape=(4,)).double()
TARGET = GENERATOR(GENERATOR.latents(1, seed=3)).detach()


def test_distinct_starts_are_those_of_one_sample_with_more_restarts():
    settings: dict[str, Any] = {"optimizer": lo.PerturbedGD(lr=0.05), "steps": 4, "seed": 1}
    one = lo.solve(lo.Reconstruction(GENERATOR, TARGET), restarts=6, **settings)
    three = lo.Reconstruction(GENERATOR, TARGET.expand(3, -1, -1, -1))
    result = lo.solve(three, restarts=2, distinct_starts=True, **settings)
    assert torch.allclose(result.all_x.transpose(0, 1).flatten(0, 1), one.all_x[:, 0])
    assert len(result.x.unique(dim=0)) == 3
    alike = lo.solve(three, restarts=2, **settings)
    assert torch.allclose(alike.all_x, one.all_x[:2].expand(-1, 3, -1))


@pytest.mark.parametrize(
    "start", [Random(), Regression(20), Nearest(20), Mean()], ids=lambda start: type(start).__name__
)
def test_equal_targets_start_apart_where_they_are_asked_to(start):
    settings: dict[str, Any] = {
        "start": start,
        "steps": 1,
        "optimizer": lo.GD(lr=1e-9),
        "halving": (),
        "operator": operators.Hole(4),
    }
    one = lo.reconstruct(GENERATOR, TARGET, restarts=6, **settings)
    three = lo.reconstruct(GENERATOR, TARGET.expand(3, -1, -1, -1), restarts=2, distinct_starts=True, **settings)
    assert torch.allclose(three.all_x.transpose(0, 1).flatten(0, 1), one.all_x[:, 0], atol=1e-7)
    assert len(three.all_x.flatten(0, 1).unique(dim=0)) == 6
