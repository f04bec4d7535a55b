"""What attacks take: arrays and lists, limits and ranges by feature, masks; going on; gradients that are dead."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from nets import mlp, rand, refill, refuses
from torch import Tensor, nn
from torch.nn import functional as F

import latentopt as lo
from latentopt.sets import length

NET = mlp(6, 16, 4, seed=4, dtype=torch.float32)
X = rand(5, 6, seed=1).float()
Y = NET(X).argmax(1)
QUICK: dict[str, Any] = {"steps": 2}
TASKS = {
    "attack": lambda x, y, eps, model=NET: lo.attack(model, x, y, eps, optimizer="pgd", **QUICK).x,
    "check_attack": lambda x, y, eps, model=NET: lo.check_attack(model, x, y, eps, **QUICK).success,
    "robustness": lambda x, y, eps, model=NET: lo.robustness(model, x, y, eps, eps, queries=3, **QUICK).accuracy,
    "minimum_norm": lambda x, y, eps, model=NET: lo.minimum_norm(model, x, y, search_steps=2, **QUICK).x,
    "carlini_wagner": lambda x, y, eps, model=NET: lo.carlini_wagner(model, x, y, binary_search_steps=1, **QUICK).x,
    "certify_robustness": lambda x, y, eps, model=NET: [c.bound for c in lo.certify_robustness(model, x, y, eps)],
}
GIVEN = {
    "lists": (X.tolist(), Y.tolist(), 0.02),
    "arrays": (X.numpy(), Y.numpy().astype(np.int32), np.float32(0.02)),
    "rows in a list": (list(X), list(Y), [0.02] * 5),
    "another float": (X.double(), Y.int(), torch.tensor(0.02)),
    "a reversed array": (X.numpy()[::-1][::-1], Y.byte(), np.full(5, 0.02)),
}


@cache
def reference(task: str):
    return TASKS[task](X, Y, 0.02)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("given", GIVEN)
def test_arrays_lists_and_other_dtypes_are_taken(task, given):
    x, y, eps = GIVEN[given]
    expected, found = reference(task), TASKS[task](x, y, eps)
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == pytest.approx(expected, abs=1e-6)


REFUSED = {
    "text": ("x", ("mnist", Y, 0.1)),
    "bytes": ("x", ((255 * X).byte(), Y, 0.1)),
    "one-hot": ("y", (X, F.one_hot(Y, 4), 0.1)),
    "labels of text": ("y", (X, ["cat"] * 5, 0.1)),
    "a radius of text": ("eps", (X, Y, "8/255")),
    "radii of features alone": ("eps", (X, Y, torch.full((6,), 0.1))),
    "radii beyond the range": ("eps", (X, Y, [0.1, 0.1, 2.0, 0.1, 0.1])),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", REFUSED)
def test_others_are_refused_in_a_short_line(task, case):
    name, arguments = REFUSED[case]
    if name == "eps" and task in ("minimum_norm", "carlini_wagner"):
        return
    with pytest.raises(lo.InputError) as caught:
        TASKS[task](*arguments)
    assert caught.value.name == name
    assert len(str(caught.value)) < 250


def test_a_message_does_not_list_every_label():
    with refuses("y", "classes from 0 to 3, got 7"):
        lo.attack(NET, X.repeat(400, 1), torch.full((2000,), 7), 0.1)


@pytest.mark.parametrize("task", TASKS)
def test_inputs_beyond_their_range_by_rounding_are_taken_by_all(task):
    TASKS[task](X.index_fill(0, torch.tensor([0]), 1 + 5e-7), Y, 0.02)


@pytest.mark.parametrize("task", TASKS)
def test_half_precision_is_taken_by_all(task):
    TASKS[task](X.bfloat16(), Y, 0.02, nn.Sequential(*NET).bfloat16())
    NET.float()


LIMITS = torch.tensor([0.3, 0.0, 0.2, 0.0, 0.1, 0.3])
FREE = LIMITS > 0


@pytest.mark.parametrize(
    "eps", [LIMITS[None], LIMITS.expand(5, 6), [LIMITS.tolist()]], ids=["(1, n)", "(B, n)", "list"]
)
@pytest.mark.parametrize("optimizer", ["pgd", "square", "frank-wolfe", "adr-gd"])
def test_features_have_limits_of_their_own(eps, optimizer):
    found = lo.attack(NET, X, Y, eps, optimizer=optimizer, batch_size=3, steps=10)
    assert ((found.x - X).abs() <= LIMITS).all()
    assert found.eps.shape == X.shape
    assert found.success.any()
    assert (found.margin >= lo.attack(NET, X, Y, 0.0).margin).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "mask", [FREE, FREE.expand(5, 6), FREE.numpy(), FREE.int().tolist()], ids=["n", "Bn", "np", "list"]
)
def test_features_outside_a_mask_stay(mask, norm):
    eps = 0.3 if norm == "linf" else 0.5
    found = lo.attack(NET, X, Y, eps, norm=norm, mask=mask, optimizer="pgd", steps=10, start="random", batch_size=2)
    assert torch.equal(found.x[:, ~FREE], X[:, ~FREE])
    assert found.success.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_smallest_radius_and_the_checks_follow_a_mask(norm):
    eps = 0.3 if norm == "linf" else 0.5
    found = lo.attack(NET, X, Y, eps, norm=norm, mask=FREE, optimizer="pgd", steps=10)
    nearest = lo.minimum_norm(NET, X, Y, norm=norm, mask=FREE, search_steps=5, steps=10)
    assert torch.equal(nearest.x[:, ~FREE], X[:, ~FREE])
    assert (nearest.eps[found.success] <= found.distance[found.success]).all()
    assert lo.check_attack(NET, X, Y, eps, norm=norm, mask=FREE, steps=3).findings == ()


def test_a_masked_l2_ball_is_searched_to_its_border():
    """Of a linear network the best point within a mask is known: eps along the gradient's free part."""
    linear, eps = nn.Linear(50, 2), 0.05
    x, mask = torch.full((2, 50), 0.5), torch.arange(50) < 3
    y = linear(x).argmax(1)
    found = lo.attack(linear, x, y, eps, norm="l2", mask=mask, optimizer="pgd", loss="margin", steps=40)
    slope = (linear.weight[0] - linear.weight[1])[mask].norm()
    gained = found.margin - lo.attack(linear, x, y, 0.0, norm="l2").margin
    torch.testing.assert_close(gained.detach(), (eps * slope).expand(2).detach(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("mask", [[1, 0, 2, 0, 1, 1], torch.ones(5, dtype=torch.bool), "all"], ids=str)
def test_what_is_no_mask_is_refused(mask):
    with refuses("mask"):
        lo.attack(NET, X, Y, 0.1, mask=mask)


LOW, HIGH = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 3.0, 2.5])
RANGES = {
    "lists": (LOW.tolist(), HIGH.tolist()),
    "tensors": (LOW, HIGH),
    "arrays": (LOW.numpy(), HIGH.numpy()),
    "of the input's shape": (LOW[:, None, None], HIGH[:, None, None].expand(3, 4, 4)),
}


