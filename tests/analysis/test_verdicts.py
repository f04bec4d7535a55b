"""What `robustness` and `check_attack` say of few inputs, of two classes, of targets, and in any dtype."""

from __future__ import annotations

import pytest
import torch
from labelled import Linear, classes_of, images
from nets import linear, mlp, rand, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.analysis.certify import certify_robustness
from latentopt.analysis.robustness import Robustness, robustness
from latentopt.attacks.sanity import check_attack
from latentopt.attacks.stages import PORTFOLIO

QUICK = {"steps": 5, "queries": 20}


def robust(clean: int, hidden: int, count: int, classes: int = 10, zero: bool = False) -> Robustness:
    """So many of ``count`` inputs are right, and of those Square alone breaks ``hidden``."""
    at = torch.arange(count)
    right = dict.fromkeys(("clean", "pgd", "apgd"), at < clean)
    return Robustness({**right, "square": at < clean - hidden}, torch.full((count,), float(not zero)), classes)


@pytest.mark.parametrize(
    ("clean", "count", "classes", "failure"),
    [
        (99, 100, 2, ""),
        (60, 100, 2, ""),
        (50, 100, 2, "not trained"),
        (8, 10, 2, ""),
        (45, 100, 3, ""),
        (19, 100, 10, "not trained"),
        (20, 100, 10, ""),
        (0, 1, 2, ""),  # one input shows nothing
        (0, 1, 10, ""),
        (0, 5, 2, "not trained"),
        (1, 1000, 1000, "not trained"),
        (2, 1000, 1000, ""),
    ],
)
def test_a_classifier_is_trained_where_it_is_better_than_chance(clean, count, classes, failure):
    assert robust(clean, 0, count, classes).failure == failure
    assert robust(clean, 0, count, classes, zero=True).failure == failure.replace("not trained", "vanishing gradients")


@pytest.mark.parametrize(
    ("hidden", "count", "failure"),
    [
        (1, 4, ""),
        (1, 16, ""),  # 6 %, but of 16 inputs any share from 1 % to 28 % looks so
        (2, 16, ""),
        (4, 16, "masked gradients"),
        (10, 10, "masked gradients"),
        (12, 200, ""),
        (20, 200, "masked gradients"),
        (60, 1000, ""),
        (70, 1000, "masked gradients"),
    ],
)
def test_gradients_are_masked_where_the_share_of_the_inputs_is_surely_over_a_twentieth(hidden, count, failure):
    assert robust(count, hidden, count).failure == failure


def balanced() -> nn.Sequential:
    """One logit, as often positive as negative."""
    module = mlp(6, 8, 1, seed=1)
    with torch.no_grad():
        linear(module, 2).bias.sub_(module(images(9)).median())
    return module


def two_logits() -> lo.Classifier:
    """A pair of logits, (0, z)."""
    pair = nn.Linear(1, 2, dtype=torch.float64)
    with torch.no_grad():
        pair.weight.copy_(torch.tensor([[0.0], [1.0]]))
        pair.bias.zero_()
    return lo.Classifier(nn.Sequential(balanced(), pair).eval())


def test_one_logit_is_that_of_the_second_of_two_classes():
    one, two, x = lo.Classifier(balanced()), two_logits(), images(8)
    y = classes_of(two, x)
    assert torch.equal(one(x), two(x))
    torch.testing.assert_close(one(x).softmax(1)[:, 1], one.module(x)[:, 0].sigmoid())
    for optimizer in ("portfolio", "square"):
        found, same = (lo.attack(model, x, y, 0.2, optimizer=optimizer) for model in (one, two))
        assert torch.equal(found.predicted, same.predicted)
    assert [c.status for c in certify_robustness(one, x, y, 0.05)] == [
        c.status for c in certify_robustness(two, x, y, 0.05)
    ]
    assert robustness(one, x, y, 0.2, **QUICK).accuracy == robustness(two, x, y, 0.2, **QUICK).accuracy
    assert lo.minimum_norm(one, x, y).success.all()
    assert lo.carlini_wagner(one, x, y, binary_search_steps=3, steps=20).clean_logits.shape == (8, 2)


