"""Compiled modules, compiled steps, and modules in half precision."""

from __future__ import annotations

import pytest
import torch
from nets import conv, fitting, mlp, near, randn, ready
from torch import Tensor, nn

import latentopt as lo
from latentopt.gates import sites
from latentopt.optimizers import Optimizer
from latentopt.sets import Box

METHODS: dict[str, Optimizer] = {
    "soft": lo.ADRGD(lo.SoftGates(tau=0.5), lo.GD(lr=0.5)),
    "soft, one layer": lo.ADRGD(lo.SoftGates(tau=0.5, layers=[1]), lo.GD(lr=0.5)),
    "free": lo.ADRGD(lo.FreeGates(alpha=20.0, beta0=0.1, T_p=1, delta=0.1), lo.GD(lr=0.2, normalize=True)),
    "free, one layer": lo.ADRGD.paper(alpha=20.0, beta0=0.1, layers=[1]),
    "reference": lo.ADRGD.reference(a_x=0.1),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
EXACT = {"alpha": 4.0, "beta0": 0.1, "a_eta": 0.1, "r": 0.0, "row_norms": lo.RowNorms("exact")}
GENTLE: dict[str, Optimizer] = {  # without random numbers, which differ by precision
    **{name: METHODS[name] for name in ("soft", "soft, one layer", "reference")},
    "free": lo.ADRGD(lo.FreeGates(**EXACT), lo.GD(lr=0.2, normalize=True)),
    "free, one layer": lo.ADRGD.paper(**EXACT, layers=[1]),
}


def compiled_module(network: nn.Module) -> nn.Module:
    compiled = torch.compile(network)
    assert isinstance(compiled, nn.Module)
    return compiled


def trajectory(network: nn.Module, x: Tensor, target: Tensor, method: Optimizer, steps: int = 4) -> list[Tensor]:
    problem = ready(fitting(network, x.shape[1:], target, Box(-2.0, 2.0)), steps=steps)
    state, seen = method.init(problem, x), []
    for _ in range(steps):
        step = method.step(problem, x, state)
        x, state = step.x, step.state
        seen += [x, step.evaluation.output]
    return seen


class Wrapped(nn.Module):
    """A compiled module between layers that are not."""

    def __init__(self, network: nn.Sequential, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = network[0], inner, network[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.first(x)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks, and hides its warning
@pytest.mark.parametrize("kind", ["whole", "inner", "convolutional"])
def test_a_compiled_module_gives_what_the_plain_one_gives(kind):
    network, x, target = mlp(3, 6, 5, 2, seed=3), randn(4, 3), randn(4, 2, seed=1)
    if kind == "convolutional":
        network, x, target = conv(), randn(4, 1, 5, 5), randn(4, 3, seed=1)
    network.requires_grad_(False)
    compiled = Wrapped(network, compiled_module(network[1:-1])) if kind == "inner" else compiled_module(network)
    first = compiled(x)
    near(first, network(x), 1e-12)
    if kind != "convolutional":
        assert [site.shape for site in sites(compiled, x)] == [(6,), (5,)]
    for method in METHODS.values():
        plain = trajectory(network, x, target, method)
        for a, b in zip(trajectory(compiled, x, target, method), plain, strict=True):
            near(a, b, 1e-9)
    assert torch.equal(compiled(x), first)


@pytest.mark.slow
@every_method
def test_a_compiled_solve_gives_what_the_plain_one_gives(method):
    network, target = mlp(3, 6, 5, 2, seed=3), randn(4, 2, seed=1)
    problem = fitting(network, (3,), target, Box(-2.0, 2.0))
    plain = lo.solve(problem, method, steps=5, restarts=2)
    compiled = lo.solve(problem, method, steps=5, restarts=2, compile=True)
    near(compiled.x, plain.x, 1e-9)
    near(compiled.history["loss"], plain.history["loss"], 1e-9)
    assert torch.equal(compiled.forwards, plain.forwards)
    assert torch.equal(compiled.backwards, plain.backwards)


@pytest.mark.parametrize("method", GENTLE.values(), ids=GENTLE)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)])
@pytest.mark.parametrize("convolutional", [False, True])
def test_a_module_in_half_precision_gives_nearly_what_it_gives_in_single(method, dtype, tolerance, convolutional):
    make = conv if convolutional else lambda dtype: mlp(3, 6, 5, 2, seed=3, dtype=dtype)
    shape, out = ((1, 5, 5), 3) if convolutional else ((3,), 2)
    network, half = (make(dtype=kind).requires_grad_(False) for kind in (torch.float32, dtype))
    x, target = randn(4, *shape, dtype=torch.float32).to(dtype), randn(4, out, seed=1, dtype=torch.float32).to(dtype)
    network.load_state_dict(half.state_dict())
    seen = trajectory(half, x, target, method, steps=3)
    for a, b in zip(seen, trajectory(network, x.float(), target.float(), method, steps=3), strict=True):
        assert a.dtype == dtype
        near(a.float(), b, tolerance * max(1, float(b.abs().max())))