def of_three_ranges(given: str) -> tuple[lo.Classifier, Tensor]:
    """A classifier of pictures whose channels have ranges of their own, and four pictures of whole bytes."""
    module = refill(nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3)), 0, torch.float32)
    model = lo.Classifier(module, mean=LOW.tolist(), std=(HIGH - LOW).tolist(), input_range=RANGES[given]).eval()
    shares = rand(4, 3, 4, 4).float().mul(255).round().div(255)
    return model, LOW[:, None, None] + (HIGH - LOW)[:, None, None] * shares


@pytest.mark.parametrize("given", RANGES)
def test_a_range_may_differ_by_channel(given):
    model, x = of_three_ranges(given)
    found = lo.attack(model, x, model(x).argmax(1), 3.0, optimizer="pgd", early_stop=False, steps=3)
    assert torch.equal(found.x.amin((0, 2, 3)), LOW)
    assert torch.equal(found.x.amax((0, 2, 3)), HIGH)
    with refuses("x", "input_range"):
        lo.attack(model, x + 20, model(x).argmax(1), 0.1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nearest_successes_and_their_files_are_found_in_ranges_that_differ(norm, tmp_path):
    model, x = of_three_ranges("lists")
    found = lo.minimum_norm(model, x, model(x).argmax(1), norm=norm, search_steps=6, steps=10)
    wagner = lo.carlini_wagner(model, x, model(x).argmax(1), binary_search_steps=2, steps=20)
    for result in (found, wagner):
        assert result.success.all()
        assert torch.equal(result.x.clamp(LOW[:, None, None], HIGH[:, None, None]), result.x)
    still = lo.save_png(tmp_path, found, model)
    assert still is not None
    assert still.all()


def test_one_end_of_a_range_may_be_a_number():
    model = lo.Classifier(NET, input_range=(0, [1, 2, 1, 2, 1, torch.inf]))
    found = lo.attack(model, X, Y, 1.5, optimizer="pgd", early_stop=False, steps=5)
    assert found.x.amax(0).max() > 1
    assert (found.x[:, ::2] <= 1).all()
    assert lo.carlini_wagner(model, X, Y, binary_search_steps=1, steps=10).x.min() >= 0


def test_a_range_that_does_not_fit_the_inputs_is_refused():
    with refuses("input_range", "(6,)"):
        lo.attack(lo.Classifier(NET, input_range=(LOW, HIGH)), X, Y, 0.1)


@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("start", ["clean", "random"])
def test_an_attack_that_goes_on_raises_its_loss_further(start, targets):
    settings = {"optimizer": "pgd", "steps": 20, "start": start, "targets": targets, "batch_size": 2}
    y = Y.index_copy(0, torch.tensor([0]), (Y[:1] + 1) % 4)  # the first is misclassified
    stopped = lo.attack(NET, X, y, 0.3, **settings)
    on = lo.attack(NET, X, y, 0.3, early_stop=False, **settings)
    assert on.success.tolist() == stopped.success.tolist()
    assert on.margin.mean() > stopped.margin.mean()
    if targets is None:
        assert (on.loss >= stopped.loss).all()
    assert (on.backwards == 20 * (targets or 1)).all()


def test_going_on_returns_the_greatest_loss_whatever_the_margin():
    def spread(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.var(1)

    found = lo.attack(NET, X, Y, 0.3, optimizer="pgd", loss=spread, early_stop=False, steps=30)
    assert (found.logits.var(1) > found.clean_logits.var(1)).all()
    with refuses("early_stop"):
        lo.minimum_norm(NET, X, Y, early_stop=False)


class Rounding(nn.Module):
    """A network behind a rounding of its inputs, through which no gradient passes."""

    def __init__(self, levels: int = 8) -> None:
        super().__init__()
        self.module, self.levels = NET, levels

    def forward(self, x: Tensor) -> Tensor:
        return self.module((self.levels * x).round() / self.levels)


def test_where_gradients_are_dead_the_portfolio_searches_without():
    model = Rounding()
    y = model(X).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lo.attack(model, X, y, 0.3)
    assert (found.stage[found.success] == 5).any()
    assert "square" in found.meta["stages"][5]


def test_where_gradients_live_the_portfolio_has_five_stages():
    found = lo.attack(NET, X, Y, 1e-3)
    assert not found.success.any()
    assert len(found.meta["stages"]) == 5
    assert int(found.forwards.max()) < 1000


@pytest.mark.parametrize(
    ("run", "advice"),
    [
        (lambda m, y: lo.attack(m, X, y, 0.1, optimizer="pgd", steps=3), "try the loss margin, or soft gates"),
        (
            lambda m, y: lo.attack(m, X, y, 0.1, optimizer="pgd", loss="margin", steps=3),
            "try soft gates (adr-gd-soft-attack",
        ),
        (lambda m, y: lo.attack(m, X, y, 0.1, optimizer="adr-gd", loss="margin", steps=3), "try square"),
        (lambda m, y: lo.minimum_norm(m, X, y, search_steps=4, steps=3), "try soft gates"),
        (lambda m, y: lo.minimum_norm(m, X, y, norm="l2", search_steps=4, steps=3), "try square"),
    ],
)
def test_one_warning_names_what_was_not_tried(run, advice):
    model = Rounding(2)
    with pytest.warns(lo.AttackWarning) as caught:
        run(model, model(X).argmax(1))
    assert len(caught) == 1
    assert advice in str(caught[0].message)
    assert caught[0].filename == __file__


class Reference:
    """A loss that compares logits with those of each input, shared out by ``take``."""

    def __init__(self, logits: Tensor, has_take: bool) -> None:
        self.logits = logits
        if has_take:
            self.take = lambda rows: Reference(logits[rows], True)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits - self.logits).square().sum(1)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_loss_may_hold_references_of_each_sample(batch_size):
    settings = {"optimizer": "pgd", "start": "random", "steps": 20, "batch_size": batch_size}
    found = lo.attack(NET, X, Y, 0.3, loss=Reference(NET(X).detach(), True), **settings)
    assert found.success.any()  # so rows left the batch
    with refuses("loss", "take(rows)"):
        lo.attack(NET, X, Y, 0.3, loss=Reference(NET(X).detach(), False), **settings)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_flat_network_of_an_open_range_has_no_nearest_success(norm):
    flat = lo.Classifier(nn.Linear(6, 3), input_range=(-torch.inf, torch.inf)).eval()
    nn.init.zeros_(flat.module.weight)
    with pytest.warns(lo.AttackWarning):
        found = lo.minimum_norm(flat, X, flat(X).argmax(1), norm=norm, search_steps=3, steps=3)
    assert not found.success.any()
    assert found.eps.isfinite().all()


def test_files_of_nearest_successes_are_successes(tmp_path):
    """Rounded into their Linf balls, nearly all would fall short of the boundary."""
    model = refill(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)), 1, torch.float32)
    x = rand(16, 1, 8, 8).float().mul(255).round() / 255
    found = lo.minimum_norm(model, x, model(x).argmax(1), search_steps=8, steps=10)
    still = lo.save_png(tmp_path, found, model)
    assert still is not None
    assert torch.equal(still, found.success)
    files = torch.stack([lo.load_images(path, shape=(1, 8, 8))[0] for path in sorted(tmp_path.iterdir())])
    assert (length(files - x, "linf") <= found.eps + 1 / 255 + 1e-6).all()
    assert lo.save_png(tmp_path / "again", found, model, verify=False) is None


