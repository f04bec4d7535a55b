from __future__ import annotations

import pytest
import torch
from nets import conv, mlp, near, rand, refuses
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from latentopt.objectives import L1, MSE, SSIM, Features, Fit, Huber, Unit, WeightedSum, take
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


def test_ssim_is_one_minus_that_of_scikit_image():
    image, target = rand(2, 1, 16, 20), (rand(2, 1, 16, 20) + 0.2 * rand(2, 1, 16, 20, seed=1)).clamp(0, 1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = [structural_similarity(a[0].numpy(), b[0].numpy(), **settings) for a, b in zip(image, target, strict=True)]
    near(SSIM()(image, target), 1 - torch.tensor(theirs, dtype=torch.float64), 1e-4)
    near(SSIM()(image, image), torch.zeros(2, dtype=torch.float64), 1e-9)
    near(SSIM()(image, target)[1:], SSIM()(image[1:], target[1:]), 1e-15)
    assert torch.autograd.gradcheck(
        lambda p: SSIM()(p, rand(2, 1, 12, 11, seed=1)), rand(2, 1, 12, 11).requires_grad_()
    )


@pytest.mark.parametrize("shape", [(1, 1, 10, 30), (1, 1, 30, 10), (1, 20, 20)])
def test_ssim_refuses_images_under_its_window(shape):
    with refuses("image", "11 x 11"):
        SSIM()(torch.zeros(shape), torch.zeros(shape))


def test_a_weighted_sum_is_one():
    image, target = rand(3, 1, 12, 12), rand(3, 1, 12, 12, seed=1)
    expected = 0.5 * SSIM()(image, target) + 3 * L1()(image, target)
    near(WeightedSum([SSIM(), MSE(), L1()], [0.5, 0, 3])(image, target), expected, 1e-15)
    assert hash(WeightedSum([L1()], [1])) == hash(WeightedSum((L1(),), (1,)))


@pytest.mark.parametrize(
    ("losses", "weights"), [([], []), ([MSE()], []), ([MSE()], [1, 2]), ([MSE()], [-1.0]), ([MSE()], [float("nan")])]
)
def test_weights_that_do_not_fit_are_refused(losses, weights):
    with refuses("WeightedSum.weights"):
        WeightedSum(losses, weights)


def test_features_are_those_of_the_layer_before_what_follows_works_in_place():
    network, image, target = conv(), rand(2, 1, 5, 5), rand(2, 1, 5, 5, seed=1)
    for layer, parts in {"0": 1, "1": 2, "2": 3, "5": 6, None: 8}.items():
        first = network[:parts]
        expected = (first(image) - first(target)).square().flatten(1).mean(1)
        near(Features(network, layer)(image, target), expected, 1e-14)
    assert torch.autograd.gradcheck(lambda p: Features(network, "4")(p, target), image.clone().requires_grad_())
    assert not any(module._forward_hooks for module in network.modules())


class Loose(nn.Module):
    """Has a layer that gives a tuple and one that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.idle = nn.MultiheadAttention(4, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x, x, x)[0]


def test_features_of_a_layer_that_gives_no_tensor_are_refused():
    x = rand(2, 4, dtype=torch.float32)
    for layer, words in {"pair": "gives tuple", "idle": "not called"}.items():
        with refuses("Features.layer", words):
            Features(Loose().eval(), layer)(x, x)
    with refuses("Features.layer", "one of 0, 1, 2"):
        Features(mlp(3, 4, 2), "3")
    with refuses("Features.classifier", "eval"):
        Features(mlp(3, 4, 2).train())
    with refuses("prediction"):
        Features(mlp(3, 4, 2))(rand(2, 3), rand(1, 3))


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
