"""What methods that drive gates act on: the network's own activations, once, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import fitting, mlp, near, randn, ready, refuses
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

import latentopt as lo
from latentopt.batch_math import sample_rms
from latentopt.gates import count_sites, preactivations, sites, soft_backward, uncapped_backward
from latentopt.objectives import L1, MSE, Fit, Huber
from latentopt.zoo.capped import Capped

GATED = ["adr-gd", "adr-gd-soft", "adr-gd-paper", "adr-gd-reference"]


def soft_jacobian(x: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Outputs (B, 2) of `mlp(3, 5, 2)` and, through soft gates, their derivatives (B, 2, 3), by the formula."""
    first, _, second = mlp(3, 5, 2)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    z = first(x)
    gate = torch.sigmoid(z / (tau * z.square().mean(1, keepdim=True).sqrt()))
    return second(z.relu()).detach(), (second.weight * gate[:, None] @ first.weight).detach()


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_absolute_values_of_an_l1_loss_stay_hard(tau):
    x, target = randn(4, 3, seed=1), randn(4, 2, seed=2)
    problem = ready(lo.Problem(mlp(3, 5, 2), Fit(L1(), nn.Identity(), target), (3,), 4, like=target))
    output, jacobian = soft_jacobian(x, tau)
    _, grad = problem.soft_gradient(x, tau)
    near(grad, ((output - target).sign()[:, None] @ jacobian)[:, 0] / 2, 1e-14)


def hinge(output: Tensor) -> Tensor:
    return (1 - output).clamp(min=0).sum(1)


OBJECTIVES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {  # and its gradient
    "hinge": (hinge, lambda y: -(y < 1).double()),
    "relu": (lambda y: (1 - y).relu().sum(1), lambda y: -(y < 1).double()),
    "relu in place": (lambda y: (1 - y).relu_().sum(1), lambda y: -(y < 1).double()),
    "abs": (lambda y: y.abs().sum(1), torch.sign),
    "clipped": (lambda y: y.clip(-0.5, 0.5).sum(1), lambda y: (y.abs() <= 0.5).double()),
    "hardtanh": (lambda y: nn.functional.hardtanh(y).sum(1), lambda y: (y.abs() < 1).double()),
    "leaky relu": (lambda y: nn.functional.leaky_relu(y, 0.2).sum(1), lambda y: 0.2 + 0.8 * (y > 0).double()),
    "huber": (Fit(Huber(0.1), nn.Identity(), torch.zeros(4, 2).double()), lambda y: y.clamp(-0.1, 0.1) / 2),
    "a clamping operator": (
        Fit(MSE(), lambda y: y.clamp(0, 1), torch.ones(4, 2)),
        lambda y: (y.clamp(0, 1) - 1) * ((y >= 0) & (y <= 1)),
    ),
}


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_an_objective_s_own_kinks_stay_hard(name):
    objective, slope = OBJECTIVES[name]
    x = randn(4, 3, seed=1)
    problem = ready(lo.Problem(mlp(3, 5, 2), lambda y: objective(y.clone()), (3,), 4, like=x))
    output, jacobian = soft_jacobian(x, 0.5)
    near(problem.soft_gradient(x, 0.5)[1], (slope(output)[:, None] @ jacobian)[:, 0], 1e-14)


def test_a_penalty_s_kinks_stay_hard():
    x = randn(4, 3, seed=1)
    plain = ready(lo.Problem(mlp(3, 5, 2), lambda y: y.sum(1), (3,), 4, like=x))
    both = ready(lo.Problem(mlp(3, 5, 2), lambda y: y.sum(1), (3,), 4, like=x, penalty=lambda x: x.abs().sum(1)))
    near(both.soft_gradient(x, 0.5)[1] - plain.soft_gradient(x, 0.5)[1], x.sign(), 1e-14)


@pytest.mark.parametrize("method", GATED[:2])
def test_a_hinge_that_is_satisfied_moves_nothing(method):
    start = randn(4, 3, seed=1)
    problem = lo.Problem(mlp(3, 5, 2), lambda y: (-50 - y).clamp(min=0).sum(1), (3,), 4, like=start)
    found = lo.solve(problem, method, steps=5, start=start)
    assert found.value.tolist() == [0.0] * 4
    assert torch.equal(found.x, start)
    assert bool((found.history.get("grad_norm", torch.zeros(1)) == 0).all())


@pytest.mark.parametrize("objective", [hinge, lambda y: y.abs().sum(1), Fit(L1(), torch.relu, torch.zeros(4, 2))])
@pytest.mark.parametrize("method", GATED)
def test_a_network_without_gates_is_refused_whatever_the_objective(method, objective):
    network = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)).double()
    problem = lo.Problem(
        network, objective, (3,), 4, like=torch.zeros(1).double(), penalty=lambda x: x.clamp(-1, 1).sum(1)
    )
    with refuses("network", "piecewise-linear"):
        lo.solve(problem, method, steps=2)


