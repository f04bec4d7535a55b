from __future__ import annotations

import pytest
import torch
from nets import near, rand, refuses
from torch import Tensor

from latentopt.objectives import L1, MSE, Fit, Huber, Unit, take
from latentopt.operators import Downsample

PREDICTION = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
TARGET = torch.tensor([[0.05, 0.0], [0.5, 0.7]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (MSE(), [(0.05**2 + 1) / 2, 0.02]),
        (L1(), [1.05 / 2, 0.1]),
        (Huber(0.1), [(0.05**2 / 2 + 0.1 * (1 - 0.05)) / 2, 0.1 * (0.2 - 0.05) / 2]),
        (Huber(2.0), [(0.05**2 + 1) / 4, 0.01]),
    ],
)
def test_losses_are_what_their_formulas_say(loss, expected):
    near(loss(PREDICTION, TARGET), torch.tensor(expected, dtype=torch.float64), 1e-15)


@pytest.mark.parametrize("loss", [MSE(), L1(), Huber()])
def test_losses_are_per_sample_on_images(loss):
    image, target = rand(3, 2, 4, 4), rand(3, 2, 4, 4, seed=1)
    both = loss(image, target)
    assert both.shape == (3,)
    near(both[1:2], loss(image[1:2], target[1:2]), 1e-15)


def test_losses_differentiate_correctly():
    x = rand(2, 5).requires_grad_()
    for loss in (MSE(), L1(), Huber()):
        assert torch.autograd.gradcheck(lambda p, loss=loss: loss(p, rand(2, 5, seed=1)), x)


@pytest.mark.parametrize("delta", [0, -1, float("nan")])
def test_huber_refuses_a_delta_that_is_not_positive(delta):
    with refuses("Huber.delta"):
        Huber(delta)


def test_fit_compares_the_measured_output_and_takes_its_samples():
    images, operator = rand(3, 1, 4, 4), Downsample(2)
    fit = Fit(MSE(), operator, rand(3, 1, 2, 2, seed=1))
    near(fit(images), (operator(images) - rand(3, 1, 2, 2, seed=1)).square().mean((1, 2, 3)), 1e-15)
    rows = torch.tensor([2, 0, 2])
    assert torch.equal(take(fit, rows)(images[rows]), fit(images)[rows])


def test_an_objective_without_samples_is_taken_as_it_is():
    def norm(output: Tensor) -> Tensor:
        return output.norm(dim=1)

    assert take(norm, torch.tensor([1])) is norm
    assert take(Unit(1), torch.tensor([1])) == Unit(1)


def test_unit_is_minus_one_entry_of_the_flattened_output():
    output = torch.arange(12.0).reshape(2, 2, 3)
    assert Unit(4)(output).tolist() == [-4.0, -10.0]
    assert Unit()(output).tolist() == [0.0, -6.0]
