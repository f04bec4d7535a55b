"""`latentopt.compare`: equal cost, pairs, statistics and tables."""

from __future__ import annotations

import csv
import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import latentopt as lo
from latentopt.comparison import Comparison, MethodSummary
from latentopt.comparison.result import paired_interval
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity
from latentopt.optimizers import GD, METHODS, Adam
from latentopt.zoo.cards import load_generator

TARGETS = torch.tensor([[0.5, -0.25], [0.0, 0.75], [-1.0, 1.0]])


def quadratic(solved_below: float | None = None) -> lo.Problem:
    """Three samples of min |x - target|^2 / 2 over [-1, 1]^2; the targets are the solutions."""
    fit = Fit(MSE(), Identity(), TARGETS)
    success = None if solved_below is None else lambda value, output: value < solved_below
    return lo.Problem(nn.Identity(), fit, (2,), 3, lo.sets.Box(-1.0, 1.0), success)


def relu_network() -> lo.Problem:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    return lo.Problem(network, Fit(MSE(), Identity(), TARGETS), (2,), 3, lo.sets.Box(-1.0, 1.0))


def compare(problem: lo.Problem, methods, **settings) -> Comparison:
    settings = {"seeds": 2, "progress": False} | settings
    return lo.compare(problem, methods, **settings)


def by_method(found: Comparison) -> dict[str, MethodSummary]:
    return {line.method: line for line in found.summary()}


def without_times(found: Comparison) -> list[dict]:
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in found.rows]
    return sorted(rows, key=lambda row: (row["method"], row["seed"], row["sample"]))


def test_exact_answer_on_a_quadratic():
    """A gradient step of 1 on the mean squared error of 2 features lands on the target: x - (x - target)."""
    found = compare(quadratic(), {"exact": GD(lr=1.0, schedule="constant"), "slow": GD(lr=1e-3)}, evaluations=40)
    exact, slow = by_method(found)["exact"], by_method(found)["slow"]
    assert exact.mean == exact.median == 0
    assert exact.count == slow.count == 6
    values = torch.stack([run.value for run in found.runs_of("slow").values()])
    assert slow.difference.mean == pytest.approx(float(values.mean()))
    assert slow.wins == slow.ties == 0
    assert math.isnan(exact.difference.mean)


