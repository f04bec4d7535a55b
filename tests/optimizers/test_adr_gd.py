"""ADR-GD with free gates, against the formulas written out with explicit weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import formulas
import pytest
import torch
from formulas import After, Point
from nets import conv, fitting, mlp, near, rand, randn, ready
from torch import Tensor, nn

from latentopt.optimizers import ADRGD, GD, FreeGates, RowNorms
from latentopt.optimizers.adr_gd import ADRGDState
from latentopt.optimizers.free_gates import FreeState
from latentopt.optimizers.gd import GDState

EXACT = RowNorms("exact", refresh=1)
BASE = FreeGates(alpha=4.0, a_eta=0.2, a_beta=0.05, gamma=0.03, delta_beta=0.8, r=0.0, row_norms=EXACT)
NOISY = replace(BASE, r=0.1, delta=0.2, T_p=1)


def compare(method: ADRGD, steps: int = 3, pattern: bool = False) -> tuple[list[list[After]], Tensor]:
    """Follow the method and the formulas for 4 samples from gates off the pattern, or from the pattern."""
    x, target, beta = randn(4, 3, seed=1), randn(4, 2, seed=2), torch.tensor([0.5, 1.0, 1.5, 2.0]).double()
    eta = (0.2 + 0.6 * rand(4, 6, seed=3), 0.2 + 0.6 * rand(4, 5, seed=4))
    points = [Point(x[i], beta[i], None if pattern else [e[i] for e in eta]) for i in range(4)]
    gates = FreeState(0, torch.full((4,), pattern), beta, () if pattern else eta, (), ())
    state = ADRGDState(gates._replace(noisy=() if pattern else (torch.zeros(4), torch.zeros(4))), GDState(0))
    problem, path = ready(fitting(formulas.network(), (3,), target)), []
    for t in range(1, steps + 1):
        after = [formulas.step(method, point, t, target[i]) for i, point in enumerate(points)]
        points = [each.point for each in after]
        step = method.step(problem, x, state)
        x, state = step.x, step.state
        near(step.info["constraint"], torch.stack([each.constraint for each in after]), 1e-9)
        near(x, torch.stack([point.x for point in points]), 1e-9)
        near(state.gates.beta, torch.stack([point.beta for point in points]), 1e-9)
        for i, eta_i in enumerate(state.gates.eta):
            near(eta_i, torch.stack([point.eta[i] for point in points if point.eta]), 1e-9)
            assert state.gates.noisy[i].tolist() == [point.noisy[i] for point in points]
        path.append(after)
    return path, x


FORMS: dict[str, dict[str, Any]] = {
    "as printed": {},
    "the constraint is never met": {"delta_beta": 0.0},
    "the constraint is always met": {"delta_beta": 1e6},
    "eta's gradient only shortened": {"rescale": "above one"},
    "eta's gradient as it is": {"rescale": "never", "a_eta": 0.01},
    "the most violated of a layer": {"reduce": "max"},
    "eta near a half, and kept there": {"start": 0.01, "reach": 0.2},
    "eta read off again": {"start": 0.1, "resync": 2},
    "beta from below": {"beta_min": 0.99, "delta_beta": 1e6},
    "beta from above": {"beta_max": 1.7, "delta_beta": 0.0},
    "output over the norms of its rows": {"scale": "row", "alpha": 60.0},
    "output over its norm": {"scale": "norm"},
    "norms with their own gates": {"row_norms": RowNorms("exact", refresh=1, own_gate=True, floor=0.4)},
    "noise": {"r": 0.1, "delta": 0.2, "T_p": 1},
}


@pytest.mark.parametrize("pattern", [False, True], ids=["off the pattern", "from the pattern"])
@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_free_gates_follow_the_formulas(settings, pattern):
    compare(ADRGD(replace(BASE, **settings), GD(lr=0.1, normalize=True)), pattern=pattern)


@pytest.mark.parametrize("pattern", [False, True], ids=["off the pattern", "from the pattern"])
def test_the_presets_follow_the_formulas(pattern):
    compare(ADRGD.paper(row_norms=EXACT, delta=0.3, T_p=1), 6, pattern)
    path, _ = compare(ADRGD.reference(delta=0.3, T_p=1, resync=4), 6, pattern)
    assert any(any(after.stuck) for step in path for after in step)


def test_every_layer_of_every_sample_has_its_own_noise_clock():
    path, _ = compare(ADRGD(NOISY, GD(lr=0.1, normalize=True)), steps=6)
    clocks = [[after.point.noisy for after in step] for step in path]
    assert len({at for sample in clocks[-1] for at in sample}) > 2
    assert len(set(clocks[-1])) > 2


ABLATIONS: dict[str, dict[str, Any]] = {
    "no distances": {"row_norms": RowNorms("none")},
    "no noise": {"r": 0.0},
    "beta fixed": {"a_beta": 0.0, "gamma": 0.0},
    "no rescaling": {"rescale": "never"},
}


@pytest.mark.parametrize(("name", "settings"), ABLATIONS.items(), ids=ABLATIONS)
def test_each_part_of_the_ablation_is_a_switch_of_its_own(name, settings):
    """Without it the rest follows the formulas, and the result is another one."""
    _, x = compare(ADRGD(NOISY, GD(lr=0.1, normalize=True)), steps=4)
    path, without = compare(ADRGD(replace(NOISY, **settings), GD(lr=0.1, normalize=True)), steps=4)
    assert (x - without).abs().max() > 1e-3
    if name == "beta fixed":
        assert [float(after.point.beta) for after in path[-1]] == [0.5, 1.0, 1.5, 2.0]
    if name == "no rescaling":  # the input's own gradient
        compare(ADRGD(replace(NOISY, **settings), GD(lr=0.1)), steps=4)


def test_the_input_descends_along_the_gradient_of_the_paper_also_unnormalized():
    """Where the gates are the pattern and alpha is large, that gradient is the network's own."""
    net, x = conv().requires_grad_(False), randn(3, 1, 5, 5)
    problem = ready(fitting(net, (1, 5, 5), randn(3, 3, seed=1)))
    method = ADRGD(FreeGates(), GD(lr=1.0))
    step = method.step(problem, x, method.init(problem, x))
    near(x - step.x, problem.gradient(x)[1], 1e-11)
    assert step.info["flips"].tolist() == [0, 0, 0]
    assert step.info["constraint"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", [ADRGD(), ADRGD.paper(), ADRGD.reference()])
def test_a_relu_of_one_number_a_sample_is_a_site_like_any_other(method):
    net = nn.Sequential(mlp(3, 4, 1), nn.Flatten(0), nn.ReLU(), nn.Unflatten(0, (-1, 1))).requires_grad_(False)
    problem, x = ready(fitting(net, (3,), randn(2, 1))), randn(2, 3)
    step = method.step(problem, x, method.init(problem, x))
    near(step.evaluation.output, net(x), 1e-12)


def test_the_papers_settings_go_by_the_names_of_its_table():
    method = ADRGD.paper(a_x=0.5, a_eta=0.25, a_beta=0.001, r=0.2, delta=0.001, delta_beta=0.05, T_p=5, beta0=2)
    assert method.descent == GD(lr=0.5, normalize=True, schedule="constant")
    assert method.gates == FreeGates(2000.0, 2, 0.25, 0.001, 0.01, 0.2, 0.001, 5, 0.05)


@pytest.mark.parametrize(("clip", "lr"), [(0.5, 1.0), (3.0, 0.2)])
def test_a_gradient_longer_than_the_clip_is_scaled_down_to_it(clip, lr):
    problem = ready(fitting(lambda x: x, (3,), torch.zeros(4, 3).double()))
    start = randn(4, 3) * torch.tensor([[0.1], [1.0], [5.0], [0.0]])
    gradient = 2 / 3 * start  # of the mean square
    method = GD(lr=lr, clip=clip)
    moved = method.step(problem, start, method.init(problem, start)).x - start
    length = gradient.norm(dim=1, keepdim=True)
    near(moved, torch.where(length > clip, -lr * clip * gradient / length, -lr * gradient), 1e-14)
