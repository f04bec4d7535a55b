"""The losses against their formulas written out."""

from __future__ import annotations

import pytest
import torch
from nets import near, randn, refuses
from torch import Tensor

from latentopt.classification import Misclassified, Misclassify, cross_entropy, dlr, loss_function, margin, targeted_dlr

LABELS = torch.tensor([0, 3, 2, 1, 4, 4])


def logits(classes: int = 5) -> Tensor:
    return 3 * randn(6, classes, seed=4)


def test_the_cross_entropy_is_minus_the_log_of_the_labels_softmax():
    expected = torch.stack([-z.softmax(0)[y].log() for z, y in zip(logits(), LABELS, strict=True)])
    near(cross_entropy(logits(), LABELS), expected, 1e-12)


def test_the_margin_is_the_best_other_logit_minus_the_labels():
    expected = [max(z[:y].tolist() + z[y + 1 :].tolist()) - z[y].item() for z, y in zip(logits(), LABELS, strict=True)]
    near(margin(logits(), LABELS), torch.tensor(expected, dtype=torch.float64), 1e-12)


def test_the_ratio_is_that_of_its_paper_and_knows_no_scale():
    for z, y, ours in zip(logits(), LABELS, dlr(logits(), LABELS), strict=True):
        first, _, third, *_ = z.sort(descending=True).values
        other = max(z[:y].tolist() + z[y + 1 :].tolist())
        near(ours, -(z[y] - other) / (first - third), 1e-9)
    near(dlr(1000 * logits(), LABELS), dlr(logits(), LABELS), 1e-9)


def test_the_targeted_ratio_is_that_of_its_paper():
    targets = (LABELS + 2) % 5
    for z, y, t, ours in zip(logits(), LABELS, targets, targeted_dlr(logits(), LABELS, targets), strict=True):
        first, _, third, fourth, *_ = z.sort(descending=True).values
        near(ours, (z[y] - z[t]) / (first - (third + fourth) / 2), 1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_under_four_classes_the_ratio_is_the_margin(classes):
    labels = LABELS % classes
    assert torch.equal(dlr(logits(classes), labels), margin(logits(classes), labels))
    assert torch.equal(targeted_dlr(logits(classes), (labels + 1) % classes, labels), margin(logits(classes), labels))


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_what_is_minimised_is_less_where_the_attack_is_nearer(loss):
    """With the label's logit lowered, or the target's raised, and nothing else changed."""
    index, targets = torch.arange(6), (LABELS + 1) % 5
    lowered, raised = logits(), logits()
    lowered[index, LABELS] -= 0.01
    raised[index, targets] += 0.01
    assert (Misclassify(loss, LABELS)(lowered) < Misclassify(loss, LABELS)(logits())).all()
    aimed = Misclassify(loss, LABELS, targets)
    not_yet = logits().argmax(1) != targets
    assert (aimed(raised) < aimed(logits()))[not_yet].all()


def test_a_function_is_raised_away_from_the_labels_and_lowered_at_the_targets():
    def own(z: Tensor, y: Tensor) -> Tensor:
        return -z.gather(1, y[:, None])[:, 0]

    index = torch.arange(6)
    near(Misclassify(own, LABELS)(logits()), logits()[index, LABELS], 0)
    near(Misclassify(own, LABELS, LABELS - LABELS)(logits()), -logits()[:, 0], 0)


def test_rows_are_taken_from_labels_and_targets_alike():
    rows = torch.tensor([4, 1])
    for objective in (Misclassify("ce", LABELS), Misclassify("dlr", LABELS, (LABELS + 1) % 5)):
        near(objective.take(rows)(logits()[rows]), objective(logits())[rows], 0)
    for test in (Misclassified(LABELS), Misclassified(LABELS, aimed=True)):
        assert torch.equal(test.take(rows)(logits()[rows], logits()[rows]), test(logits(), logits())[rows])


def test_of_equal_logits_the_first_is_predicted():
    same = torch.zeros(2, 3)
    assert Misclassified(torch.tensor([0, 1]))(same, same).tolist() == [False, True]
    assert Misclassified(torch.tensor([0, 1]), aimed=True)(same, same).tolist() == [True, False]


def test_an_unknown_loss_is_refused():
    with refuses("loss"):
        loss_function("hinge")  # pyright: ignore[reportArgumentType]
