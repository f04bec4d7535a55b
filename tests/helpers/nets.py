"""What the tests share: small networks, problems made ready for an optimiser, and counting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from latentopt.errors import InputError
from latentopt.gates import Switch, preactivations
from latentopt.noise import Noise
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity
from latentopt.optimizers import LevenbergMarquardt, Optimizer
from latentopt.problem import Batch, Problem
from latentopt.sets import FeasibleSet


@contextmanager
def refuses(name: str, words: str = "") -> Iterator[None]:
    """Within, an `InputError` that names ``name`` is raised; its message holds the words."""
    with pytest.raises(InputError) as caught:
        yield
    assert caught.value.name == name
    assert words in str(caught.value)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def refill(module: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The module in eval mode, its parameters and running statistics random."""
    module.to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point():
                fan = tensor[0].numel() if tensor.ndim > 1 else 4
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan) ** 0.5)
    return module.eval()


def mlp(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    network = refill(nn.Sequential(*layers[:-1]), seed, dtype)
    assert isinstance(network, nn.Sequential)
    return network


def linear(network: nn.Sequential, index: int) -> nn.Linear:
    """A layer of an `mlp`."""
    layer = network[index]
    assert isinstance(layer, nn.Linear)
    return layer


def conv(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """(B, 1, 5, 5) to (B, 3); ReLUs at layers 2 and 5."""
    network = refill(
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        seed,
        dtype,
    )
    assert isinstance(network, nn.Sequential)
    return network


def pattern(network: Callable[[Tensor], Tensor], x: Tensor, layers: Collection[int] | None = None) -> list[Tensor]:
    """The gates of the network's switches at ``x``: 1 where open, else 0."""
    return [(z > 0).to(x.dtype) for z in preactivations(network, x, layers)]


def switched(gates: Sequence[Tensor]) -> Switch:
    """What `dual` makes of these gates."""

    def switch(index: int, z: Tensor) -> Tensor:
        real, gated = z.chunk(2)
        return torch.cat([real.relu(), gates[index] * gated])

    return switch


def plain_gradient(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of half the sum of squares of the output."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x).square().sum() / 2, x)[0]


def tangents(x: Tensor) -> int:
    """How many tangents of samples forward-mode AD sends along with ``x`` (B, *shape)."""
    tangent = forward_ad.unpack_dual(x).tangent if forward_ad._current_level >= 0 else None
    if tangent is None:
        return 0
    while is_functorch_wrapped_tensor(tangent):
        tangent = get_unwrapped(tangent)
    return tangent.numel() // x[0].numel()


class Counted(nn.Module):
    """A network that counts the rows that pass through it, forwards (a tangent is one more) and backwards."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.forwards, self.backwards = module, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x) + tangents(x)
        output = self.module(x)
        if output.requires_grad:
            output.register_hook(self._backward)
        return output

    def _backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)


def pays(method: Optimizer, forwards: int, backwards: int, network: Counted) -> bool:
    """Whether a method says what passed through its network; or more, where it counts every step as its dearest."""
    if isinstance(method, LevenbergMarquardt):
        return forwards >= network.forwards and backwards >= network.backwards
    return (forwards, backwards) == (network.forwards, network.backwards)


def fitting(
    network: Callable[[Tensor], Tensor], shape: Sequence[int], target: Tensor, feasible: FeasibleSet | None = None
) -> Problem:
    """The problem of finding inputs whose output is ``target`` (B, *out)."""
    return Problem(network, Fit(MSE(), Identity(), target), shape, len(target), feasible, like=target)


def ready(problem: Problem, rows: Sequence[int] | None = None, steps: int = 10, seed: int = 0) -> Batch:
    """Return the batch of some samples as `solve` gives it to an optimiser, one restart."""
    sample = torch.arange(problem.batch) if rows is None else torch.tensor(rows)
    return problem.rows(sample, Noise(seed, torch.zeros_like(sample)), steps)


def path(method: Optimizer, batch: Batch, x: Tensor, steps: int) -> list[Tensor]:
    """Return the start and the iterates after each step."""
    state, points = method.init(batch, x), [x]
    for _ in range(steps):
        x, state, *_ = method.step(batch, x, state)
        points.append(x)
    return points


def tensors(state: object) -> list[Tensor]:
    """Every tensor and number in a state, in order."""
    if isinstance(state, dict):
        return tensors(tuple(state.values()))
    if isinstance(state, tuple):
        return [tensor for part in state for tensor in tensors(part)]
    return [torch.as_tensor(state)]


def near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
