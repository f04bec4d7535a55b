"""What holds something for each sample and cannot follow it is refused at the border, whatever it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from loops import NAMES
from nets import Counted, mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, Problem, Stage, attack, solve
from latentopt.attacks.stages import Portfolio
from latentopt.independence import holds, require_independent
from latentopt.networks.checks import NetworkWarning
from latentopt.sets import Box

B = 3
SHIFTS = randn(B, 2, seed=1)
SCALES = [1.0, 2.0, 3.0]
each_number = pytest.mark.parametrize("restarts", [1, 2, B])


def square(y: Tensor) -> Tensor:
    return y.square().sum(1)


def cycled(held: Tensor, count: int) -> Tensor:
    """Of a function that fits any number of rows."""
    return held[torch.arange(count) % len(held)]


class Shifted(nn.Module):
    """A network with a buffer of a row a sample."""

    def __init__(self, cycles: bool) -> None:
        super().__init__()
        self.cycles = cycles
        self.register_buffer("shifts", SHIFTS)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.shifts, Tensor)
        return x + (cycled(self.shifts, len(x)) if self.cycles else self.shifts)


def shifted(x: Tensor, shifts: Tensor) -> Tensor:
    return x + shifts


HOLDING: dict[str, tuple[str, dict]] = {
    "objective of a target": ("objective", {"objective": lambda y: square(y - SHIFTS)}),
    "objective that cycles": ("objective", {"objective": lambda y: square(y - cycled(SHIFTS, len(y)))}),
    "objective of weights": ("objective", {"objective": lambda y: square(y) * torch.tensor(SCALES)}),
    "objective of an array": ("objective", {"objective": lambda y: square(y - torch.from_numpy(SHIFTS.numpy()))}),
    "network with a buffer": ("network", {"network": Shifted(cycles=False).eval()}),
    "network with a buffer that cycles": ("network", {"network": Shifted(cycles=True).eval()}),
    "network with a global": ("network", {"network": lambda x: x + SHIFTS}),
    "partial network": ("network", {"network": partial(shifted, shifts=SHIFTS)}),
    "network of networks": ("network", {"network": nn.Sequential(nn.Identity(), Shifted(cycles=True)).eval()}),
    "penalty": ("penalty", {"penalty": lambda x: square(x - SHIFTS)}),
    "success test": ("success", {"success": lambda value, y: value < torch.tensor(SCALES)}),
    "success test that cycles": ("success", {"success": lambda value, y: value < 1e9 * cycled(SHIFTS, len(y))[:, 0]}),
}


THRESHOLDS = torch.tensor([1e-1, 1e-4, 1e-8])


class Rowwise(nn.Module):
    """A network of another module for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleList(mlp(2, 2, seed=seed, dtype=torch.float32) for seed in range(B))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([module(row) for module, row in zip(self.each, x, strict=False)])


def mixing(y: Tensor) -> Tensor:
    return square(y) + 5 * square(y - y.mean(0))


HOLDING |= {
    "success test of thresholds": ("success", {"success": lambda value, y: value < THRESHOLDS[: len(y)]}),
    "success test against the mean": ("success", {"success": lambda value, y: value < value.mean()}),
    "network with a module for each": ("network", {"network": Rowwise().eval()}),
    "objective that mixes": ("objective", {"objective": mixing}),
    "penalty that mixes": ("penalty", {"penalty": mixing}),
}


@each_number
@pytest.mark.parametrize(("name", "functions"), HOLDING.values(), ids=HOLDING)
def test_functions_that_hold_something_for_each_sample_are_refused(name, functions, restarts):
    problem = Problem(**{"network": nn.Identity(), "objective": square, "shape": (2,), "batch": B, **functions})
    steps = []
    with refuses(name, "take(rows)"):
        solve(problem, "gd", steps=50, restarts=restarts, callbacks=[steps.append])
    assert not steps


@pytest.mark.parametrize("name", NAMES)
def test_every_method_meets_them_at_its_first_step(name):
    problem = Problem(mlp(2, 3, 2), lambda y: square(y - SHIFTS), (2,), B, Box(-1.0, 1.0), like=SHIFTS)
    with refuses("objective", "take(rows)"):
        solve(problem, name, steps=9, restarts=2)


def test_one_sample_may_have_what_it_wants():
    held = {"network": lambda x: x + SHIFTS[:1], "objective": lambda y: square(y) * torch.tensor(SCALES[:1])}
    found = solve(Problem(shape=(2,), batch=1, like=SHIFTS, **held), "gd", steps=50, restarts=3)
    near(found.x, -SHIFTS[:1], 1e-2)


