from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from ascents import METHODS, Y, digits, images, inputs, net
from hypothesis import example, given, settings
from hypothesis import strategies as st
from labelled import Linear
from nets import conv, near, rand, randn
from torch import Tensor, nn

from latentopt.analysis.dynamics import (
    amplification,
    compare_dynamics,
    growth,
    input_hessian_eigs,
    linear_region,
    predict_perturbation,
)
from latentopt.gates import preactivations


def ce(z: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(z, y, reduction="none")


@settings(max_examples=300, deadline=None)
@given(
    a=st.floats(0, 4),
    l=st.floats(-4, 4) | st.floats(-1e-12, 1e-12) | st.sampled_from([0.0, -1.0, -2.0, 5e-324]),
    m=st.integers(0, 40),
)
@example(a=1.0, l=-2 + 1e-15, m=40)
@example(a=1.0, l=-1.0, m=1)
def test_the_growth_is_the_geometric_sum(a, l, m):  # noqa: E741
    t = a * l  # rounded as there; then exact
    exact = float(Fraction(a) * sum((1 + Fraction(t)) ** j for j in range(m)))
    found = growth(torch.tensor(a, dtype=torch.float64), m, torch.tensor(l, dtype=torch.float64))
    assert float(found) == pytest.approx(exact, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("scale", [1.0, -1.0])
@pytest.mark.parametrize("m", [1, 2, 7, 60])
def test_of_a_quadratic_loss_the_eigen_formula_is_exact_at_any_step(scale, m):
    """``delta_m = a sum_(j < m) (I + a H)^j g``, of positive, negative and mixed curvature."""
    network = Linear(classes=3)
    x, a = randn(4, 6), 0.05
    C = scale * torch.diag(torch.tensor([2.0, 1.0, -1.0]).double())
    loss = lambda z, y: ((z - 1) @ C * (z - 1)).sum(1) / 2  # noqa: E731
    W = network.layer.weight.detach()
    g = (network(x) - 1).detach() @ C @ W
    H = W.T @ C @ W
    power, exact = torch.eye(6).double(), torch.zeros_like(g)
    for _ in range(m):
        exact, power = exact + a * g @ power, power @ (torch.eye(6) + a * H)
    scale_of = exact.abs().max()
    for method in ("eigen", "region-exact"):
        near(predict_perturbation(network, x, Y, a, m, method, loss) / scale_of, exact / scale_of, 1e-12)
    found = compare_dynamics(network, x, Y, a, m, loss)
    assert max(float(found.error[name].max()) for name in ("eigen", "region-exact")) <= 1e-11


@pytest.mark.parametrize("m", [1, 3, 200])
def test_on_a_linear_network_one_region_is_everywhere(m):
    network, x, y = Linear(classes=4), randn(4, 6), torch.tensor([0, 1, 2, 3])
    found = compare_dynamics(network, x, y, 0.3, m)
    near(predict_perturbation(network, x, y, 0.3, m, "region-exact"), found.delta, 1e-11)
    assert float(found.error["region-exact"].max()) <= 1e-12
    assert not found.flips.any()
    assert bool((found.first_flip == m + 1).all())
    assert bool(found.inside.all())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), step=st.floats(1e-3, 0.5), steps=st.integers(1, 12))
def test_the_region_exact_path_is_the_real_one_up_to_the_first_flip(seed, step, steps):
    network, x = net(seed), inputs(seed + 1)
    found = compare_dynamics(network, x, Y, step, steps)
    m = torch.arange(1, steps + 1)[:, None]
    assert float((found.error["region-exact"] * (m <= found.first_flip)).max()) <= 1e-10
    for name in METHODS:
        near(
            predict_perturbation(network, x, Y, step, 1, name),
            found.delta if steps == 1 else _first(network, x, step),
            1e-12,
        )
        inside = found.inside
        near(found.error[name][inside], found.held[name][inside], 1e-9)


def _first(network: nn.Module, x: Tensor, step: float) -> Tensor:
    x = x.clone().requires_grad_()
    return step * torch.autograd.grad(ce(network(x), Y).sum(), x)[0]


