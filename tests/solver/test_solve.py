from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from loops import METHODS, ROUGH, check_sample, column, every_method, identity, posed, rough, same_results
from nets import Counted, conv, fitting, linear, mlp, near, rand, randn, ready, refuses
from torch import Tensor, nn

from latentopt import GD, Adam, Generator, InputError, Problem, Reconstruction, Result, Status, solve
from latentopt.optimizers import method
from latentopt.sets import Box
from latentopt.solver.loop import Progress


@every_method
def test_the_best_is_the_least_of_all_that_was_seen_and_never_rises(method):
    seen: list[Progress] = []
    problem = posed()
    result = solve(problem, method, steps=12, restarts=2, callbacks=[seen.append])
    assert [p.t for p in seen] == list(range(1, 13))
    for t, progress in enumerate(seen):
        so_far = result.history["loss"][: t + 1].amin((0, 1))
        assert torch.equal(progress.best, so_far)
        near(problem.evaluate(progress.best_x).value, progress.best, 1e-12)
        near(ready(problem, [0, 1, 2] * 2).evaluate(progress.x).value, progress.loss, 1e-12)
    assert (result.value <= seen[-1].best + 1e-12).all()
    assert result.history["loss"].shape == (12, 2, 3)
    assert set(seen[-1].info) == set(result.history) - {"loss"}
    near(result.value, problem.evaluate(result.x).value, 0)
    near(result.output, problem.evaluate(result.x).output, 0)
    assert result.status == (Status.BUDGET,) * 3


@every_method
@pytest.mark.parametrize("tolerance", [None, 0.15])
def test_a_batch_equals_its_samples_alone_also_when_some_leave(method, tolerance):
    together = solve(posed(tolerance=tolerance), method, steps=6, restarts=2, seed=3)
    for sample in range(3):
        check_sample(together, sample, solve(posed([sample], tolerance=tolerance), method, steps=6, restarts=2, seed=3))


@every_method
def test_a_batch_equals_its_samples_alone_also_when_rows_break_and_go_back(method):
    problem, start = rough()
    together = solve(problem, method, start=start, **ROUGH)
    for sample in range(6):
        problem, start = rough([sample])
        check_sample(together, sample, solve(problem, method, start=start, **ROUGH))


def test_the_best_restart_is_chosen_by_the_objective():
    def two_wells(x: Tensor) -> Tensor:  # least at 2, where it is 0; a worse well at -2
        return torch.minimum((x - 2).square(), (x + 2).square() + 1)[:, 0]

    result = solve(identity(two_wells), GD(lr=0.25), steps=80, restarts=8, start=column(-2.0))
    last = result.history["loss"][-1, :, 0]
    assert last[0] == 1
    assert last[int(result.restart)] == last.min()
    near(result.x, column(2.0), 1e-12)
    near(result.value, torch.zeros(1).double(), 1e-12)


def test_the_start_is_where_the_first_restart_starts():
    seen: list[Progress] = []
    start = randn(3, 3, seed=5)
    free = solve(posed(), GD(lr=0.1), steps=1, restarts=2, callbacks=[seen.append])
    warm = solve(posed(), GD(lr=0.1), steps=2, restarts=2, start=start, callbacks=[seen.append])
    again = solve(posed(), GD(lr=0.1), steps=1, start=warm, callbacks=[seen.append])
    assert torch.equal(seen[1].x[:3], start)
    assert torch.equal(seen[1].x[3:], seen[0].x[3:])  # other restarts start where they would
    assert torch.equal(seen[3].x, warm.x)
    near(seen[3].loss, warm.value, 1e-12)
    assert (again.value <= warm.value).all()
    assert not torch.equal(free.x, warm.x)
    assert torch.equal(start, randn(3, 3, seed=5))
    beside = torch.full((3, 3), 2 + 9e-7).double()  # outside by rounding
    solve(posed(), GD(lr=0.1), steps=1, start=beside, callbacks=[seen.append])
    assert torch.equal(seen[-1].x, torch.full((3, 3), 2.0).double())


@pytest.mark.parametrize("steps", [1, 5])
def test_the_same_seed_gives_the_same_result_and_another_seed_another(steps):
    first, again, other = (solve(posed(), METHODS["adr-gd with noise"], steps=steps, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.x, again.x)
    assert all(torch.equal(values, again.history[name]) for name, values in first.history.items())
    assert (first.x - other.x).abs().max() > 1e-3


class StopError(Exception):
    pass


@every_method
@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_module_is_left_as_it_was(method, fails):
    module = conv()
    network = nn.Sequential(module, nn.Dropout(0.5).train())
    linear(module, 7).weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    flags = [m.training for m in network.modules()] + [p.requires_grad for p in network.parameters()]

    def stop(progress: Progress) -> None:
        assert not any(m.training for m in network.modules())
        if fails:
            raise StopError

    problem = fitting(network, (1, 5, 5), randn(2, 3), Box(-3.0, 3.0))
    try:
        solve(problem, method, steps=3, callbacks=[stop])
    except StopError:
        assert fails
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [m.training for m in network.modules()] + [p.requires_grad for p in network.parameters()] == flags
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules())