@pytest.mark.parametrize(
    "functions",
    [
        {"network": lambda x: x + torch.randn(x.shape, dtype=x.dtype)},
        {"objective": lambda y: square(y * torch.rand(y.shape, dtype=y.dtype))},
        {"network": nn.Sequential(nn.Linear(2, B), nn.BatchNorm1d(B)).double().eval()},
        {"objective": lambda y: square(y) * torch.tensor([2.0]).double()},
        {"objective": lambda y: square(y - torch.tensor(SCALES).double()[:2])},
        {"success": lambda value, y: value < 1e-3},
        {"penalty": lambda x: 0.1 * square(x)},
    ],
)
def test_randomised_functions_and_those_of_each_sample_by_itself_are_not(functions):
    settings = {"network": nn.Identity(), "objective": square, "shape": (2,), "batch": B, "like": SHIFTS, **functions}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetworkWarning)  # that they are randomised
        found = solve(Problem(**settings), "gd", steps=4, restarts=2)
    assert found.value.shape == (B,)


def test_looking_takes_no_random_numbers_and_is_no_evaluation():
    network = Counted(mlp(2, 4, 2))
    problem = Problem(network, lambda y: square(y) + 0 * torch.rand(()), (2,), B, like=SHIFTS)
    torch.manual_seed(5)
    found = solve(problem, "gd", steps=1)
    after = torch.rand(1)
    assert int(found.forwards.sum()) == network.forwards
    torch.manual_seed(5)
    torch.rand(3)  # of the step, the last iterate and what is returned
    assert torch.equal(after, torch.rand(1))


def test_an_objective_whose_values_are_rounding_is_not_misjudged():
    exact = Problem(mlp(2, 64, 64, dtype=torch.float32), lambda y: (y - y.detach()).square().mean(1), (2,), B)
    assert solve(exact, "gd", steps=2).value.tolist() == [0.0] * B
    target = torch.rand(64)
    problem = Problem(nn.Identity(), lambda y: (y - target).square().mean(1), (64,), B)
    start = target.expand(B, 64) * (1 + 1e-7)
    assert solve(problem, "gd", steps=2, start=start).value.max() < 1e-12


def test_errors_that_a_function_has_for_every_batch_stay_as_they_are():
    with refuses("shape", "mat1 and mat2"):
        solve(Problem(nn.Linear(3, 2).eval(), square, (2,), B), "gd", steps=2, restarts=2)
    with refuses("objective", "one value a sample"):
        solve(Problem(nn.Identity(), torch.sum, (2,), B), "gd", steps=2, restarts=2)
    with refuses("network", "one output a sample"):
        solve(Problem(lambda x: x[:1], square, (2,), B), "gd", steps=2, restarts=2)


def generator() -> Generator:
    layers = nn.Sequential(mlp(2, 8, 16), nn.Unflatten(1, (1, 4, 4)))
    return Generator(layers, latent_shape=(2,), output_range=(-20.0, 20.0))


MASKS = (rand(B, 1, 4, 4) > 0.5).double()
WRONG: dict[str, tuple[str, dict]] = {
    "masks": ("operator", {"operator": lambda x: x * MASKS}),
    "masks that cycle": ("operator", {"operator": lambda x: x * cycled(MASKS, len(x))}),
    "weights": ("loss", {"loss": lambda a, b: (a - b).square().flatten(1).mean(1) * torch.tensor(SCALES).double()}),
    "weights that cycle": (
        "loss",
        {"loss": lambda a, b: ((a - b) * cycled(MASKS, len(a))).square().flatten(1).mean(1)},
    ),
}


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(("name", "functions"), WRONG.values(), ids=WRONG)
def test_reconstruct_refuses_them_before_it_learns_a_start(name, functions, measured):
    network = Counted(generator().module)
    counted = Generator(network, latent_shape=(2,), output_range=(-20.0, 20.0))
    with refuses(name, "take(rows)"):
        lo.reconstruct(counted, rand(B, 1, 4, 4), measured=measured, fast=False, **functions)
    assert network.forwards <= 2  # the shape of an image


def test_an_operator_of_another_number_of_images_is_refused():
    for count in (1, 2, 4):
        with refuses("operator"):
            lo.reconstruct(generator(), rand(count, 1, 4, 4), operator=lambda x: x * MASKS, steps=1)


LINEAR = nn.Linear(4, 3).double().eval()
X, Y = rand(B, 4), torch.tensor([0, 1, 2])


