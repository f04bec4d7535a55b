"""What the tests of the loop share: every method, and problems where rows leave and break."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from nets import fitting, mlp, near, randn
from torch import Tensor, nn

from latentopt import ADRGD, GD, FreeGates, Problem, Result
from latentopt.optimizers import CMAES, Optimizer, RowNorms, method, registry
from latentopt.sets import Box

NAMES = [
    name
    for name in registry.METHODS
    if not name.endswith("-critic") and name not in ("fgsm", "adr-gd-soft-attack")  # others with other step sizes
]
METHODS: dict[str, Optimizer] = {
    **{name: method(name) for name in NAMES if name != "adr-gd-latent"},  # in no set given, it is adr-gd's
    "basin-cma": CMAES(refine=2),  # more steps of L-BFGS make rounding visible
    "adr-gd with noise": ADRGD(
        FreeGates(alpha=8.0, T_p=1, delta=10.0, row_norms=RowNorms(refresh=3)), GD(lr=0.1, normalize=True)
    ),
    "gd as it is": GD(lr=0.3),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def posed(
    samples: Sequence[int] = (0, 1, 2), network: nn.Module | None = None, tolerance: float | None = None
) -> Problem:
    problem = fitting(network or mlp(3, 8, 5, 2), (3,), randn(3, 2, seed=1)[list(samples)], Box(-2.0, 2.0))
    problem.success = None if tolerance is None else lambda value, output: value < tolerance
    return problem


def identity(
    objective: Callable[[Tensor], Tensor] = lambda x: x[:, 0], samples: int = 1, dtype: torch.dtype = torch.float64
) -> Problem:
    """The problem of an objective of the input itself, a number."""
    return Problem(nn.Identity(), objective, (1,), samples, like=torch.zeros(1, dtype=dtype))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


class Holed(nn.Module):
    """An `mlp` that returns NaN in stripes: at half of all inputs, but not where restart 0 of `rough` starts."""

    def __init__(self) -> None:
        super().__init__()
        self.module = mlp(3, 8, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hole = (x * torch.tensor([2.0, 3.0, 5.0], dtype=x.dtype)).sum(1, keepdim=True).sin() < -0.3
        return self.module(x).masked_fill(hole, torch.nan)


ROUGH = {"steps": 14, "restarts": 4, "seed": 3, "patience": 4, "min_delta": 0.02, "evaluations": 120}
"""Settings with which rows of `rough` are solved, stall, break, go back, and spend their budget."""


def rough(samples: Sequence[int] = range(6), network: nn.Module | None = None) -> tuple[Problem, Tensor]:
    """A problem, and where its first restart starts."""
    chosen = list(samples)
    problem = fitting(network or Holed(), (3,), randn(6, 2, seed=1)[chosen], Box(-2.0, 2.0))
    problem.success = lambda value, output: value < 0.02
    grid = torch.linspace(-1, 1, 6, dtype=torch.float64)
    start = torch.stack([grid, -grid, (3 * grid - 2 * grid) / 5], 1)  # sin(0): never a hole
    return problem, start[chosen]


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit by bit, also where NaN."""
    return (a.dtype, a.shape, a.numpy().tobytes()) == (b.dtype, b.shape, b.numpy().tobytes())


def same_results(a: Result, b: Result) -> bool:
    """Equal bit by bit, but for the time they took."""
    fields = ("x", "value", "output", "restart", "forwards", "backwards")
    meta = [{key: value for key, value in result.meta.items() if key != "seconds"} for result in (a, b)]
    return (
        all(same(getattr(a, name), getattr(b, name)) for name in fields)
        and a.status == b.status
        and a.history.keys() == b.history.keys()
        and all(same(values, b.history[name]) for name, values in a.history.items())
        and meta[0] == meta[1]
    )


def check_sample(together: Result, sample: int, alone: Result) -> None:
    """A sample of a batch ends as it does alone."""
    for name in ("x", "value", "output"):
        near(getattr(together, name)[[sample]], getattr(alone, name), 1e-9)
    for name in ("restart", "forwards", "backwards"):
        assert torch.equal(getattr(together, name)[[sample]], getattr(alone, name))
    assert together.status[sample] == alone.status[0]
    steps = len(alone.history["loss"])  # a solve ends when the last sample leaves
    for name, values in together.history.items():
        expected = alone.history[name][..., 0]
        torch.testing.assert_close(values[:steps, :, sample], expected, rtol=0, atol=1e-9, equal_nan=True)
        assert values[steps:, :, sample].isnan().all()


def check_alone(
    run: Callable[[Tensor], Any],
    batch: int,
    x: float = 1e-9,
    value: float | None = None,
    equal: Sequence[str] = (),
    rows: Iterable[int] | None = None,
) -> None:
    """Samples of a batch end as they do alone: ``run`` solves those whose numbers it is given."""
    together = run(torch.arange(batch))
    for row in range(batch) if rows is None else rows:
        alone = run(torch.tensor([row]))
        near(together.x[[row]], alone.x, x)
        if value is not None:
            near(together.value[[row]], alone.value, value)
        for name in equal:
            assert getattr(together, name)[row] == getattr(alone, name)[0], name
