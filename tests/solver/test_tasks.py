from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from nets import Counted, linear, mlp, near, rand, randn, refill, refuses
from torch import Tensor, nn

from latentopt import GD, Generator, Reconstruction, Status, maximize, solve
from latentopt.objectives import L1
from latentopt.operators import Compose, Crop, Downsample, Hole, Identity


def generator(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Generator:
    """Latents (3,) to images (1, 4, 4)."""
    module = nn.Sequential(mlp(3, 8, 16, dtype=dtype), nn.Unflatten(1, (1, 4, 4)), nn.Sigmoid())
    return Generator(module, latent_shape=(3,), start_scale=scale)


def test_an_image_is_measured_and_a_measurement_is_taken_as_it_is():
    image, operator = rand(2, 1, 4, 4), Downsample(2)
    of_image = Reconstruction(generator(), image, operator)
    of_measurement = Reconstruction(generator(), operator(image), operator)
    near(of_image.measurement, image.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)), 1e-15)
    assert torch.equal(of_measurement.measurement, of_image.measurement)
    assert of_image.image is not None
    assert torch.equal(of_image.image, image)
    assert of_measurement.image is None
    results = [solve(problem, steps=5) for problem in (of_image, of_measurement)]
    assert torch.equal(results[0].x, results[1].x)
    for either in (Identity(), Hole(2)):  # where both shapes fit it is an image unless said otherwise
        as_image = Reconstruction(generator(), image, either)
        as_measurement = Reconstruction(generator(), image, either, measured=True)
        assert torch.equal(as_image.measurement, either(image))
        assert torch.equal(as_measurement.measurement, image)
        assert as_image.image is not None
        assert as_measurement.image is None


def with_one(value: float) -> Tensor:
    target = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    target[1, 0, 2, 2] = value
    return target


@pytest.mark.parametrize(
    ("target", "operator", "measured"),
    [
        *[(rand(*shape), None, None) for shape in [(2, 1, 3, 3), (1, 4, 4), (2, 3, 4, 4)]],
        (rand(2, 1, 4, 4), Downsample(2), True),
        (rand(2, 1, 2, 2), Downsample(2), False),
        (rand(2, 1, 2, 2), Compose([Crop(2), Downsample(2)]), None),
        *[(with_one(value), None, None) for value in (-1.1e-6, 1 + 1.1e-6, -0.5, 1.5, float("nan"), float("inf"))],
        *[(target, None, None) for target in (255 * with_one(1), torch.zeros(0, 1, 4, 4), torch.tensor(0.5))],
    ],
)
def test_wrong_targets_are_refused(target, operator, measured):
    with refuses("target"):
        Reconstruction(generator(), target, operator, measured=measured)