@pytest.mark.parametrize(
    "gates", [lo.SoftGates(layers=(1,)), lo.SoftGates(layers=(1,), steps=15), lo.FreeGates(layers=(1,))]
)
def test_the_objective_has_no_site_that_could_be_chosen(gates):
    problem = lo.Problem(mlp(3, 5, 2), hinge, (3,), 4, like=torch.zeros(1).double())
    with refuses("layers", "0 to 0"):
        lo.solve(problem, lo.ADRGD(gates, lo.GD()), steps=2)


def test_what_a_generator_or_classifier_does_around_its_module_is_the_network():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Unflatten(1, (1, 2, 2)), nn.ReLU6())
    generator = lo.Generator(module, latent_shape=(3,), output_range=(0, 6))
    assert [site.kind for site in sites(generator, torch.zeros(1, 3))] == ["relu", "hardtanh"]


class Checkpointed(nn.Module):
    """`mlp(6, 6, 6, 3)`, its hidden layers in checkpoints; with None, in none."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.net, self.reentrant = mlp(6, 6, 6, 3), reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.net[:2], self.net[2:4]):
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return self.net[4](x)


def solved(network: Callable[[Tensor], Tensor], method: str) -> Tensor:
    return lo.solve(fitting(network, (6,), randn(4, 3)), method, steps=4, start=randn(4, 6, seed=1)).x


@pytest.mark.parametrize("method", ["gd", "lbfgs", "lm", "apgd"])
def test_a_checkpointed_network_is_solved_as_it_is_without(method):
    assert torch.equal(solved(Checkpointed(False), method), solved(Checkpointed(None), method))


@pytest.mark.parametrize("method", GATED)
def test_gates_within_a_checkpoint_are_refused(method):
    """The backward pass would call the activations again, without their gates."""
    with refuses("network", "torch.utils.checkpoint"):
        solved(Checkpointed(False), method)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("method", ["gd", *GATED, "lbfgs"])
def test_reentrant_checkpoints_which_have_no_gradient_are_refused_by_name(method):
    with refuses("network", "use_reentrant=True"):
        solved(Checkpointed(True), method)


@pytest.mark.parametrize("drive", [lambda network: network, lambda network: Capped(network, 1.0)])
def test_what_stands_for_activations_within_a_checkpoint_is_refused_everywhere(drive):
    x = randn(4, 6).requires_grad_()
    with refuses("network", "torch.utils.checkpoint"), uncapped_backward(4):
        drive(Checkpointed(False))(x)
    if drive(x) is not x:
        with refuses("network", "torch.utils.checkpoint"):
            drive(Checkpointed(False))(x)


def test_gates_within_a_checkpoint_may_be_looked_at():
    network, x = Checkpointed(False), randn(4, 6)
    with torch.no_grad():
        assert count_sites(network, x) == 2
        for mine, plain in zip(preactivations(network, x), preactivations(Checkpointed(None), x), strict=True):
            assert torch.equal(mine, plain)


@pytest.mark.parametrize("method", GATED)
def test_other_hooks_on_saved_tensors_change_nothing(method):
    def network(x: Tensor) -> Tensor:
        with save_on_cpu():
            return plain(x)

    plain = Checkpointed(None)
    assert torch.equal(solved(network, method), solved(plain, method))


@pytest.mark.parametrize("method", GATED)
def test_an_activation_that_no_gradient_passes_through_is_a_constant(method):
    """A mask, say; its gates have no gradient either."""
    plain = mlp(6, 5, 3)

    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                mask = torch.relu(x) + 1
            return plain(x * mask)

    masked = Masked()
    x = randn(4, 6, seed=1)
    problem = ready(fitting(masked, (6,), randn(4, 3)))
    fixed = ready(fitting(lambda u: plain(u * (x.relu() + 1)), (6,), randn(4, 3)))
    near(problem.soft_gradient(x, 0.5, (1,))[1], fixed.soft_gradient(x, 0.5)[1], 1e-14)
    assert solved(masked, method).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_width_of_soft_gates_does_not_overflow_in_half_precision(dtype):
    assert sample_rms(torch.full((2, 8), 3e4, dtype=dtype)).tolist() == pytest.approx([3e4] * 2, rel=0.01)
    h = torch.tensor([[3e4, -3e4]], dtype=dtype).requires_grad_()
    with soft_backward(1.0, 1):
        output = torch.relu(h)
    (grad,) = torch.autograd.grad(output.sum(), h)
    near(grad.float(), torch.tensor([[1.0, -1.0]]).sigmoid(), 0.005)


def test_autocast_changes_precision_alone():
    x = randn(4, 3, seed=1, dtype=torch.float32)
    problem = ready(fitting(mlp(3, 5, 2, dtype=torch.float32), (3,), randn(4, 2, dtype=torch.float32)))
    with torch.autocast("cpu", torch.bfloat16):
        rough = problem.soft_gradient(x, 0.5)[1]
    near(rough, problem.soft_gradient(x, 0.5)[1], 0.05)
