"""Bounds and centres in whatever shape and type a user has them: each coordinate gets its own, everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from loops import METHODS, NAMES, ROUGH, rough, same_results
from nets import mlp, near, rand, randn, ready, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.analysis.certify import certify
from latentopt.analysis.dynamics import compare_dynamics
from latentopt.noise import Noise
from latentopt.objectives import Unit
from latentopt.rl.policy_network import PolicyNetwork
from latentopt.sets import Box, BoxAndBall, FeasibleSet, Free, L2Ball, LinfBall, bounded_ball

LOW, HIGH = [0.0, 10.0, 20.0], [1.0, 11.0, 21.0]


def rising(x: Tensor) -> Tensor:
    """An objective that every set minimises at its greatest point."""
    return -x.flatten(1).sum(1)


def posed(feasible: FeasibleSet, batch: int = 1, shape: tuple[int, ...] = (3,), like: Tensor | None = None):
    return lo.Problem(nn.Identity(), rising, shape, batch, feasible, like=like)


FORMS: dict[str, Callable[[list[float]], Any]] = {
    "a list": lambda values: values,
    "a tuple": tuple,
    "an array": np.array,
    "an array of single precision": lambda values: np.array(values, dtype=np.float32),
    "an array that is not to be written": lambda values: np.broadcast_to(np.array(values), (1, 3)),
    "a tensor": torch.tensor,
    "a tensor of whole numbers": lambda values: torch.tensor(values).long(),
    "a parameter": lambda values: nn.Parameter(torch.tensor(values)),
    "with a batch axis": lambda values: torch.tensor([values]),
    "a list of tensors": lambda values: [torch.tensor(value) for value in values],
}


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("restarts", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_coordinate_keeps_its_own_bounds(form, restarts, batch):
    problem = posed(Box(form(LOW), form(HIGH)), batch)
    found = lo.solve(problem, "pgd", steps=40, restarts=restarts)
    assert found.x.tolist() == [HIGH] * batch
    assert found.x.dtype == torch.float32


@pytest.mark.parametrize("optimizer", [name for name in NAMES if not name.startswith("adr-gd-")])
def test_every_method_stays_in_the_box(optimizer):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    objective = lo.objectives.Fit(lo.objectives.MSE(), nn.Identity(), torch.zeros(3, 2))
    problem = lo.Problem(network, objective, (3,), 3, Box(LOW, HIGH))
    x = lo.solve(problem, optimizer, steps=4, restarts=2).x
    assert bool((x >= torch.tensor(LOW)).all() and (x <= torch.tensor(HIGH)).all())


def test_a_batch_of_boxes_and_numbers_a_sample():
    low = torch.tensor([[0.0], [1.0], [2.0]])
    found = lo.solve(posed(Box(low, low + 0.5), 3), "pgd", steps=40)
    assert found.x.tolist() == [[0.5] * 3, [1.5] * 3, [2.5] * 3]
    each = torch.tensor([LOW, HIGH])
    assert lo.solve(posed(Box(each, 30.0), 2), lo.GD(lr=1e-9), steps=1, start=each.clone()).x.tolist() == [LOW, HIGH]


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (2, 3, 1, 1), (3, 4, 4), (1, 3, 4, 4), (2, 3, 4, 4)])
def test_an_image_has_bounds_for_each_channel(shape):
    channel = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    high = channel.expand(shape[-3:]).expand(shape)
    found = lo.solve(posed(Box(high - 1, high), 2, (3, 4, 4)), "pgd", steps=40, restarts=2)
    assert torch.equal(found.x, channel.expand(2, 3, 4, 4))


@pytest.mark.parametrize("features", [(2,), (2, 2), (2, 2, 2)])
def test_the_input_s_own_shape_wins_over_the_batch(features):
    """Where every axis has two entries, only the number of axes tells them apart."""
    high = rand(*features, dtype=torch.float32)
    assert torch.equal(lo.solve(posed(Box(high - 1, high), 2, features), "pgd").x, high.expand(2, *features))
    each = rand(2, *features, dtype=torch.float32)
    assert torch.equal(lo.solve(posed(Box(each - 1, each), 2, features), "pgd").x, each)


C = 0.4 * randn(3)
SETS: dict[
    str, Callable[[], tuple[FeasibleSet, FeasibleSet]]
] = {  # in the input's own shape, and spelled out for 6 samples
    "box": lambda: (Box(C - 1, C + 1), Box((C - 1).expand(6, 3), (C + 1).expand(6, 3))),
    "box open below": lambda: (Box([-9.0, -9.0, -9.0], C), Box(torch.full((6, 3), -9.0), C.expand(6, 3))),
    "linf": lambda: (LinfBall(C, 1.5), LinfBall(C.expand(6, 3), torch.full((6,), 1.5))),
    "linf, a radius a sample": lambda: (LinfBall(C, [1, 2, 3, 1, 2, 3]), LinfBall(C.expand(6, 3), [1, 2, 3, 1, 2, 3])),
    "linf, a radius a feature": lambda: (
        LinfBall(C, [[1.0, 2.0, 3.0]]),
        Box(C - torch.arange(1, 4), C + torch.arange(1, 4)),
    ),
    "l2": lambda: (L2Ball(C, 1.5), L2Ball(C.expand(6, 3), torch.full((6,), 1.5))),
    "l2, a radius a sample": lambda: (L2Ball(C, [1, 2, 3, 1, 2, 3]), L2Ball(C.expand(6, 3), [1, 2, 3, 1, 2, 3])),
    "box and linf": lambda: (
        bounded_ball(C, 1.0, "linf", C - 0.5, 2),
        bounded_ball(C.expand(6, 3), 1.0, "linf", (C - 0.5)[None], 2),
    ),
    "box and l2": lambda: (
        bounded_ball(C, 1.0, "l2", C - 0.5, 2),
        bounded_ball(C.expand(6, 3), 1.0, "l2", (C - 0.5).expand(6, 3), 2.0),
    ),
    "a box a sample, one centre": lambda: (
        BoxAndBall(Box((C - 0.5).expand(6, 3), 2), L2Ball(C, [1, 2, 3, 1, 2, 3])),
        BoxAndBall(Box(C - 0.5, 2), L2Ball(C.expand(6, 3), [1, 2, 3, 1, 2, 3])),
    ),
    "a box a sample, one centre, linf": lambda: (
        BoxAndBall(Box((C - 0.5).expand(6, 3), 2), LinfBall(C, [1, 2, 3, 1, 2, 3])),
        BoxAndBall(Box(C - 0.5, 2), LinfBall(C.expand(6, 3), [1, 2, 3, 1, 2, 3])),
    ),
}


@pytest.mark.parametrize(
    ("name", "rows"), [(name, rows) for name in SETS for rows in ([6] if "a sample" in name else [6, 1])]
)
def test_a_set_by_itself_takes_its_shape_from_the_points(name, rows):
    own, spelled = SETS[name]()
    x, draws = 3 * randn(rows, 3, seed=1), Noise(0, torch.arange(rows))
    spelled = spelled.broadcast_to((6, 3), x).take(torch.arange(rows))
    for method in ("project", "lmo", "steepest"):
        near(getattr(own, method)(x), getattr(spelled, method)(x), 1e-15)
    near(own.radius(x).expand_as(x), spelled.radius(x).expand_as(x), 1e-15)
    near(own.sample(x, draws), spelled.sample(x, draws), 1e-15)
    assert own.project(x).shape == x.shape


@pytest.mark.parametrize(
    ("name", "method"),
    [  # quick ones: each method in two sets, each set with half of the methods
        pytest.param(name, method, id=f"{key}-{name}", marks=[pytest.mark.slow] * ((i - j) % 2))
        for i, (key, method) in enumerate(METHODS.items())
        for j, name in enumerate(["box", "linf, a radius a sample", "box and l2", "a box a sample, one centre"])
    ],
)
def test_rows_leave_and_are_dropped_alike_in_both_forms(name, method):
    results = []
    for feasible in SETS[name]():
        problem, start = rough(network=mlp(3, 8, 5, 2))
        problem.feasible = feasible
        start = problem.feasible.project(start)
        results.append(lo.solve(problem, method, start=start, **{**ROUGH, "halving": [(6, 2)]}))
    assert same_results(*results)


@pytest.mark.parametrize("method", [METHODS["pgd"], METHODS["lbfgs"], METHODS["cma-es"]])
def test_a_batch_gives_what_its_samples_give_alone(method):
    feasible = bounded_ball(C, 1.0, "l2", C - 0.5, 2)
    network = mlp(3, 8, 5, 2)
    target = randn(4, 2, seed=1)
    objective = lo.objectives.Fit(lo.objectives.MSE(), nn.Identity(), target)
    whole = lo.solve(lo.Problem(network, objective, (3,), 4, feasible, like=target), method, steps=10, restarts=2)
    for sample in range(4):
        one = lo.Problem(network, objective.take(torch.tensor([sample])), (3,), 1, feasible, like=target)
        near(lo.solve(one, method, steps=10, restarts=2).x[0], whole.x[sample], 1e-9)


def test_the_set_of_a_problem_has_the_dtype_of_its_inputs():
    for like in (torch.zeros(1), torch.zeros(1).double()):
        for feasible in (
            Box(LOW, np.array(HIGH)),
            LinfBall(LOW, [[1]]),
            L2Ball(LOW, 1),
            bounded_ball(LOW, 1, "l2", -9, 99),
        ):
            problem = posed(feasible, 2, like=like)
            assert lo.solve(problem, "pgd", steps=3).x.dtype == like.dtype
            for tensor in vars(getattr(problem.feasible, "ball", problem.feasible)).values():
                assert not isinstance(tensor, Tensor) or tensor.dtype == like.dtype


def test_a_list_of_numbers_is_not_rounded_to_single_precision():
    assert lo.solve(posed(Box(-1.0, [0.1, 0.2, 0.3]), like=torch.zeros(1).double()), "pgd").x.tolist() == [
        [0.1, 0.2, 0.3]
    ]
    assert Box(0.1, torch.tensor([0.1], dtype=torch.float64)).project(torch.zeros(1, 1).double()).item() == 0.1


def test_what_changes_the_array_later_does_not_change_the_set():
    low = np.array(LOW)
    box = Box(low, HIGH)
    low[:] = 5
    assert box.project(torch.zeros(1, 3)).tolist() == [LOW]


REFUSED: dict[str, tuple[str, Callable[[], FeasibleSet]]] = {
    "as many as the batch, not as the coordinates": ("Box.low", lambda: Box([0.0, 0.0], 1.0)),
    "one too many": ("Box.high", lambda: Box(0.0, [1.0] * 4)),
    "another batch": ("Box.low", lambda: Box(torch.zeros(3, 3), 1.0)),
    "an axis too many": ("Box.low", lambda: Box(torch.zeros(1, 2, 3), 1.0)),
    "a centre of another size": ("center", lambda: L2Ball([0.0, 0.0], 1.0)),
    "radii of another batch": ("eps", lambda: LinfBall(LOW, [1.0, 1.0, 1.0])),
    "radii for the features of an L2 ball": ("eps", lambda: L2Ball(LOW, torch.ones(2, 3))),
    "a box and a ball of other inputs": ("Box.low", lambda: bounded_ball(LOW, 1.0, "l2", [0.0, 0.0], 99.0)),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_shape_that_fits_nothing_is_refused_in_one_line(name):
    argument, make = REFUSED[name]
    with refuses(argument):
        posed(make(), 2)
    with refuses(argument):
        make().project(torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(3,), (4,), (2,), (4, 4), (2, 3), (2, 4, 4)])
def test_a_shape_that_would_broadcast_to_an_image_by_chance_is_refused(shape):
    """(3,) could be channels, (2,) samples; torch would take (4,) for columns."""
    with refuses("Box.low", "(3, 4, 4), or of the batch, (2, 3, 4, 4)"):
        posed(Box(torch.zeros(shape), 1.0), 2, (3, 4, 4))


@pytest.mark.parametrize(
    ("name", "low", "high", "words"),
    [
        ("Box", [0.0, 2.0], [1.0, 1.0], "low 2, high 1 at [1]"),
        ("Box", [0.0, float("nan")], 1.0, "low nan, high 1 at [1]"),
        ("Box", 0.0, [1.0, float("nan")], "low 0, high nan at [1]"),
        ("Box", [[0.0, float("inf")]], float("inf"), "low inf, high inf at [0, 1]"),
        ("Box", -float("inf"), -float("inf"), "low -inf, high -inf"),
        ("Box.low", [0.0, 0.0], [1.0, 1.0, 1.0], "shape (2,)"),
        ("Box.low", None, 1.0, "NoneType"),
        ("Box.low", "zero", 1.0, "str"),
        ("Box.high", 0.0, [1.0, "one"], "numbers"),
        ("Box.high", 0.0, [[1.0], [1.0, 2.0]], "rows of equal length"),
        ("Box.low", torch.zeros(2, dtype=torch.complex64), 1.0, "complex"),
        ("Box.low", {"a": 1.0}, 1.0, "dict"),
    ],
)
def test_bounds_that_are_no_box_are_refused_in_one_line(name, low, high, words):
    with pytest.raises(lo.errors.InputError) as caught:
        Box(low, high)
    assert caught.value.name == name
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
def test_centres_and_radii_that_are_no_ball_are_refused_in_one_line(ball):
    for center in ([0.0, float("nan")], torch.tensor([float("inf")]), "here"):
        with refuses("center"):
            ball(center, 1.0)
    for eps in ([0.1, -0.5], torch.tensor([[0.1, float("nan")]]), "wide", None):
        with refuses("eps"):
            ball(torch.zeros(2, 2), eps)
    with refuses("norm"):
        bounded_ball(torch.zeros(1, 2), 0.1, "l1", 0.0, 1.0)  # pyright: ignore[reportArgumentType]
    with refuses("Free.scale"):
        Free(float("nan"))


def test_a_box_without_an_end_has_no_random_points_but_serves_from_a_start():
    problem = posed(Box([0.0, 1.0, 2.0], float("inf")), 2)
    with refuses("feasible", "or a start"):
        lo.solve(problem, "adam", steps=2)
    with refuses("feasible", "or a start"):
        lo.solve(problem, "adam", steps=2, restarts=2, start=torch.ones(2, 3) * 5)
    falling = lo.Problem(nn.Identity(), lambda x: x.sum(1), (3,), 2, problem.feasible)
    assert lo.solve(falling, lo.GD(lr=9.0), steps=2, start=torch.ones(2, 3) * 5).x.tolist() == [[0.0, 1.0, 2.0]] * 2


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_maximize_takes_bounds_for_each_coordinate(form):
    network = nn.Linear(3, 1, bias=False)
    nn.init.ones_(network.weight)
    found = lo.maximize(network, low=form(LOW), high=form(HIGH), shape=(3,), steps=40, restarts=2)
    assert found.x.tolist() == [HIGH]
    assert lo.maximize(network, low=form(LOW), high=30.0, shape=(3,), steps=40).x.tolist() == [[30.0] * 3]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("low", [0.0, 1.0, float("nan")], 1.0),
        ("high", 0.0, [1.0, 1.0, float("inf")]),
        ("low", [0.0, 2.0, 0.0], 1.0),
        ("low", "zero", 1.0),
        ("low", [0.0, 1.0], 1.0),
        ("low", torch.zeros(2, 3), 1.0),
    ],
)
def test_maximize_refuses_bounds_that_do_not_fit(name, low, high):
    with refuses(name):
        lo.maximize(nn.Linear(3, 1), low=low, high=high, shape=(3,))


def test_the_corners_that_are_certified_are_the_box_s_own():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    for low in (LOW, [LOW]):
        problem = lo.Problem(network, Unit(), (3,), 1, Box(low, HIGH))
        own = certify(problem, start=torch.tensor(HIGH))
        assert bool((own.x >= torch.tensor(LOW)).all() and (own.x <= torch.tensor(HIGH)).all())
        corners = torch.cartesian_prod(*map(torch.tensor, zip(LOW, HIGH, strict=True)))
        assert own.bound >= network(corners).max().item() - 1e-4
        assert own.value == pytest.approx(network(own.x[None].float()).item(), rel=1e-5)


def test_the_dynamics_are_compared_in_a_box_of_the_input_s_shape():
    network, x, labels = mlp(3, 4, 3, seed=1), randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    box = Box([-50.0, -60.0, -70.0], [50.0, 60.0, 70.0])
    inside = compare_dynamics(network, x, labels, 0.01, 2, feasible=box)
    assert torch.equal(inside.flips, compare_dynamics(network, x, labels, 0.01, 2).flips)


@pytest.mark.parametrize(
    "wrong",
    [
        ([0.0, 0.0], [1.0, 0.0]),
        (0.0,),
        (0.0, float("nan")),
        (0.0, 0.5, 1.0),
        torch.tensor(1.0),
        ("0", "1"),
        None,
    ],
)
def test_what_is_no_range_is_refused_in_one_line(wrong):
    with refuses("input_range"):
        lo.Classifier(nn.Flatten(), input_range=wrong)
    if wrong is not None:
        with refuses("input_range"):
            PolicyNetwork(nn.Flatten(), input_range=wrong)
    model: Any = nn.Flatten()
    model.input_range = wrong
    with refuses("input_range"):
        lo.attack(model, torch.rand(2, 3), torch.tensor([0, 1]), 0.1)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1)])
def test_a_policy_has_one_range_for_all_channels(shape):
    with refuses("input_range"):
        PolicyNetwork(nn.Flatten(), input_range=(torch.zeros(shape), torch.ones(shape)))  # pyright: ignore[reportArgumentType]


def test_a_range_of_tensors_with_one_number_each_holds():
    model = lo.Classifier(nn.Flatten(), input_range=(torch.tensor([-1.0]), np.float32(2.0)))  # pyright: ignore[reportArgumentType]
    assert model.input_range == (-1.0, 2.0)
    assert all(type(end) is float for end in model.input_range)


def test_a_refined_action_keeps_its_own_bounds():
    def critic(s: Tensor, a: Tensor) -> Tensor:
        return a.sum(1)

    found = lo.refine_action(critic, torch.zeros(3, 1), torch.tensor([LOW] * 3), LOW, HIGH, radius=2.0, steps=60)
    assert found.action.tolist() == [HIGH] * 3


def test_a_problem_of_one_sample_can_be_tiled():
    problem = ready(posed(Box(LOW, HIGH)))
    assert problem.tiled(4).random_start().shape == (4, 3)
    assert bool((problem.tiled(4).random_start() >= torch.tensor(LOW)).all())
