"""The border of an attack's set to the last bit: in every norm, dtype and range of inputs, radii sample by sample."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nets import rand, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.attacks.checks import range_slack
from latentopt.rl.attack_policy import attack_policy
from latentopt.sets import L2Ball, LinfBall, Norm, bounded_ball, length

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
RANGES = [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-2.1179, 2.64), (-1e-3, 1e-3), (1000.0, 1001.0)]
FREE = (-torch.inf, torch.inf)
SLOW = dict.fromkeys([(0.0, 1.0), (-1.0, 1.0)], pytest.mark.slow)  # the mildest


def classifier(ends: tuple[float, float], dtype: torch.dtype, seed: int, shape: tuple[int, ...]) -> lo.Classifier:
    """Three classes of random weights, of inputs as wide as the range, or of 2 where it is open."""
    width = ends[1] - ends[0] if ends != FREE else 2.0
    n = torch.Size(shape).numel()
    module = nn.Sequential(nn.Flatten(), nn.Linear(n, 16), nn.ReLU(), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / n**0.5)
    middle = 0.0 if ends == FREE else (ends[0] + ends[1]) / 2
    return lo.Classifier(module, mean=middle, std=width, input_range=ends).to(dtype).eval()


def inputs(ends: tuple[float, float], dtype: torch.dtype, seed: int, shape: tuple[int, ...]) -> Tensor:
    low, high = ends if ends != FREE else (-1.0, 1.0)
    return (low + (high - low) * rand(4, *shape, seed=seed)).to(dtype)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("ends", [*RANGES, FREE], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_an_attack_returns_measures_no_farther_than_its_radius(dtype, ends, norm: Norm) -> None:
    model = classifier(ends, dtype, 0, (40,))
    for seed in range(4):
        x, optimizer = inputs(ends, dtype, seed, (40,)), ("apgd", "pgd", "square", "frank-wolfe")[seed]
        eps = (0.3 if norm == "linf" else 1.0) * min(ends[1] - ends[0], 2.0) * rand(4, seed=seed)
        y = model(x).argmax(1)
        found = lo.attack(model, x, y, eps, norm=norm, optimizer=optimizer, steps=4, start="random", seed=seed)
        assert (length(found.x - x.clamp(*ends), norm) <= eps.to(dtype)).all()
        assert torch.equal(found.distance, length(found.x - found.clean, norm))
        assert torch.equal(found.x, found.x.clamp(*ends))


@functools.cache
def unit_radius(norm: Norm) -> Tensor:
    """The smallest radii in the range from 0 to 1."""
    model, x = classifier((0.0, 1.0), torch.float64, 1, (8,)), inputs((0.0, 1.0), torch.float64, 1, (8,))
    return lo.minimum_norm(model, x, model(x).argmax(1), norm=norm, search_steps=8, steps=20).eps


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("ends", [pytest.param(ends, marks=SLOW.get(ends, ())) for ends in RANGES], ids=str)
def test_the_smallest_radius_is_found_in_any_range(ends, norm: Norm) -> None:
    """In units of the range it is the same, to what the rounding of the inputs leaves of it."""
    x = inputs(ends, torch.float64, 1, (8,))
    model = classifier(ends, torch.float64, 1, (8,))
    y = model(x).argmax(1)
    found = lo.minimum_norm(model, x, y, norm=norm, search_steps=8, steps=20)
    assert found.success.all()
    torch.testing.assert_close(found.eps / (ends[1] - ends[0]), unit_radius(norm), rtol=0.02, atol=0)
    single = lo.minimum_norm(model.float(), x.float(), y, norm=norm, search_steps=8, steps=20)
    assert torch.equal(single.eps, length(single.x - single.clean, norm))


@settings(max_examples=200, deadline=None)
@example(127.5, 0.2754, torch.bfloat16)  # the spacing of numbers changes at 128
@given(st.floats(-300, 300), st.floats(0, 100), st.sampled_from(DTYPES))
def test_an_linf_ball_reaches_as_far_as_numbers_do_that_measure_its_radius(center: float, eps: float, dtype) -> None:
    c, e = torch.tensor([[center]], dtype=dtype), torch.tensor([eps], dtype=dtype)
    for toward in (-torch.inf, torch.inf):
        end = LinfBall(c, e).project(torch.full_like(c, toward))
        assert (end - c).abs() <= e
        following = end.nextafter(torch.full_like(c, toward)).nextafter(torch.full_like(c, toward))
        assert (following.double() - c.double()).abs() > e.double() * (1 - torch.finfo(dtype).eps)


@pytest.mark.parametrize("eps", [1e-4, 300.0], ids=str)
def test_the_squares_of_a_radius_need_not_fit_the_dtype(eps) -> None:
    """In float16 the square of 1e-4 is 0 and that of 300 infinite; the projection lies on the sphere all the same."""
    center, reach = torch.zeros(1, 4).half(), torch.tensor([eps]).half()
    ball = bounded_ball(center, reach, "l2", 0.0, 2 * eps)
    assert isinstance(ball.ball, L2Ball)
    projected = ball.project(torch.tensor([[2 * eps, 2 * eps, -eps, eps / 4]]).half())
    assert projected[0, 2] == 0
    torch.testing.assert_close(ball.ball.distance(projected)[:, 0], reach, rtol=2e-2, atol=0)


def test_inputs_that_rounding_has_put_outside_their_range_are_taken() -> None:
    ends = (-2.1179, 2.64)
    x = torch.full((1, 6), 2.64).bfloat16()
    assert x.max().item() > 2.64
    model = classifier(ends, torch.bfloat16, 0, (6,))
    assert lo.attack(model, x, model(x).argmax(1), 0.1, optimizer="fgsm").x.max() <= x.max()
    assert range_slack(0.0, 1.0, torch.float32) == 1e-6
    with refuses("x", "[-2.1179, 2.64]"):
        lo.attack(model, x + 0.1, torch.zeros(1).long(), 0.1)
    model.input_range = (0.0, torch.inf)
    with refuses("x", "[0, inf]"):
        lo.attack(model, -torch.ones(1, 6), torch.zeros(1).long(), 0.1)


def test_a_radius_of_zero_costs_no_gradient() -> None:
    model, x = classifier((0.0, 1.0), torch.float64, 0, (6,)), inputs((0.0, 1.0), torch.float64, 0, (6,))
    found = lo.attack(model, x, model(x).argmax(1), torch.tensor([0.0, 1e-9, 0.0, 1e-9]))
    assert (found.backwards > 0).tolist() == [False, True, False, True]
    assert torch.equal(found.x[::2], x[::2])


@pytest.mark.parametrize("ends", [[0, 1], torch.tensor([0.0, 1.0]), (torch.tensor(0.0), torch.tensor(1.0))], ids=str)
def test_a_range_is_any_pair_of_numbers(ends) -> None:
    model = lo.Classifier(nn.Linear(6, 3).eval(), input_range=ends)
    assert model.input_range == (0.0, 1.0)


@pytest.mark.parametrize(
    "ends",
    [(0.0,), (1, 0), (torch.zeros(3), torch.zeros(3)), (torch.zeros(3), torch.ones(2)), 1.0, (torch.nan, 1.0)],
    ids=str,
)
def test_what_is_no_pair_of_numbers_is_refused(ends) -> None:
    with refuses("input_range", "two numbers"):
        lo.Classifier(nn.Linear(6, 3).eval(), input_range=ends)
    model = nn.Linear(6, 3).eval()
    model.input_range = ends
    with refuses("input_range", "two numbers"):
        lo.attack(model, torch.rand(2, 6), torch.zeros(2).long(), 0.1)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_files_use_the_whole_radius_and_stay_in_it(tmp_path, dtype, ends) -> None:
    """By Linf 8 / 255 all pixels of 200 / 255 become 208, which is the border to the byte."""
    low, high = ends
    byte = (high - low) / 255

    def model(x: Tensor) -> Tensor:
        mean = ((x.double() - low) / byte).flatten(1).mean(1)
        return torch.stack([207.5 - mean, mean - 207.5], 1).to(x.dtype)

    model.input_range = ends  # pyright: ignore[reportFunctionMemberAccess]
    x = torch.full((1, 1, 4, 4), low + 200 * byte, dtype=torch.float64).to(dtype)
    found = lo.attack(model, x, torch.zeros(1).long(), 8 * byte, optimizer="pgd", loss="margin", steps=10)
    assert found.success.all()
    still = lo.save_png(tmp_path / "files", found, model)
    assert still is not None
    assert still.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_radius_of_eight_bytes_is_eight_bytes_in_any_dtype(dtype) -> None:
    layer = nn.Linear(4, 2)
    nn.init.constant_(layer.weight, 1.0)
    observations = torch.full((1, 4), 100, dtype=torch.uint8)
    eps = torch.tensor(8 / 255, dtype=dtype)
    found = attack_policy(layer, observations, eps, kind="continuous", steps=10)
    assert (found.observations.int() - 100).abs().max() == 8