def test_a_start_is_a_result_an_array_or_a_list():
    first = lo.attack(NET, X, Y, 0.2, optimizer="pgd", steps=3)
    settings = {"optimizer": "pgd", "steps": 3}
    expected = lo.attack(NET, X, Y, 0.3, start=first.x, **settings).x
    for start in (first, first.x.numpy(), first.x.tolist()):
        assert torch.equal(lo.attack(NET, X, Y, 0.3, start=start, **settings).x, expected)


WRONG = {
    "a model's name": ("model", lambda: lo.attack("mnist-cnn", X, Y, 0.1)),  # pyright: ignore[reportArgumentType]
    "a misspelt name": ("step", lambda: lo.attack(NET, X, Y, 0.1, step=3)),  # pyright: ignore[reportCallIssue]
    "a number for a switch": ("early_stop", lambda: lo.attack(NET, X, Y, 0.1, early_stop=3)),  # pyright: ignore
    "no radius": ("eps", lambda: lo.attack(NET, X, Y)),  # pyright: ignore[reportCallIssue]
    "a misspelt name of the attack": ("restart", lambda: lo.minimum_norm(NET, X, Y, restart=2)),
    "steps of text": ("steps", lambda: lo.check_attack(NET, X, Y, 0.1, steps="many")),  # pyright: ignore
    "a folder of numbers": ("folder", lambda: lo.save_png(3, lo.attack(NET, X, Y, 0.0), NET)),  # pyright: ignore
    "no norm": ("norm", lambda: lo.minimum_norm(NET, X, Y, norm="l0")),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_of_a_wrong_type_is_named(case):
    name, call = WRONG[case]
    with refuses(name):
        call()
