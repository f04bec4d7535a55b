from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from nets import Counted, conv, fitting, linear, mlp, near, randn, ready, refill, refuses
from scipy.optimize import least_squares
from torch import Tensor, nn

from latentopt import LBFGS, LevenbergMarquardt, Problem, solve
from latentopt.objectives import L1, MSE, Fit
from latentopt.operators import Identity
from latentopt.optimizers.base import State
from latentopt.sets import Box, L2Ball

UNDAMPED = LevenbergMarquardt(damping=0.0)
KRYLOV = LevenbergMarquardt(damping=0.0, cg_above=0)


class Prior:
    """``weight |x|^2``, with its residuals."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return self.weight * x.flatten(1).square().sum(1)

    def residual(self, x: Tensor) -> Tensor:
        return self.weight**0.5 * x.flatten(1)


def smooth() -> nn.Sequential:
    network = refill(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Sigmoid()), seed=3)
    assert isinstance(network, nn.Sequential)
    return network


def trodden(problem: Problem, method: LevenbergMarquardt, x: Tensor, steps: int) -> tuple[Tensor, State, list[dict]]:
    """The last iterate, the last state, and each step's info."""
    batch = ready(problem)
    state, infos = method.init(batch, x), []
    for _ in range(steps):
        step = method.step(batch, x, state)
        x, state = step.x, step.state
        infos.append(step.info)
    return x, state, infos


@pytest.mark.parametrize("method", [UNDAMPED, KRYLOV], ids=["full", "krylov"])
def test_one_step_solves_a_linear_network(method):
    layer = linear(mlp(4, 9), 0)
    target, start = randn(3, 9, seed=1), randn(3, 4, seed=2)
    x, _, _ = trodden(fitting(layer, (4,), target), method, start, 1)
    A, b = layer.weight.detach().numpy(), (target - layer.bias.detach()).numpy()
    near(x, torch.tensor(np.linalg.lstsq(A, b.T, rcond=None)[0].T), 1e-12)


@pytest.mark.parametrize("method", [UNDAMPED, KRYLOV], ids=["full", "krylov"])
def test_one_step_solves_a_linear_network_with_a_gaussian_prior(method):
    layer = linear(mlp(4, 3), 0)
    target, start = randn(2, 3, seed=1), randn(2, 4, seed=2)
    problem = Problem(layer, Fit(MSE(), Identity(), target), (4,), 2, like=target, penalty=Prior(0.3))
    x, _, _ = trodden(problem, method, start, 1)
    A = layer.weight.detach()
    ridge = A.T @ A + 3 * 0.3 * torch.eye(4).double()  # the mean over 3 outputs
    near(x, torch.linalg.solve(ridge, A.T @ (target - layer.bias).T).T.detach(), 1e-12)


@pytest.mark.parametrize("method", [UNDAMPED, KRYLOV], ids=["full", "krylov"])
def test_undamped_with_fewer_outputs_than_inputs_the_step_is_the_shortest_that_solves(method):
    layer = linear(mlp(5, 2), 0)
    target, start = randn(3, 2, seed=1), randn(3, 5, seed=2)
    x, _, _ = trodden(fitting(layer, (5,), target), method, start, 1)
    near(x - start, (target - layer(start)).detach() @ torch.linalg.pinv(layer.weight.detach()).T, 1e-7)


def test_a_step_within_one_activation_region_ends_at_its_minimiser_with_a_gain_of_one():
    network = mlp(4, 12, 7)
    optimum = randn(3, 4, seed=1)
    target = network(optimum).detach()
    start = optimum + 1e-3 * randn(3, 4, seed=2)
    assert torch.equal(network[0](start) > 0, network[0](optimum) > 0)
    x, _, infos = trodden(fitting(network, (4,), target), UNDAMPED, start, 2)
    near(x, optimum, 1e-12)
    assert infos[0]["gain"].isnan().all()
    near(infos[1]["gain"], torch.ones(3).double(), 1e-9)
    assert torch.equal(infos[1]["accepted"], torch.ones(3).double())