@pytest.mark.parametrize("restarts", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_no_method_exceeds_the_budget_and_steps_use_it_up(restarts):
    found = compare(relu_network(), list(METHODS), evaluations=300, restarts=restarts, seeds=1)
    ran = [run for run in found.runs if not run.reason]
    assert {run.method for run in found.runs if run.reason} == {"basin-cma"}  # a step of it costs 427
    for run in ran:
        spent = run.forwards + run.backwards
        assert int(spent.max()) <= 300, run.method
        dearest = run.curve.evaluations[:-1].diff(dim=0, prepend=torch.zeros(1, 3)).max()
        assert int(spent.min() + dearest) > 300, run.method  # one more might not fit


def test_costs_are_those_of_solve():
    found = compare(relu_network(), ["adam"], evaluations=100, restarts=2, seeds=[7])
    (run,) = found.runs
    again = lo.solve(relu_network(), "adam", steps=24, restarts=2, seed=7, evaluations=100)
    assert torch.equal(run.value, again.value)
    assert torch.equal(run.forwards, again.forwards)
    assert torch.equal(run.backwards, again.backwards)
    assert run.status == again.status
    assert run.curve.best.shape == run.curve.evaluations.shape == (25, 3)
    assert bool((run.curve.best.diff(dim=0) <= 0).all())
    assert run.curve.evaluations[:, 0].tolist() == [4 * t for t in range(1, 25)] + [99]


def test_steps_that_are_given_are_taken():
    found = compare(quadratic(), ["adam"], evaluations=10**6, steps=5)
    assert {len(run.curve.best) for run in found.runs} == {6}
    assert {row["forwards"] for row in found.rows} == {7}


def test_a_method_against_itself():
    found = compare(relu_network(), {"one": "adam", "same": Adam()}, evaluations=60)
    same = by_method(found)["same"]
    assert same.difference == (0, 0, 0, 0)
    assert (same.wins, same.ties) == (0, 1)


def test_the_order_of_methods_does_not_matter():
    forward = compare(relu_network(), ["adam", "gd", "lbfgs"], evaluations=60, reference="gd")
    backward = compare(relu_network(), ["lbfgs", "gd", "adam"], evaluations=60, reference="gd")
    assert without_times(forward) == without_times(backward)
    for line in forward.summary():
        other = by_method(backward)[line.method]
        assert line.difference == pytest.approx(other.difference, nan_ok=True)
        assert line.solved == other.solved


def test_solved_samples_leave_and_tie():
    found = compare(quadratic(1e-3), ["adam", "lbfgs"], evaluations=400)
    assert all(line.solved == 1 for line in found.summary())
    assert by_method(found)["lbfgs"].ties == 1
    run = found.runs[0]
    spent = run.forwards + run.backwards
    assert len(spent.unique()) > 1
    assert torch.equal(run.curve.evaluations[-1], spent)
    assert bool((run.curve.evaluations.diff(dim=0) >= 0).all())
    assert [row["status"] for row in found.rows] == ["solved"] * 12


def test_methods_that_cannot_run_have_a_reason():
    problem = lo.Problem(nn.Identity(), lambda output: output.square().sum(1), (2,), 2, lo.sets.Box(-1.0, 1.0))
    found = compare(problem, ["adr-gd", "lm", "basin-cma", "adam", "gd"], evaluations=50)
    reasons = {row["method"]: row["reason"] for row in found.rows if row["reason"]}
    assert set(reasons) == {"adr-gd", "lm", "basin-cma"}
    assert "piecewise-linear" in reasons["adr-gd"]
    assert "sum of squares" in reasons["lm"]
    assert "one step of this method" in reasons["basin-cma"]
    assert by_method(found)["adam"].count == 4
    assert found.reference == "adam"  # the first that can run
    assert math.isfinite(by_method(found)["gd"].difference.mean)
    named = compare(problem, ["lm", "adam"], evaluations=50, reference="lm")
    assert math.isnan(by_method(named)["adam"].difference.mean)  # the reference has no values
    assert "lm: objective: expected a sum of squares" in found.markdown()
    with pytest.raises(lo.InputError, match="at least one that can run"):
        compare(problem, ["lm"], evaluations=50)


def test_a_reconstruction():
    generator = load_generator("mnist-vae")
    problem = lo.Reconstruction(generator, generator(generator.latents(2, 1)).detach(), tolerance=1e-3)
    found = compare(problem, ["adr-gd", "adam"], evaluations=60, seeds=1)
    assert [row["sample"] for row in found.rows] == [0, 1, 0, 1]
    assert max(row["forwards"] + row["backwards"] for row in found.rows) <= 60


def test_a_time_budget():
    found = compare(quadratic(), ["gd", "adam"], seconds=0.2, seeds=1)
    for run in found.runs:
        assert run.wall_seconds * 3 < 2  # a step under way is finished, on a machine that does other work too
        assert len(run.curve.best) > 3
    assert "0.2 s a solve" in found.markdown()


def test_callbacks_see_every_solve():
    seen = []
    compare(quadratic(), ["adam"], evaluations=20, callbacks=[lambda progress: seen.append(progress.meta["seed"])])
    assert seen == [0] * 9 + [1] * 9


def test_files(tmp_path):
    found = compare(quadratic(), {"a": "adam", "b": "gd"}, evaluations=30)
    files = found.save(tmp_path / "new")
    assert [path.name for path in files] == ["results.csv", "table.md", "plot.png"]
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [(r["method"], r["seed"], r["sample"]) for r in rows] == [
        (m, s, i) for m, s, i in itertools.product("ab", "01", "012")
    ]
    assert (tmp_path / "new" / "table.md").read_text().count("\n| ") == 3
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(lo.InputError, match="overwrite"):
        found.save(tmp_path / "new")
    found.save(tmp_path / "new", overwrite=True)


@pytest.mark.parametrize(
    ("methods", "settings", "message"),
    [
        (["adam"], {}, "evaluations, seconds or both"),
        ([], {"evaluations": 9}, "at least one"),
        (["adam", "adam"], {"evaluations": 9}, "each method once"),
        (["adam"], {"evaluations": 9, "reference": "gd"}, "one of adam"),
        (["adam"], {"evaluations": 9, "seeds": [1, 1]}, "seeds that differ"),
        (["adam"], {"evaluations": 9, "seeds": 0}, "an integer >= 1"),
        (["adam"], {"evaluations": 9, "seeds": 1.5}, "an integer or a sequence"),
        (["adam"], {"evaluations": 9, "seeds": ["a"]}, "an integer or a sequence"),
        (["adam"], {"evaluations": 9, "restarts": 0}, "an integer >= 1"),
        (["adam"], {"seconds": -1.0}, "a finite number > 0"),
        (["nothing"], {"evaluations": 9}, "one of adr-gd"),
    ],
)
def test_wrong_arguments(methods, settings, message):
    with pytest.raises(lo.InputError, match=message):
        compare(quadratic(), methods, **settings)


numbers = st.floats(-1e3, 1e3, width=32)
tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(numbers, min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda values: torch.tensor(values).reshape(shape)
    )
)


@given(tables, st.randoms(use_true_random=False))
def test_intervals_hold_the_mean_whatever_the_order(differences: Tensor, random):
    low, high = paired_interval(differences)[1:3]
    mean = float(differences.double().mean())
    assert low <= mean <= high
    order = random.sample(range(differences.shape[1]), differences.shape[1])
    shuffled = paired_interval(differences[:, order])
    assert shuffled[:3] == pytest.approx((mean, low, high), rel=1e-6, abs=1e-6)
    assert paired_interval(-differences)[:3] == pytest.approx((-mean, -high, -low), rel=1e-6, abs=1e-6)


def test_intervals_are_students_where_one_factor_is_alone():
    from scipy.stats import ttest_1samp

    values = [0.5, -1.0, 2.0, 0.25]
    exact = ttest_1samp(values, 0).confidence_interval(0.95)
    for shape in ((4, 1), (1, 4)):
        assert paired_interval(torch.tensor(values).reshape(shape))[1:3] == pytest.approx(tuple(exact))
    equal_samples = torch.tensor(values)[:, None].expand(4, 6)  # six copies of one sample tell no more than one
    assert paired_interval(equal_samples)[1:3] == pytest.approx(tuple(exact))


def test_intervals_hold_in_95_of_100_cases():
    """Effects of seeds and of samples, and noise of single solves."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        values = rng.normal(size=(5, 1)) + rng.normal(size=(1, 20)) + rng.normal(size=(5, 20))
        estimate = paired_interval(torch.tensor(values))
        inside += estimate.low <= 0 <= estimate.high
    assert 0.92 <= inside / 400 <= 0.99