def converted(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y), (x, y.int()), (x.half(), y.to(torch.uint8)), (x + 5e-7, y)]


def test_robustness_and_the_checks_convert_as_the_attack_does():
    model, x = mlp(6, 8, 4, seed=1, dtype=torch.float32), images().float()
    x[:, 0], x[:, 1] = 1.0, 0.0
    y = classes_of(model, x)
    shares = robustness(model, x, y, 0.2, 0.4, **QUICK).accuracy
    success = check_attack(model, x, y, 0.2, steps=5).success
    statuses = [c.status for c in certify_robustness(model, x, y, 0.01)]
    for other, labels in converted(x, y):
        assert robustness(model, other, labels, 0.2, 0.4, **QUICK).accuracy == pytest.approx(shares, abs=0.1)
        assert check_attack(model, other, labels, 0.2, steps=5).success == pytest.approx(success, abs=0.1)
        assert [c.status for c in certify_robustness(model, other, labels, 0.01)] == statuses


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("targets", ["random", "least-likely"])
def test_chance_is_asked_for_the_class_that_the_attack_aims_at(targets, dtype):
    """Half of the inputs lie so near to a border that chance crosses it, but never to the least likely class."""
    model, x = Linear().to(dtype).eval(), images(40).to(dtype)
    y = classes_of(model, x)
    check = check_attack(model, x, y, 0.1, targets=targets, steps=10)
    found = lo.attack(model, x, y, 0.1, targets=targets, optimizer="pgd", steps=10)
    assert check.success["as asked"] == found.success.double().mean()
    assert check.success["by chance"] <= check.success["as asked"]
    assert not [finding for finding in check.findings if finding.startswith("by chance")]


def test_wrong_radii_labels_and_portfolios_are_named():
    model, x = Linear(), images(4)
    y = classes_of(model, x)
    with refuses("eps_l2"):
        robustness(model, x, y, 0.1, 100.0)
    with refuses("eps", "from 0 to 1"):
        robustness(model, x, y, 2.0)
    with refuses("y"):
        robustness(model, x, y.double(), 0.1)
    with refuses("x"):
        check_attack(model, rand(4, 6) + 1, y, 0.1)
    for fixed in ("portfolio", PORTFOLIO, "fgsm"):
        with refuses("optimizer"):
            check_attack(model, x, y, 0.1, optimizer=fixed)


def of_five() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that predicts only some of its five classes anywhere, inputs and what it takes them for."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 5)).eval()
    x = torch.rand(12, 6)
    return network, x, network(x).argmax(1)


@pytest.mark.parametrize("aim", ["least-likely", "random", "next"])
def test_that_a_class_occurs_nowhere_is_no_finding(aim):
    network, x, y = of_five()
    settings = {"targeted": True} if aim == "next" else {"targets": aim}
    check = check_attack(network, x, (y + 1) % 5 if aim == "next" else y, 0.3, steps=20, **settings)
    assert check.success["any input"] < 1
    assert check.findings == ()


def test_that_a_constant_network_resists_is_no_finding():
    constant = nn.Linear(6, 3).eval()
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    check = check_attack(constant, rand(12, 6).float(), torch.ones(12).long(), 0.3, steps=20)
    assert check.success["any input"] == 0.0
    assert check.findings == ()


@pytest.mark.parametrize("targeted", [False, True])
def test_that_a_class_of_other_inputs_is_not_reached_is_a_finding(targeted):
    class Rounded(nn.Module):
        """The first input decides, but without a slope."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0].round() - 0.5, 0.5 - x[:, 0].round()], 1) + 0 * x[:, :1]

    x = rand(12, 6).float()
    y = Rounded()(x).argmax(1)
    with pytest.warns(lo.AttackWarning, match="any input: only 0.0% succeed"):
        check_attack(Rounded().eval(), x, 1 - y if targeted else y, 1e-3, steps=5, targeted=targeted)
