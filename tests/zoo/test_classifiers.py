from __future__ import annotations

import pytest
import torch
from nets import mlp, rand, randn, refuses
from torch import nn

import latentopt as lo
from latentopt.classification import cross_entropy
from latentopt.jobs.quality import measure_classifier_quality
from latentopt.jobs.trainer import Hardware, quiet_trainer
from latentopt.zoo.architectures import ConvClassifier
from latentopt.zoo.classifiers import Adversary, ClassifierTraining
from latentopt.zoo.data import LabelledData


def linear(rows: int = 5) -> tuple[lo.Classifier, torch.Tensor]:
    """Two classes of a linear network on ``rows`` values, and the weight that the second has over the first."""
    module = nn.Linear(rows, 2, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(randn(2, rows))
    return lo.Classifier(module), (module.weight[1] - module.weight[0]).detach()


ADVERSARIES = [Adversary.fgsm(), Adversary.pgd(), Adversary(steps=3, step=0.1)]


def test_the_fast_adversary_reaches_the_optimum_of_a_linear_network_as_its_step_allows():
    """From noise d within eps, a step of 1.25 eps ends at min(1, d + 1.25) eps along the sign of the gradient."""
    network, weight = linear()
    x, y, eps = 0.3 + 0.4 * rand(40, 5), torch.arange(40) % 2, 0.1
    torch.manual_seed(7)
    found = Adversary.fgsm().examples(network, x, y, eps)
    torch.manual_seed(7)
    noise = 2 * torch.rand_like(x) - 1
    towards = weight.sign() * (1 - 2 * y)[:, None]  # lowers the logit of the class over the other's
    expected = x + eps * towards * (towards * noise + 1.25).clamp(max=1)
    assert (found - expected).abs().max() < 1e-12


def test_the_pgd_adversary_reaches_the_corner_of_a_linear_networks_box():
    """Eight steps of a quarter of the radius cross the ball, wherever they start."""
    network, weight = linear()
    x, y, eps = rand(40, 5), torch.arange(40) % 2, 0.3
    found = Adversary(steps=8).examples(network, x, y, eps)
    towards = weight.sign() * (1 - 2 * y)[:, None]
    assert (found - (x + eps * towards).clamp(0, 1)).abs().max() < 1e-12


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
@pytest.mark.parametrize("eps", [0.0, 0.05, 0.7])
def test_adversarial_images_lie_in_the_ball_and_the_box_and_are_no_better_than_random_ones(adversary, eps):
    network = lo.Classifier(mlp(6, 16, 3), mean=0.5, std=0.25)
    x, y = rand(20, 6, seed=3), torch.arange(20) % 3
    torch.manual_seed(1)
    found = adversary.examples(network, x, y, eps)
    torch.manual_seed(1)
    random = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    assert (found - x).abs().max() <= eps * (1 + 1e-12)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (cross_entropy(network(found), y) >= cross_entropy(network(random), y)).all()


def test_each_image_has_its_own_noise_and_the_network_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).train()
    network = lo.Classifier(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.full((3, 4), 0.5)
    found = Adversary(steps=1, step=1e-6).examples(network, x, torch.zeros(3, dtype=torch.long), 0.1)
    assert len({tuple(row.tolist()) for row in found}) == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("settings", [{"steps": 0}, {"step": 0.0}, {"warmup": 1.0}, {"warmup": -0.1}])
def test_wrong_settings_of_an_adversary_are_refused(settings):
    with refuses(next(iter(settings))):
        Adversary(**settings)


def test_a_radius_that_is_not_positive_is_refused():
    with refuses("eps"):
        ClassifierTraining(ConvClassifier(), ["a"] * 10, eps=0.0)


class Halves(LabelledData):
    """Images whose left or right half is the brighter one, by .4; the class says which."""

    def load(self, split: str, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        count = 320 if split == "train" else 64
        labels = torch.arange(count) % 2
        images = 0.3 + 0.2 * rand(count, 1, 8, 8, seed=int(split == "test"), dtype=torch.float32)
        images[:, :, :, 4:] += 0.4 * labels[:, None, None, None]
        images[:, :, :, :4] += 0.4 * (1 - labels)[:, None, None, None]
        return images[:limit], labels[:limit]


def fitted(adversary: Adversary | None) -> ClassifierTraining:
    torch.manual_seed(0)
    network = ConvClassifier((1, 8, 8), [4], [16], classes=2)
    module = ClassifierTraining(network, ["left", "right"], 0.1, adversary, mean=0.5, std=0.25, lr=1e-2)
    with quiet_trainer(Hardware("cpu"), max_epochs=2, enable_checkpointing=False, enable_progress_bar=False) as trainer:
        trainer.fit(module, Halves(batch_size=32, validation=64))
    assert trainer.callback_metrics["val/accuracy"] == 1
    return module


@pytest.mark.parametrize("adversary", [None, Adversary(steps=2, step=0.6, warmup=0.5)], ids=str)
def test_a_training_separates_two_classes_also_within_the_radius_and_its_seed_decides_the_weights(adversary):
    module = fitted(adversary)
    quality = measure_classifier_quality(module.network.eval(), Halves(), 0.1)
    assert quality["test_accuracy"] == quality["robust_accuracy"] == 1  # the classes are .4 apart
    assert quality["test_accuracy_standard_error"] == 0
    again = fitted(adversary)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_networks_quality_is_what_its_margins_say():
    """A threshold on one pixel: under eps the images keep their class whose pixel is further than eps from it."""

    class Threshold(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pixel = x[:, 0, 0, 0]
            return torch.stack([0.45 - pixel, pixel - 0.45], 1)

    data = Halves()
    images, labels = data.load("test")
    right = (images[:, 0, 0, 0] > 0.45) == labels.bool()
    far = (images[:, 0, 0, 0] - 0.45).abs() > 0.02
    quality = measure_classifier_quality(lo.Classifier(Threshold()).eval(), data, 0.02)
    assert quality["test_accuracy"] == round(right.double().mean().item(), 4)
    assert quality["robust_accuracy"] == round((right & far).double().mean().item(), 4)
    p = right.double().mean().item()
    assert quality["test_accuracy_standard_error"] == round((p * (1 - p) / 64) ** 0.5, 4)


@pytest.mark.parametrize(("shape", "channels"), [((1, 28, 28), [3, 4]), ((3, 32, 32), [2, 3, 4]), ((1, 9, 7), [])])
def test_a_conv_classifier_has_as_many_logits_as_classes_for_every_shape(shape, channels):
    network = ConvClassifier(shape, channels, [6], classes=5)
    assert network(torch.zeros(2, *shape)).shape == (2, 5)
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    assert kinds == ["Conv2d", "ReLU"] * len(channels) + ["Flatten", "Linear", "ReLU", "Linear", "Identity"]
