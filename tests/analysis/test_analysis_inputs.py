"""What analyses take: arrays and lists, other integers, networks with several outputs."""

from __future__ import annotations

import pytest
import torch
from nets import mlp, rand, refuses
from torch import Tensor, nn

from latentopt.analysis import dynamics, regions
from latentopt.analysis.certify import certify_robustness

NET = mlp(6, 8, 3, seed=1)
X, END = rand(2, 6), rand(2, 6, seed=1)
Y = NET(X).argmax(1)


class Several(nn.Module):
    """A network that returns its logits among other things."""

    def __init__(self) -> None:
        super().__init__()
        self.net = NET

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(x), "input": x}


TASKS = {
    "pattern": lambda n, x, end, y: regions.pattern(n, x),
    "boundary": lambda n, x, end, y: regions.boundary(n, x, end).distance,
    "walk": lambda n, x, end, y: regions.walk(n, x, end).crossings,
    "trajectory_statistics": lambda n, x, end, y: regions.trajectory_statistics(n, [x, end]).flips,
    "input_hessian_eigs": lambda n, x, end, y: dynamics.input_hessian_eigs(n, x, y).values,
    "hessian_vector": lambda n, x, end, y: dynamics.hessian_vector(n, x, y)(X),
    "predict_perturbation": lambda n, x, end, y: dynamics.predict_perturbation(n, x, y, step=0.1, steps=2),
    "compare_dynamics": lambda n, x, end, y: dynamics.compare_dynamics(n, x, y, step=0.01, steps=2).cosine,
    "amplification": lambda n, x, end, y: dynamics.amplification(n, x, y, step=0.01, steps=2).input_end,
}
GIVEN = {
    "arrays": (NET, X.numpy(), END.numpy(), Y.numpy()),
    "int32": (NET, X, END, Y.int()),
    "several outputs": (Several().eval(), X, END, Y),
    "rows in lists": (NET, list(X), list(END), Y.tolist()),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("given", GIVEN)
def test_analyses_take_what_solves_take(task, given):
    torch.testing.assert_close(TASKS[task](*GIVEN[given]), TASKS[task](NET, X, END, Y), equal_nan=True)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("x", ["mnist", X.long(), X[0], 2 * X / 0], ids=["text", "integers", "one input", "infinite"])
def test_other_inputs_are_named(task, x):
    with refuses("x"):
        TASKS[task](NET, x, x if task == "trajectory_statistics" else END, Y)


def test_a_certificate_has_a_limit_for_each_feature():
    limits = torch.tensor([[0.05, 0.0, 0.05, 0.0, 0.05, 0.0]])
    for certificate in certify_robustness(NET, X, Y, limits, seconds=10):
        assert certificate.bound >= certificate.value
        assert ((certificate.x - X).abs() <= limits + 1e-7).all(1).any()
    wide = certify_robustness(NET, X, Y, 0.05, seconds=10)
    narrow = certify_robustness(NET, X, Y, limits, seconds=10)
    assert all(a.value <= b.bound + 1e-9 for a, b in zip(narrow, wide, strict=True))
