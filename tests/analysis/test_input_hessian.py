from __future__ import annotations

import math

import pytest
import torch
from ascents import Y, digits, images, inputs, net
from labelled import Linear
from nets import conv, near, randn
from torch import Tensor, nn

from latentopt.analysis.dynamics import (
    hessian_vector,
    input_hessian_eigs,
)


def hessians(network: nn.Module, x: Tensor, y: Tensor, loss) -> Tensor:
    """By torch's own second derivatives, (B, D, D)."""
    size = x[0].numel()
    each = [
        torch.autograd.functional.hessian(lambda v, i=i: loss(network(v[None]), y[i : i + 1]).sum(), x[i])
        for i in range(len(x))
    ]
    return torch.stack([torch.as_tensor(one).reshape(size, size) for one in each])


def ce(z: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(z, y, reduction="none")


def saddle(z: Tensor, y: Tensor) -> Tensor:
    """Curved both ways."""
    return (z.square() @ torch.tensor([1.0, -2.0, 0.5]).to(z)) + z[:, 0] * z[:, 1]


@pytest.mark.parametrize(("network", "x"), [(net(), inputs()), (conv(), images())])
@pytest.mark.parametrize(("loss", "plain"), [("ce", ce), (saddle, saddle)])
def test_the_eigenpairs_are_those_of_torchs_own_hessian(network, x, loss, plain):
    H = hessians(network, x, Y, plain)
    pairs = input_hessian_eigs(network, x, Y, loss, method="exact")
    V = pairs.vectors.flatten(2)
    near(V @ V.mT, torch.eye(V.shape[1]).expand(4, -1, -1).double(), 1e-12)
    near((V.mT * pairs.values[:, None]) @ V, H, 1e-12)
    assert bool((pairs.values.diff(dim=1) <= 0).all())
    assert pairs.values.shape[1] == (2 if loss == "ce" else 3)
    few = input_hessian_eigs(network, x, Y, loss, method="exact", k=1)
    near(few.values[:, 0].abs(), torch.linalg.eigvalsh(H).abs().amax(1), 1e-12)


@pytest.mark.parametrize(("network", "x"), [(net(), inputs()), (conv(), images())])
@pytest.mark.parametrize(("loss", "plain"), [("ce", ce), (saddle, saddle)])
def test_a_hessian_vector_product_is_the_hessians_product(network, x, loss, plain):
    v = randn(*x.shape, seed=5)
    found = hessian_vector(network, x, Y, loss)(v)
    exact = (hessians(network, x, Y, plain) @ v.flatten(1)[:, :, None])[:, :, 0]
    assert ((found.flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)).max() <= 1e-10


@pytest.mark.parametrize("loss", ["ce", saddle])
@pytest.mark.parametrize("k", [1, 2, None])
def test_lanczos_finds_the_same_pairs(loss, k):
    network, x = conv(), images()
    exact = input_hessian_eigs(network, x, Y, loss, method="exact", k=k)
    found = input_hessian_eigs(network, x, Y, loss, method="lanczos", k=k)
    near(found.values, exact.values, 1e-10)
    near((found.vectors * exact.vectors).flatten(2).sum(2).abs(), torch.ones_like(exact.values), 1e-7)
    assert found.residual.max() <= 1e-9
    image = torch.stack(
        [hessian_vector(network, x, Y, loss)(found.vectors[:, i]) for i in range(found.values.shape[1])], 1
    )
    apart = (image - found.values[:, :, None, None, None] * found.vectors).flatten(2).norm(dim=2)
    near(apart, found.residual, 1e-9)
    alone = input_hessian_eigs(network, x[2:3], Y[2:3], loss, method="lanczos", k=k)
    near(alone.values, found.values[2:3], 1e-12)


def test_lanczos_finds_an_eigenvalue_that_occurs_more_than_once():
    network = Linear(classes=5, n=5)
    with torch.no_grad():
        network.layer.weight.copy_(torch.linalg.qr(randn(5, 5)).Q)
    loss = lambda z, y: z.square().sum(1)  # noqa: E731
    found = input_hessian_eigs(network, randn(2, 5), torch.tensor([0, 4]), loss, k=4)
    near(found.values, torch.full((2, 4), 2.0).double(), 1e-10)
    V = found.vectors
    near(V @ V.mT, torch.eye(4).expand(2, -1, -1).double(), 1e-10)


def test_losses_without_curvature_have_a_hessian_of_zero():
    for loss in ("margin", lambda z, y: z[:, 0]):
        near(input_hessian_eigs(net(), inputs(), Y, loss).values, torch.zeros(4, 3).double(), 1e-12)
        assert not hessian_vector(net(), inputs(), Y, loss)(inputs()).any()


@pytest.mark.parametrize("gap", [0.0, 3.0, 30.0, 200.0, -40.0])
def test_of_two_classes_the_eigenvalue_is_p_times_1_minus_p(gap):
    """However confident: p (1 - p) ||w_1 - w_0||^2, and no digit is lost."""
    network = Linear(classes=2)
    x, y = torch.zeros(1, 6).double(), torch.tensor([0])
    with torch.no_grad():
        network.layer.bias.copy_(torch.tensor([gap, 0.0]))
    w = (network.layer.weight[0] - network.layer.weight[1]).detach()
    exact = math.exp(-abs(gap)) / (1 + math.exp(-abs(gap))) ** 2 * float(w.square().sum())
    found = input_hessian_eigs(network, x, y)
    assert float(found.values[0, 0]) == pytest.approx(exact, rel=1e-12)
    near((found.vectors[0, 0] @ w).abs(), w.norm(), 1e-12)


def test_hessian_vector_products_on_mnist_cnn():
    network, x, y = digits()
    pairs, v = input_hessian_eigs(network, x, y), randn(*x.shape)
    V = pairs.vectors.flatten(2)
    exact = ((V @ v.flatten(1)[:, :, None])[:, :, 0] * pairs.values)[:, None] @ V
    found = hessian_vector(network, x, y)(v).flatten(1)
    assert ((found - exact[:, 0]).norm(dim=1) / exact[:, 0].norm(dim=1)).max() <= 1e-10