def test_the_real_ascent_is_the_plain_loop_and_its_flips_those_of_the_pre_activations():
    network, x, a = net(), inputs(), 0.2
    found = compare_dynamics(network, x, Y, a, 6)
    at, before = x, [z > 0 for z in preactivations(network, x)]
    for m in range(6):
        at = at + _first(network, at, a)
        now = [z > 0 for z in preactivations(network, at)]
        count = sum((p != q).sum(1) for p, q in zip(before, now, strict=True))
        assert torch.equal(found.flips[m], torch.as_tensor(count))
        near(found.length[m], (at - x).norm(dim=1), 1e-12)
        near(found.value[m], ce(network(at), Y), 1e-12)
        for name in METHODS:
            predicted = predict_perturbation(network, x, Y, a, m + 1, name)
            near(found.error[name][m], (predicted - (at - x)).norm(dim=1) / (at - x).norm(dim=1), 1e-12)
            near(found.cosine[name][m], torch.cosine_similarity(predicted, at - x), 1e-12)
    near(found.delta, at - x, 1e-12)
    assert found.flips.any()


def test_a_maximum_that_moves_is_a_flip():
    network = nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        nn.init.ones_(network[2].weight)[1] = -1.0  # pyright: ignore
    x = torch.tensor([[[1.0, 0.999]], [[1.0, -5.0]]]).double()
    found = compare_dynamics(network, x, torch.tensor([0, 0]), 0.01, 1)  # both maxima fall
    assert found.flips.tolist() == [[1, 0]]
    assert found.first_flip.tolist() == [1, 2]


@pytest.mark.parametrize(("network", "x"), [(net(), inputs()), (conv(), images())])
def test_a_batch_is_its_samples(network, x, monkeypatch):
    a = torch.tensor([0.1, 0.2, 0.0, 0.3]).double()
    whole = compare_dynamics(network, x, Y, a, 5)
    grown = amplification(network, x, Y, a, 5)
    monkeypatch.setattr(linear_region, "LARGEST", 3 * x[0].numel())
    cut, cut_grown = compare_dynamics(network, x, Y, a, 5), amplification(network, x, Y, a, 5)
    pairs = [(cut.delta, whole.delta), (cut.error["region-exact"], whole.error["region-exact"])]
    pairs += [(cut.cosine["eigen"], whole.cosine["eigen"]), (cut.values, whole.values)]
    pairs += [(getattr(cut_grown, name), getattr(grown, name)) for name in ("parameters_end", "input_eigen")]
    for one, other in pairs:
        near(one, other, 1e-12)
    assert torch.equal(cut.first_flip, whole.first_flip)
    assert torch.equal(cut.flips, whole.flips)


@pytest.mark.parametrize("method", METHODS)
def test_no_steps_and_a_step_of_zero_move_nothing(method):
    assert not predict_perturbation(net(), inputs(), Y, 0.3, 0, method).any()
    assert not predict_perturbation(net(), inputs(), Y, 0.0, 9, method).any()
    found = compare_dynamics(net(), inputs(), Y, 0, 3)
    assert not found.error[method].any()
    assert bool((found.cosine[method] == 1).all())


def test_known_eigenpairs_and_the_rest_of_the_gradient():
    """With some pairs the rest of the gradient grows by a m; with none this is the first order."""
    network, x, a, m = net(), inputs(), 0.4, 6
    whole = input_hessian_eigs(network, x, Y)
    near(predict_perturbation(network, x, Y, a, m, pairs=whole), predict_perturbation(network, x, Y, a, m), 1e-12)
    products = input_hessian_eigs(network, x, Y, method="lanczos")
    near(predict_perturbation(network, x, Y, a, m, pairs=products), predict_perturbation(network, x, Y, a, m), 1e-7)
    one = input_hessian_eigs(network, x, Y, k=1)
    g, v = _first(network, x, 1), one.vectors[:, 0]
    share = (g * v).sum(1, keepdim=True)
    exact = growth(torch.tensor(a, dtype=torch.float64), m, one.values) * share * v + a * m * (g - share * v)
    near(predict_perturbation(network, x, Y, a, m, pairs=one), exact, 1e-12)


