from __future__ import annotations

import pytest
import torch
from nets import near, randn
from torch.fx.experimental.proxy_tensor import make_fx

from latentopt.operators import Gaussian, gaussian


def matrix(operator: Gaussian, *shape: int) -> torch.Tensor:
    n = torch.Size(shape).numel()
    return operator(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).T


def test_the_entries_are_normal_of_variance_one_by_m():
    a = matrix(Gaussian(400, seed=5), 1, 25, 20) * 400**0.5
    near(a.var(), torch.tensor(1.0, dtype=torch.float64), 0.01)
    near(a.mean(), torch.tensor(0.0, dtype=torch.float64), 0.01)
    near(a.pow(4).mean(), torch.tensor(3.0, dtype=torch.float64), 0.1)
    correlation = (a @ a.T / 500).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 500**0.5


def test_the_matrix_is_that_of_its_seed_in_every_dtype():
    one, same, other = (matrix(Gaussian(20, seed), 1, 6, 6) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other).any()
    single = Gaussian(20, 1)(torch.eye(36).reshape(36, 1, 6, 6)).T
    assert torch.equal(single.double(), one)


@pytest.mark.parametrize("block", [1, 100, 300, 2**22])
def test_a_matrix_that_is_not_kept_gives_exactly_the_same(monkeypatch, block):
    monkeypatch.setattr(gaussian, "BLOCK", block)
    operator, x, y = Gaussian(17, seed=3), randn(3, 1, 6, 7), randn(3, 17, seed=1)
    gaussian._cached_blocks.cache_clear()
    assert len(matrix(operator, 1, 6, 7).unique()) == 17 * 42  # no block twice
    gaussian._cached_blocks.cache_clear()
    kept = operator(x), operator.adjoint(y, (1, 6, 7))
    assert gaussian._cached_blocks.cache_info().currsize == 1
    gaussian._cached_blocks.cache_clear()
    monkeypatch.setattr(gaussian, "DENSE", 17 * 42 - 1)
    drawn = operator(x), operator.adjoint(y, (1, 6, 7))
    assert gaussian._cached_blocks.cache_info().currsize == 0
    assert torch.equal(kept[0], drawn[0])
    assert torch.equal(kept[1], drawn[1])
    assert torch.autograd.gradcheck(operator, randn(1, 1, 3, 6).requires_grad_())


def test_what_was_kept_in_inference_mode_serves_gradients():
    gaussian._cached_blocks.cache_clear()
    operator, x = Gaussian(5), randn(1, 1, 3, 3)
    with torch.inference_mode():
        expected = operator(x)
    x.requires_grad_()
    assert torch.equal(operator(x), expected)
    operator(x).sum().backward()
    assert x.grad is not None


def test_it_is_one_operation_when_traced_with_its_gradient():
    operator, y = Gaussian(5), randn(2, 5)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad((operator(x) - y).square().sum(), x)[0]

    x, other = randn(2, 1, 3, 3), randn(2, 1, 3, 3, seed=1)
    graph = make_fx(gradient)(x)
    near(graph(other), gradient(other), 1e-14)
    assert sum("gaussian" in str(node.target) for node in graph.graph.nodes) == 2