def test_adam_reaches_the_least_squares_optimum_of_a_linear_generator():
    map_ = mlp(3, 12)
    target = rand(4, 12, seed=7)
    generator = Generator(nn.Sequential(map_, nn.Unflatten(1, (1, 3, 4))), latent_shape=(3,))
    weight, bias = linear(map_, 0).weight.detach(), linear(map_, 0).bias.detach()
    z = torch.linalg.lstsq(weight, (target - bias).T).solution.T
    optimum = (z @ weight.T + bias - target).square().mean(1)
    result = solve(Reconstruction(generator, target.reshape(4, 1, 3, 4)), Adam(lr=0.1), steps=600)
    assert ((result.value - optimum) / optimum).abs().max() < 1e-8
    near(result.x, z, 1e-4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[("steps", {"steps": steps}) for steps in (0, -1, 2.5)],
        *[("restarts", {"restarts": restarts}) for restarts in (0, -1, 1.0)],
        *[(name, {name: value}) for name in ("evaluations", "patience", "checkpoint_every") for value in (0, -1, 2.5)],
        *[("seconds", {"seconds": value}) for value in (0, -1.0, float("nan"), float("inf"), "1")],
        *[("min_delta", {"min_delta": value}) for value in (-1e-9, float("nan"))],
        ("seed", {"seed": 1.5}),
        ("checkpoint", {"checkpoint": "no/such/folder/file"}),
        *[("optimizer", {"optimizer": name}) for name in ("sgd", "")],
        *[("start", {"start": torch.zeros(shape)}) for shape in [(2,), (2, 3), (3, 4), (3, 3, 1)]],
        *[("start", {"start": torch.full((3, 3), value)}) for value in (1.1, float("nan"), float("inf"))],
        *[("start", {"restarts": 4, "start": torch.zeros(shape)}) for shape in [(5, 3, 3), (0, 3, 3), (2, 2, 3)]],
        *[("start", {"restarts": 4, "start": torch.full((2, 3, 3), value)}) for value in (1.1, float("nan"))],
        *[("start", {"restarts": 4, "start": start}) for start in (torch.zeros(1, 2, 3, 3), [[["a"] * 3] * 3], 3)],
        *[("halving", {"steps": 9, "halving": pairs}) for pairs in ([(5, 2), (3, 1)], [(3, 2), (3, 1)], [(0, 2)])],
        *[("halving", {"steps": 9, "halving": pairs}) for pairs in ([(2, 0)], [(-1, 2)], [(2, 1.5)], [(2,)], (5, 2))],
        *[("halving", {"steps": 9, "halving": pairs}) for pairs in ([(1, 2, 3)], 5, ["52"], [None])],
    ],
)
def test_wrong_arguments_are_refused(name, settings):
    network = Counted(mlp(3, 8, 5, 2))
    problem = posed(network=network)
    problem.feasible = Box(-1.0, 1.0)
    with refuses(name):
        solve(problem, **{"optimizer": "adam", "steps": 2, **settings})
    assert network.forwards == 0


@pytest.mark.parametrize(
    "objective",
    [lambda x: x.sum(), lambda x: x, lambda x: x[:1, 0], lambda x: 3.0, lambda x: x[:, 0] / 0, lambda x: -x[:, 0] / 0],
)
def test_a_wrong_objective_is_refused(objective):
    with refuses("objective"):
        solve(Problem(nn.Identity(), objective, (3,), 2), "gd", steps=2)


@pytest.mark.parametrize("success", [lambda value, output: value.min() < 1, lambda value, output: True])
def test_a_success_test_that_does_not_answer_for_each_sample_is_refused(success):
    problem = posed()
    problem.success = success
    with refuses("success"):
        solve(problem, "adam")


def test_batch_norm_is_refused_in_training_mode_and_without_statistics():
    def normed(**settings: bool) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **settings), nn.ReLU(), nn.Linear(4, 2)).double()

    network = Counted(normed())
    with pytest.raises(InputError, match=r"network: .*\.eval\(\).*module\.1 \(BatchNorm\)"):
        solve(posed(network=network), "gd", steps=1)
    assert network.forwards == 0
    assert network.module[1].training  # pyright: ignore[reportIndexIssue]
    assert solve(posed(network=network.eval()), "gd", steps=1).value.isfinite().all()
    with refuses("network"):  # it mixes samples
        solve(posed(network=normed(track_running_stats=False).eval()), "gd", steps=1)


@every_method
def test_a_solve_within_no_grad_is_the_same(method):
    outside = solve(posed(), method, steps=4)
    with torch.no_grad():
        within = solve(posed(), method, steps=4)
    assert torch.equal(outside.x, within.x)


def test_adr_gd_is_the_default():
    boxed = posed()
    free = fitting(boxed.network, (3,), randn(3, 2))
    for problem in (boxed, free):
        assert solve(problem, steps=1).meta["optimizer"] == repr(method("adr-gd", problem.feasible))


def test_numbers_of_numpy_are_taken_and_saved(tmp_path):
    settings = {"steps": np.int64(3), "restarts": np.int32(2), "seed": np.int64(4), "evaluations": np.int64(40)}
    settings |= {"seconds": np.float32(50), "patience": np.int64(3), "min_delta": np.float32(0.5)}
    result = solve(posed(), "adam", **settings, checkpoint=tmp_path / "c")
    result.save(tmp_path / "r")
    assert Result.load(tmp_path / "r").meta == result.meta
    assert same_results(
        solve(posed(), "adam", steps=3, restarts=2, seed=4, evaluations=40, seconds=50, patience=3, min_delta=0.5),
        result,
    )