def test_amplification_of_two_classes_has_a_closed_form():
    """By the eigen formula ``(1 + a p (1 - p) w^2)^m (1 - p) w``; without gates the real one is in reach too."""
    network, x, y, a, m = Linear(classes=2), randn(5, 6), torch.tensor([0, 1, 0, 1, 0]), 0.2, 7
    found = amplification(network, x, y, a, m)
    w = (network.layer.weight[0] - network.layer.weight[1]).norm().detach()
    p = network(x).softmax(1).gather(1, y[:, None])[:, 0].detach()
    near(found.doubt, 1 - p, 1e-14)
    near(found.top, p * (1 - p) * w**2, 1e-12)
    near(found.input_clean, (1 - p) * w, 1e-12)
    near(found.input_eigen, (1 + a * p * (1 - p) * w**2) ** m * (1 - p) * w, 1e-12)
    near(found.input_region, found.input_end, 1e-12)
    near(found.parameters_clean, (1 - p) * (2 * (1 + x.square().sum(1))).sqrt(), 1e-12)
    end = x + compare_dynamics(network, x, y, a, m).delta
    q = network(end).softmax(1).gather(1, y[:, None])[:, 0].detach()
    near(found.input_end, (1 - q) * w, 1e-12)
    near(found.parameters_end, (1 - q) * (2 * (1 + end.square().sum(1))).sqrt(), 1e-12)


def test_the_network_stays_as_it_was():
    network = conv().train()
    for parameter in list(network.parameters())[:2]:
        parameter.requires_grad_(False)
    before = [p.clone() for p in network.state_dict().values()]
    amplification(network, images(), Y, 0.1, 2)
    compare_dynamics(network, images(), Y, 0.1, 2)
    assert all(module.training for module in network.modules())
    assert [p.requires_grad for p in network.parameters()][:3] == [False, False, True]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


def test_a_formula_that_overflows_where_the_ascent_does_not_is_an_infinite_error():
    found = compare_dynamics(Linear(classes=2), 1e-3 * randn(2, 6), torch.tensor([0, 1]), 1e4, 100)
    assert float(found.error["region-exact"].max()) <= 1e-10
    assert bool(found.error["eigen"][-1].isinf().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_that_is_all_but_certain_keeps_its_digits(dtype):
    """Its gradient is so small that the squares of its entries are 0."""
    network = Linear(classes=2).to(dtype)
    with torch.no_grad():
        network.layer.bias.copy_(torch.tensor([75.0 if dtype == torch.float32 else 400.0, 0.0]))
    found = compare_dynamics(network, torch.zeros(1, 6, dtype=dtype), torch.tensor([0]), 0.1, 5)
    for name in METHODS:
        assert float(found.error[name].max()) <= 10 * torch.finfo(dtype).eps
        near(found.cosine[name], torch.ones(5, 1, dtype=dtype), 1e-6)


def test_single_precision_works():
    network = conv(dtype=torch.float32)
    found = compare_dynamics(network, images().float(), Y, 1e-3, 3)
    assert found.delta.dtype == torch.float32
    before = torch.arange(1, 4)[:, None] <= found.first_flip
    assert float((found.error["region-exact"] * before).max()) <= 1e-4
    pairs = input_hessian_eigs(network, images().float(), Y, method="lanczos")
    near(pairs.values, input_hessian_eigs(network, images().float(), Y).values, 1e-4)


def test_the_formulas_on_mnist_cnn():
    """What the page of the documentation says: errors where no gate flips, and with the gates held."""
    network, x, y = digits()
    x = x + 0.05 * rand(*x.shape)  # else the black background's gates flip together
    top, m = input_hessian_eigs(network, x, y, k=1).values[:, 0], 10
    found = compare_dynamics(network, x, y, 0.02 / (m * top), m)
    inside = found.inside[-1]
    assert inside.sum() >= 15
    assert found.error["eigen"][-1, inside].median() <= 1e-3  # the bar is .02
    assert found.error["region-exact"][found.inside].max() <= 1e-10
    assert found.held["eigen"][-1].median() <= 1e-3
    far = compare_dynamics(network, x, y, 0.5 / (m * top), m)
    assert far.held["eigen"][-1].median() <= 0.1
    assert far.error["region-exact"][-1].median() > 0.01  # all flips' doing
    assert far.flips[-1].double().median() > 5
