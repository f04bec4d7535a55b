"""Free gates: the switch in closed form, where eta comes from, its noise, and what a step costs."""

from __future__ import annotations

import pytest
import torch
from nets import Counted, conv, fitting, linear, mlp, near, pattern, plain_gradient, rand, randn, ready, tensors
from torch import Tensor

from latentopt.batch_math import unit
from latentopt.gates import sites
from latentopt.noise import Noise
from latentopt.optimizers import ADRGD, GD, FreeGates, RowNorms, SoftGates
from latentopt.optimizers.free_gates import FreeState, _Switch
from latentopt.problem import Batch


def posed(batch: int = 4) -> tuple[Batch, Tensor, Counted]:
    network = Counted(mlp(3, 6, 5, 2, seed=3).requires_grad_(False))
    return ready(fitting(network, (3,), randn(batch, 2, seed=1))), randn(batch, 3), network


def switch_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """(z, eta, norm), away from the kinks z = 0 and eta = 1/2."""
    z, eta = randn(6, 2, 4), rand(3, 2, 4, seed=1)
    eta = torch.where(eta > 0.5, 0.52 + 0.4 * eta, 0.08 + 0.8 * eta)
    return (z + 0.05 * z.sign()).requires_grad_(), eta.requires_grad_(), 0.5 + rand(3, 2, 4, seed=2)


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_the_closed_form_backward_is_the_derivative(reduce):
    z, eta, norm = switch_inputs()

    def switch(z: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        return _Switch.apply(z, eta, norm, 6.0, reduce)[:2]

    assert torch.autograd.gradcheck(switch, (z, eta), eps=1e-6, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_a_switch_is_a_relu_beside_a_gate_with_the_constraint_of_eq_8(reduce):
    z, eta, norm = switch_inputs()
    norm.requires_grad_()
    output, constraint, flips = _Switch.apply(z, eta, norm, 6.0, reduce)
    real = z[:3]
    assert torch.equal(output[:3], real.relu())
    near(output[3:], torch.sigmoid(6 * (eta - 0.5)) * z[3:], 1e-15)
    distance, hinges = (real / norm).flatten(1), (0.5 - eta).flatten(1)
    closed, opened = distance.relu() * hinges.relu(), (-distance).relu() * (-hinges).relu()
    parts = closed.amax(1) + opened.amax(1) if reduce == "max" else 2 * (closed + opened).sum(1)
    near(constraint, parts, 1e-14)
    assert flips.tolist() == ((eta > 0.5) != (real > 0)).flatten(1).sum(1).tolist()
    assert torch.autograd.grad(constraint.sum() + output.sum(), norm, allow_unused=True) == (None,)


def test_eta_starts_at_the_pattern_and_beta_at_beta0():
    problem, x, network = posed()
    gates = FreeGates(beta0=0.7, a_eta=1e-12, r=0, start=0.3)
    state = gates.init(problem, x)
    assert state.beta.tolist() == [0.7] * 4
    assert network.forwards == 0
    for eta, gate in zip(gates.direction(problem, x, state).state.eta, pattern(network, x), strict=True):
        near(eta, 0.2 + 0.6 * gate, 1e-11)


def test_rows_set_fresh_are_read_off_the_network_and_the_others_go_on():
    problem, x, _ = posed()
    gates = FreeGates(alpha=6.0, T_p=0, delta=10.0, row_norms=RowNorms(refresh=2))
    state = gates.init(problem, x)
    for _ in range(3):
        look = gates.direction(problem, x, state)
        x, state = x - 0.1 * look.grad, look.state
    rows = torch.tensor([True, False, True, False])
    mixed, old, new = (
        gates.direction(problem, x, state._replace(fresh=fresh))
        for fresh in (rows, torch.zeros(4) > 0, torch.ones(4) > 0)
    )
    assert not torch.equal(old.grad, new.grad)
    assert not mixed.state.fresh.any()
    for a, b, c in zip(
        tensors((mixed.grad, mixed.state, mixed.info)),
        *(tensors((look.grad, look.state, look.info)) for look in (old, new)),
        strict=True,
    ):
        if a.ndim:
            assert torch.equal(a[~rows], b[~rows])
            assert torch.equal(a[rows], c[rows])


def test_noise_comes_only_where_eta_has_no_gradient_and_some_steps_after_the_last():
    # A network that is constant in x: at the pattern the constraint and its gradient are zero, so only noise moves eta.
    problem, x, network = posed(2)
    assert isinstance(network.module, torch.nn.Sequential)
    linear(network.module, 0).weight.zero_()
    gates = FreeGates(T_p=3, r=0.01, row_norms=RowNorms(refresh=100))
    state, eta, moved = gates.init(problem, x), tuple(pattern(network, x)), []
    for t in range(1, 13):
        state = gates.direction(problem, x, state).state
        change = [after - before for before, after in zip(eta, state.eta, strict=True)]
        if any(c.any() for c in change):
            moved.append(t)
            for site, c in enumerate(change):
                near(c, 0.01 * problem.noise.normal(c, "eta", t, site), 1e-12)
        eta = state.eta
    assert moved == [4, 8, 12]
    still = FreeGates(T_p=3, r=0.01, delta=0.0).direction(problem, x, state._replace(t=20)).state  # no norm is under 0
    assert all(torch.equal(a, b) for a, b in zip(state.eta, still.eta, strict=True))


def test_the_start_draws_and_the_noise_are_independent():
    like = torch.empty(1, 6, dtype=torch.float64)
    draws = Noise(0, torch.zeros(1, dtype=torch.long))
    numbers = [draws.normal(like, *key) for key in [("start",), ("eta", 1, 0), ("eta", 2, 0), ("eta", 1, 1)]]
    assert len({tuple(n[0].tolist()) for n in numbers}) == 4


def test_beta_never_falls_below_zero():
    problem, x, _ = posed()
    gates = FreeGates(beta0=0.01, gamma=0.03)
    assert gates.direction(problem, x, gates.init(problem, x)).state.beta.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("distances", "costs"),
    [
        (RowNorms("probes", probes=5, refresh=3), [8, 2, 2, 8, 2, 2, 8]),
        (RowNorms("exact", refresh=2), [6, 2, 6, 2, 6, 2, 6]),
        (RowNorms("layer", probes=1, refresh=7), [4, 2, 2, 2, 2, 2, 2]),
        (RowNorms("none"), [2] * 7),
    ],
)
@pytest.mark.parametrize("resync", [None, 2])
def test_the_norms_are_refreshed_on_schedule_only_and_counted(distances, costs, resync):
    problem, x, network = posed()
    gates = FreeGates(alpha=4.0, row_norms=distances, resync=resync)
    state, passed = gates.init(problem, x), 0
    for cost in costs:
        look = gates.direction(problem, x, state)
        assert look.cost == (cost, 2)
        passed, state = passed + 4 * cost, look.state
        assert network.forwards == passed


@pytest.mark.parametrize("layers", [[0], [1]])
def test_chosen_layers_alone_have_gates(layers):
    problem, x, network = posed()
    gates = FreeGates(alpha=6.0, layers=layers, row_norms=RowNorms("exact"))
    state = gates.direction(problem, x, gates.init(problem, x)).state
    assert [e.shape[1:] for e in state.eta] == [sites(network, x)[layers[0]].shape]
    assert [n.shape for n in state.norms] == [state.eta[0].shape, (4, 2)]
    eta = (rand(4, 6 - layers[0], seed=8),)
    state = FreeState(0, torch.zeros(4) > 0, torch.zeros(4).double(), eta, (), ())
    grad = gates.direction(problem, x, state).grad

    def surrogate(x: Tensor) -> Tensor:
        module = network.module
        assert isinstance(module, torch.nn.Sequential)
        h = module[0](x)
        h = module[2](torch.sigmoid(6 * (eta[0] - 0.5)) * h if layers == [0] else h.relu())
        return module[4](torch.sigmoid(6 * (eta[0] - 0.5)) * h if layers == [1] else h.relu())

    near(grad, plain_gradient(lambda x: surrogate(x) - randn(4, 2, seed=1), x), 1e-12)


def test_soft_gates_of_no_layer_but_the_chosen_are_soft():
    net = conv().requires_grad_(False)
    problem, x = ready(fitting(net, (1, 5, 5), randn(3, 3, seed=1))), randn(3, 1, 5, 5)
    grads = []
    for layers in ([0], [1], None):
        method = ADRGD(SoftGates(tau=0.5, layers=layers), GD(lr=1.0))
        grads.append(x - method.step(problem, x, method.init(problem, x)).x)
    plain = problem.gradient(x)[1]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (grads[a] - grads[b]).abs().amax() > 1e-3
    assert all((grad - plain).abs().amax() > 1e-3 for grad in grads)


@pytest.mark.parametrize("exponent", [0, -15, -22, -25, -30, -37])
def test_a_gradient_too_small_to_be_squared_gives_no_longer_step(exponent):
    x = torch.tensor([[3.0, -4.0], [0.0, 0.0]]) * 10.0**exponent
    near(unit(x), torch.tensor([[0.6, -0.8], [0.0, 0.0]]), 1e-6)
    length = x.norm(dim=1)
    moved = FreeGates(a_eta=0.5)._step_eta(torch.full_like(x, 0.5), x, length) - 0.5
    assert (moved.norm(dim=1) <= 0.5 + 1e-6).all()
    if exponent >= -15:
        near(moved, torch.tensor([[-0.3, 0.4], [0.0, 0.0]]), 1e-6)