def test_a_gain_below_one_is_what_crossing_regions_costs():
    step, network = 1.0, nn.ReLU()
    target, start = torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([[step, 1.0]]).double()
    _, _, infos = trodden(fitting(network, (2,), target), UNDAMPED, start, 2)
    # The first unit closes at 0 on the way to -1: of the fall of (4 + 1) / 2, 1 / 2 is left over.
    near(infos[1]["gain"], torch.tensor([0.8], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("method", [LevenbergMarquardt(), LevenbergMarquardt(cg_above=0)], ids=["full", "krylov"])
def test_a_smooth_network_is_fitted_as_scipy_does(method):
    network, start = smooth(), 0.3 * randn(3, 4, seed=2)
    target = (network(randn(3, 4, seed=1)) + 0.1 * randn(3, 6, seed=4)).detach()
    result = solve(fitting(network, (4,), target), method, steps=60, start=start)
    for sample in range(3):

        def residual(x: np.ndarray, sample: int = sample) -> np.ndarray:
            return (network(torch.tensor(x)[None])[0] - target[sample]).detach().numpy() / 6**0.5

        theirs = least_squares(residual, start[sample].numpy(), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        assert abs(float(result.value[sample]) - 2 * theirs.cost) < 1e-12
        near(result.x[sample], torch.tensor(theirs.x), 1e-6)


WIDE = fitting(conv(), (1, 5, 5), randn(3, 3, seed=1))  # more inputs than outputs: the Krylov space ends early
BOXED = fitting(mlp(5, 9, 8), (5,), randn(3, 8, seed=1), Box(-0.5, 0.4))


@pytest.mark.parametrize("problem", [WIDE, BOXED], ids=["free", "box"])
def test_without_a_jacobian_the_whole_krylov_space_gives_the_same_steps(problem):
    problem = copy.copy(problem)
    problem.penalty = Prior(0.01)
    start = problem.feasible.project(0.3 * randn(3, *problem.shape, seed=2))
    full, _, infos = trodden(problem, LevenbergMarquardt(), start, 6)
    krylov, _, others = trodden(problem, LevenbergMarquardt(cg_above=0, cg_steps=25), start, 6)
    near(krylov, full, 1e-8)
    for name in ("accepted", "damping"):
        near(others[2][name], infos[2][name], 1e-8)


@pytest.mark.parametrize("method", [LevenbergMarquardt(), LevenbergMarquardt(cg_above=0, cg_steps=2)])
def test_the_cost_is_what_passes_through_the_network_where_all_trials_are_accepted(method):
    network = Counted(linear(mlp(4, 9), 0))
    problem, x = ready(fitting(network, (4,), randn(3, 9, seed=1))), randn(3, 4, seed=2)
    step = method.step(problem, x, method.init(problem, x))
    assert (network.forwards, network.backwards) == (3 * step.cost.forwards, 3 * step.cost.backwards)
    assert step.cost == ((6, 0) if method.cg_above else (6, 2))


def test_only_samples_with_an_accepted_trial_are_linearised():
    network = Counted(linear(mlp(4, 9), 0))
    problem, start = ready(fitting(network, (4,), randn(3, 9, seed=1))), randn(3, 4, seed=2)
    method = LevenbergMarquardt()
    first = method.step(problem, start, method.init(problem, start))
    away = first.x.clone()
    away[1] = 100.0
    network.forwards = 0
    second = method.step(problem, away, first.state)
    assert second.info["accepted"].tolist() == [1.0, 0.0, 1.0]
    assert network.forwards == 3 + 2 * (1 + 4)
    assert torch.equal(second.state.x[1], start[1])
    assert second.info["damping"][1] > first.info["damping"][1]


def test_a_trial_that_is_not_finite_is_followed_by_a_shorter_one():
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log()  # Gauss-Newton overshoots below 0, where there is none

    target = torch.tensor([[-3.0, -2.0]]).double()
    result = solve(fitting(Log(), (2,), target), UNDAMPED, steps=30, start=torch.full((1, 2), 2.0).double())
    assert result.history["loss"].isnan().any()
    near(result.x, target.exp(), 1e-12)


@pytest.mark.parametrize("feasible", [Box(-0.3, 0.4), L2Ball(torch.zeros(3, 5).double(), 0.5)], ids=["box", "l2"])
def test_in_a_set_it_ends_where_the_gradient_points_out_of_it(feasible):
    layer = linear(mlp(5, 8), 0)
    problem = fitting(layer, (5,), 2 * randn(3, 8, seed=1), feasible)
    ours = solve(problem, "lm", steps=60, start=torch.zeros(3, 5).double())
    pulled = ours.x - 0.05 * ready(problem).gradient(ours.x)[1]  # the optimality condition of a convex problem
    near(feasible.project(pulled), ours.x, 1e-8)
    near(ours.value, solve(problem, LBFGS(), steps=200, start=torch.zeros(3, 5).double()).value, 1e-9)


def test_networks_that_change_tensors_in_place_are_linearised():
    plain = mlp(4, 8, 8, 6)
    in_place = nn.Sequential(*(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer for layer in plain))
    target, start = randn(3, 6, seed=1), randn(3, 4, seed=2)
    for method in (LevenbergMarquardt(), LevenbergMarquardt(cg_above=0)):
        paths = [trodden(fitting(network, (4,), target), method, start, 5)[0] for network in (plain, in_place)]
        assert torch.equal(*paths)


@pytest.mark.parametrize("method", [LevenbergMarquardt(), LevenbergMarquardt(cg_above=0)], ids=["full", "krylov"])
def test_a_decoder_of_transposed_convolutions_is_inverted_in_float32(method):
    decoder = refill(
        nn.Sequential(
            nn.Linear(4, 32),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (8, 2, 2)),
            nn.ConvTranspose2d(8, 6, 4, 2, 1),
            nn.BatchNorm2d(6),
            nn.LeakyReLU(0.2, inplace=True),
            nn.ConvTranspose2d(6, 3, 4, 2, 1),
            nn.Sigmoid(),
        ),
        seed=1,
        dtype=torch.float32,
    )
    target = decoder(randn(3, 4, seed=1, dtype=torch.float32)).detach()
    result = solve(fitting(decoder, (4,), target), method, steps=30, restarts=8)
    assert result.x.dtype == torch.float32
    assert (result.value < 1e-10).all()


def test_what_is_no_sum_of_squares_is_refused_by_name():
    network, target = mlp(3, 2), randn(2, 2)
    with refuses("objective", "sum of squares"):
        solve(Problem(network, Fit(L1(), Identity(), target), (3,), 2, like=target), "lm")
    with refuses("objective", "sum of squares"):
        solve(Problem(network, lambda output: output.sum(1), (3,), 2, like=target), "lm")
    penalised = Problem(network, Fit(MSE(), Identity(), target), (3,), 2, like=target, penalty=lambda x: x.sum(1))
    with refuses("penalty", "sum of squares"):
        solve(penalised, "lm")


def test_an_objective_whose_residuals_are_no_rows_is_refused():
    class Odd:
        def __call__(self, output: Tensor) -> Tensor:
            return output.square().sum(1)

        def residual(self, output: Tensor) -> Tensor:
            return output.flatten()

    with refuses("objective", "(2, m)"):
        solve(Problem(mlp(3, 2), Odd(), (3,), 2, like=randn(1)), "lm")


class Doubled(torch.autograd.Function):
    """Has no forward mode."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


@pytest.mark.parametrize("method", [LevenbergMarquardt(), LevenbergMarquardt(cg_above=0)], ids=["full", "krylov"])
@pytest.mark.parametrize("network", [Doubled.apply, lambda x: torch.cdist(x[:, None], x[:, None] + 1, p=3)[:, 0]])
def test_a_network_without_forward_mode_is_refused(network, method):
    outputs = network(randn(2, 3)).shape[1]
    with refuses("network", "forward-mode"):
        solve(fitting(network, (3,), randn(2, outputs, seed=1)), method)
