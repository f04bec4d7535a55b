from __future__ import annotations

import pytest
import torch
from nets import conv, linear, mlp, near, pattern, rand, randn
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from latentopt.gates import row_norms


def basis(x: Tensor) -> Tensor:
    return torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)


def true_row_norms(layers: nn.Module, x: Tensor) -> Tensor:
    """Of the Jacobian of ``layers`` at each sample of ``x``."""
    rows = [jacobian(lambda v: layers(v[None])[0], sample) for sample in x]  # each (*site, *features)
    return torch.stack([row.flatten(-x[0].ndim).norm(dim=-1) for row in rows if isinstance(row, Tensor)])


def test_exact_row_norms_at_the_true_pattern_are_those_of_the_jacobian():
    network, x = conv(), randn(3, 1, 5, 5)
    norms = row_norms(network, x, pattern(network, x), basis(x), exact=True)
    near(norms[0], true_row_norms(network[:2], x), 1e-11)
    near(norms[1], true_row_norms(network[:5], x), 1e-11)


def test_exact_row_norms_at_any_gates_are_those_of_the_weights_product():
    network, x = mlp(4, 6, 5, 3, seed=1), randn(3, 4)
    gates = [rand(3, 6, seed=1), rand(3, 5, seed=2)]
    norms = row_norms(network, x, gates, basis(x), exact=True)
    first, second = linear(network, 0).weight, linear(network, 2).weight
    near(norms[0], first.norm(dim=1).expand(3, -1), 1e-12)
    near(norms[1], (second @ (gates[0][:, :, None] * first)).norm(dim=2), 1e-12)


@pytest.mark.parametrize(("count", "bound"), [(8, 0.28), (32, 0.14), (800, 0.03)])
def test_probes_estimate_the_row_norms(count, bound):
    network, x = conv(), randn(8, 1, 5, 5)
    gates = pattern(network, x)
    exact = row_norms(network, x, gates, basis(x), exact=True)
    estimate = row_norms(network, x, gates, randn(count, 8, 1, 5, 5, seed=7), exact=False)
    error = torch.cat([((e - n).abs() / n)[n > 1e-9].flatten() for e, n in zip(estimate, exact, strict=True)])
    assert error.mean() < bound