def holding(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none") * torch.tensor(SCALES)


class Weighted:
    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none") * self.weights

    def take(self, rows: Tensor) -> Weighted:
        return Weighted(self.weights[rows])


ATTACKS: dict[str, Callable] = {
    "attack": lambda loss: attack(LINEAR, X, Y, 0.3, optimizer="pgd", loss=loss, steps=4),
    "attack in batches": lambda loss: attack(LINEAR, X, Y, 0.3, optimizer="apgd", loss=loss, steps=4, batch_size=2),
    "minimum_norm": lambda loss: lo.minimum_norm(LINEAR, X, Y, loss=loss, steps=4, search_steps=3),
    "check_attack": lambda loss: lo.check_attack(LINEAR, X, Y, 0.3, loss=loss, steps=4),
    "portfolio": lambda loss: attack(LINEAR, X, Y, 0.3, optimizer=Portfolio((Stage(loss=loss), Stage(loss=loss)))),
}


@pytest.mark.filterwarnings("ignore::latentopt.AttackWarning")
@pytest.mark.parametrize("run", ATTACKS.values(), ids=ATTACKS)
def test_an_attacks_loss_that_cannot_follow_its_samples_is_refused_and_one_that_can_is_not(run):
    with refuses("loss", "take(rows)"):
        run(holding)
    run(Weighted(torch.tensor(SCALES).double()))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 2}, {"optimizer": "pgd", "restarts": 2, "steps": 10}])
def test_an_attack_follows_the_loss_and_the_model_of_each_sample(settings):
    class Own:
        """Logits of a sample's own weights."""

        def __init__(self, W: Tensor) -> None:
            self.W = W

        def __call__(self, x: Tensor) -> Tensor:
            return torch.einsum("bkn,bn->bk", self.W[torch.arange(len(x)) % len(self.W)], x - 0.5)

        def take(self, rows: Tensor) -> Own:
            return Own(self.W[rows])

    W, x = randn(5, 3, 4, seed=2), rand(5, 4, seed=4)
    y, eps = Own(W)(x).argmax(1), torch.tensor([0.02, 0.5, 0.1, 0.9, 0.2]).double()
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).double()
    own = {"loss": Weighted(weights)} if "optimizer" in settings else {}
    together = attack(Own(W), x, y, eps, **{**settings, **own})
    settings = {**settings, "batch_size": None}
    assert 0 < int(together.success.sum()) < 5
    for row in range(5):
        own = {"loss": Weighted(weights[[row]])} if "optimizer" in settings else {}
        alone = attack(Own(W[[row]]), x[[row]], y[[row]], eps[[row]], **{**settings, **own})
        near(together.x[[row]], alone.x, 1e-9)
        assert torch.equal(together.backwards[[row]], alone.backwards)
    near(lo.minimum_norm(Own(W), x, y).eps[[3]], lo.minimum_norm(Own(W[[3]]), x[[3]], y[[3]]).eps, 1e-9)
    far = lo.carlini_wagner(Own(W), x, y, binary_search_steps=2, steps=20)
    near(far.eps[[3]], lo.carlini_wagner(Own(W[[3]]), x[[3]], y[[3]], binary_search_steps=2, steps=20).eps, 1e-9)


def test_an_attacked_model_that_cannot_follow_its_samples_is_refused():
    shifts = randn(B, 4)
    with refuses("model", "take(rows)"):
        attack(lambda x: LINEAR(x + shifts), X, Y, 0.3)
    with refuses("model", "take(rows)"):
        attack(lambda x: LINEAR(x + cycled(shifts, len(x))), X, Y, 0.3, batch_size=2)


def test_what_a_function_holds_is_found_wherever_it_is():
    held = np.zeros((B, 2))
    cell, default = (lambda x: x + held), (lambda x, held=held: x)

    class Deep:
        def __init__(self) -> None:
            self.parts = {"a": [cell]}

        def method(self, x: Tensor) -> Tensor:
            return x

    for function in (cell, default, Deep(), Deep().method, partial(print, held), lambda x: cell(x), held):
        assert holds(function, B)
        assert not holds(function, B + 1)
    many = nn.ModuleList(nn.Identity() for _ in range(B))
    for function in (nn.Sequential(many), lambda x: x + many[0](x)):
        assert holds(function, B)
    for function in (nn.Identity(), torch.relu, None, B, mlp(B, B), [1] * B, nn.Parameter(torch.zeros(B))):
        assert not holds(function, B)


def test_a_recursive_function_and_much_that_is_held_take_no_time():
    def forever(x: Tensor) -> Tensor:
        return forever(x) if len(x) > 9 else x + len(table)

    table = {at: [at] * 50 for at in range(20_000)}
    assert not holds(forever, B)


def test_a_take_that_takes_the_wrong_rows_is_refused():
    class Wrong(Weighted):
        def take(self, rows: Tensor) -> Weighted:
            return Weighted(self.weights[: len(rows)])

    with refuses("loss", "sample 2 alone another value than among 3"):
        require_independent("loss", Wrong(torch.tensor(SCALES).double()), LINEAR(X), Y)