def test_an_operator_or_a_latent_shape_that_does_not_fit_is_refused():
    with refuses("Downsample.factor"):
        Reconstruction(generator(), rand(2, 1, 4, 4), Downsample(3))
    with refuses("latent_shape"):
        Reconstruction(Generator(generator().module, latent_shape=(4,)), rand(2, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_outside_by_rounding_only_are_clamped(dtype):
    target = torch.tensor([-0.9e-6, 1 + 0.9e-6] * 8, dtype=dtype).reshape(1, 1, 4, 4)
    assert torch.equal(Reconstruction(generator(), target).measurement.unique(), torch.tensor([0.0, 1.0]).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_search_runs_in_the_generators_dtype_and_scale_with_the_loss_given(dtype):
    target = rand(2, 1, 4, 4)
    result = solve(Reconstruction(generator(dtype), target, loss=L1()), steps=2)
    assert result.x.dtype == result.output.dtype == dtype
    assert result.x.shape == (2, 3)
    assert result.output.shape == (2, 1, 4, 4)
    rounding = 1e-15 if dtype == torch.float64 else 1e-6
    near(result.value.double(), (result.output - target).abs().mean((1, 2, 3)).double(), rounding)
    small, usual = (
        solve(Reconstruction(generator(dtype, scale), target), GD(lr=1e-30), steps=1).x for scale in (0.2, 1.0)
    )
    near(small, 0.2 * usual, rounding)


def test_a_latent_is_recovered_and_the_sample_solved():
    truth = generator()
    target = truth(truth.latents(3, seed=1)).detach()
    result = solve(Reconstruction(truth, target, tolerance=1e-10), "adam", steps=600, restarts=4)
    assert result.status == (Status.SOLVED,) * 3
    assert result.value.max() < 1e-10
    near(result.output, target, 1e-4)


def exact_maximum(network: nn.Sequential, low: float, high: float) -> float:
    """Of a one-hidden-layer network on a square: a piecewise-linear function is greatest at a vertex of its regions,
    where two of the neurons' lines and the square's sides cross."""
    normals = np.vstack([linear(network, 0).weight.detach().numpy(), [[1, 0], [1, 0], [0, 1], [0, 1]]])
    offsets = np.concatenate([-linear(network, 0).bias.detach().numpy(), [low, high, low, high]])
    pairs = [list(pair) for pair in combinations(range(len(normals)), 2)]
    vertices = [np.linalg.solve(normals[p], offsets[p]) for p in pairs if abs(np.linalg.det(normals[p])) > 1e-9]
    inside = [v for v in vertices if (v >= low - 1e-9).all() and (v <= high + 1e-9).all()]
    return network(torch.tensor(np.array(inside))).max().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_maximize_finds_the_exact_maximum_of_a_small_network(seed):
    network = mlp(2, 12, 1, seed=seed)
    exact = exact_maximum(network, -1.5, 2.0)
    grid = torch.cartesian_prod(*[torch.linspace(-1.5, 2.0, 301, dtype=torch.float64)] * 2)
    assert 0 <= exact - network(grid).max().item() < 0.05  # the enumeration is right

    descent = GD(lr=0.1, normalize=True, schedule="linear")
    result = maximize(network, low=-1.5, high=2.0, shape=(2,), optimizer=descent, steps=300, restarts=64)
    assert result.x.shape == (1, 2)
    assert result.x.dtype == torch.float64
    assert -1e-9 <= exact + result.value.item() < 1e-3


def test_maximize_takes_the_unit_asked_for_and_any_callable():
    def network(x: Tensor) -> Tensor:
        return torch.stack([x, -x], dim=1)  # (B, 2, 3); units 0 to 2 are x, 3 to 5 are -x

    result = maximize(network, low=-2.0, high=1.0, shape=(3,), unit=4, optimizer=GD(lr=0.5), steps=20)
    assert result.value.tolist() == [-2.0]
    assert result.x[0, 1] == -2


def test_maximize_starts_where_told_and_refuses_a_start_outside():
    network = refill(nn.Linear(3, 1), 0)
    start = 0.1 * randn(1, 3)
    result = maximize(network, low=-1, high=1, shape=(3,), optimizer=GD(lr=1e-9), steps=1, start=start)
    near(result.x, start, 1e-8)
    with refuses("start"):
        maximize(network, low=-1, high=1, shape=(3,), start=start + 5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[("low", {"low": low, "high": high}) for low, high in [(1, -1), (float("nan"), 1), (-float("inf"), 1)]],
        *[("unit", {"unit": unit}) for unit in (2, -1, 0.5)],
        *[("shape", {"shape": shape}) for shape in [(4,), (3, 1), (), (0,), (3.0,)]],
        ("steps", {"steps": 0}),
        ("evaluations", {"evaluations": 0}),
        ("optimizer", {"optimizer": "sgd"}),
    ],
)
def test_maximize_refuses_what_does_not_fit_the_network_before_any_counted_work(name, settings):
    network = Counted(mlp(3, 4, 2))
    with refuses(name):
        maximize(network, **{"low": -1.0, "high": 1.0, "shape": (3,), **settings})
    assert network.forwards <= 1


def test_maximize_passes_budgets_and_callbacks_on():
    seen: list[float] = []
    network = Counted(mlp(3, 4, 1))
    watch = lambda progress: seen.append(float(progress.best))  # noqa: E731
    settings = {"optimizer": "pgd", "steps": 30, "evaluations": 20, "callbacks": [watch]}
    result = maximize(network, low=-1.0, high=1.0, shape=(3,), **settings)
    assert (int(result.forwards), int(result.backwards), len(seen)) == (11, 9, 9)
    assert network.forwards == 11 + 1  # the pass that finds the units
