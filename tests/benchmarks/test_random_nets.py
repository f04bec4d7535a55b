from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from nets import Counted, near, rand, randn, refuses
from scipy import stats
from studies import result_rows

from benchmarks import cost as cost_module
from benchmarks import norms as norms_module
from benchmarks.cost import CASES, StepCase
from benchmarks.networks import RandomNets, mnist_conv, vgg19_cifar
from benchmarks.random_net_methods import CONTROL, ablations, alphas, methods, paper
from benchmarks.random_net_runs import NetworkSet, rate, run, steps_within
from benchmarks.random_nets import random_nets
from benchmarks.statistics import paired, reached
from benchmarks.timing import interleaved, threads
from latentopt.gates import preactivations
from latentopt.objectives import Unit
from latentopt.optimizers import ADRGD, PGD, Adam, Optimizer
from latentopt.problem import Problem
from latentopt.sets import Box
from latentopt.solver.loop import solve
from latentopt.statistics import student
from latentopt.zoo.random_nets import WIDTHS, random_layers, random_net

FILES = {"table.md", "results.csv", "plot.png", "environment.json"}
SMALL = (3, 7, 5, 1)


def stacked(*seeds: int, widths: tuple[int, ...] = SMALL) -> RandomNets:
    return RandomNets(widths, seeds, torch.float64)


def test_the_random_networks_are_drawn_from_numpys_stream_weight_then_bias():
    np.random.seed(3)  # noqa: NPY002, the published networks are defined by it
    expected = []
    for before, after in pairwise(WIDTHS["A"]):
        for shape in ((before, after), (after,)):
            p, m = np.random.uniform(0, 1, shape), np.random.uniform(0, 1, shape)  # noqa: NPY002
            expected.append(np.where(p <= 0.5, m, -m))
    drawn = random_layers(WIDTHS["A"], 3)
    assert [a.shape for a in drawn] == [(10, 64), (64,), (64, 64), (64,), (64, 1), (1,)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, expected, strict=True))
    x = randn(5, 10)
    h = x.numpy()
    for at in range(0, 6, 2):
        h = h @ drawn[at] + drawn[at + 1]
        h = np.maximum(h, 0) if at < 4 else h
    near(random_net(WIDTHS["A"], 3, torch.float64)(x), torch.from_numpy(h), 1e-12)


@pytest.mark.parametrize("copies", [1, 2, 7])
def test_stacked_networks_are_the_single_ones(copies):
    seeds = (4, 0, 9)
    nets, x = stacked(*seeds), randn(3 * copies, 3)
    single = [random_net(SMALL, seed, torch.float64) for seed in seeds]
    near(nets(x), torch.cat([single[i % 3](x[[i]]) for i in range(3 * copies)]), 1e-12)
    assert all(h.shape == (3 * copies, width) for h, width in zip(preactivations(nets, x), SMALL[1:-1], strict=True))
    with refuses("x"):
        nets(x[:-1])


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([0, 1, 2], None),
        ([0, 1, 2, 0, 1, 2], None),
        ([3, 4, 5], None),
        ([1], [1]),
        ([2, 0, 1], [2, 0, 1]),
        ([5, 3], [2, 0]),
    ],
)
def test_rows_of_stacked_networks(rows, chosen):
    nets = stacked(4, 0, 9)
    taken = nets.take(torch.tensor(rows))
    if chosen is None:
        assert taken is nets
    else:
        x = randn(2 * len(chosen), 3)
        near(taken(x), stacked(*[(4, 0, 9)[i] for i in chosen])(x), 1e-12)
        assert len(nets) == 3
        assert len(taken) == len(chosen)


@pytest.mark.parametrize(
    "method", [PGD(), Adam(), ADRGD(), paper("A", delta=10.0, T_p=0), ADRGD.reference()], ids=lambda m: type(m).__name__
)
def test_all_networks_and_restarts_in_one_solve_equal_each_network_alone(method: Optimizer):
    seeds = (0, 1, 5)

    def values(network, count: int) -> torch.Tensor:
        problem = Problem(network, Unit(0), (10,), count, Box(-1.0, 1.0), like=torch.empty(0, dtype=torch.float64))
        result = solve(problem, method, steps=4, restarts=3, start=torch.zeros(count, 10, dtype=torch.float64))
        return torch.cat([result.history["loss"].flatten(0, 1), result.value[None]])

    together = values(stacked(*seeds, widths=WIDTHS["A"]), 3)
    for at, seed in enumerate(seeds):
        near(together[:, at], values(random_net(WIDTHS["A"], seed, torch.float64), 1)[:, 0], 1e-8)


def test_the_control_finds_the_certified_optimum_of_net_a_in_one_batched_solve():
    found = run(NetworkSet(WIDTHS["A"], tuple(range(20))), methods("A")[CONTROL].at(None), 200, 32, 0)
    assert found.values[0] == pytest.approx(64.876, rel=1e-3)  # branch and bound: at most .1 % more
    assert sum(found.values) / 20 == pytest.approx(53.61, rel=1e-3)
    assert (found.forwards, found.backwards) == (32 * 201 + 1, 32 * 200)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "seeds", "method", "steps", "restarts", "expected", "tolerance"),
    [  # measured beforehand with other code; constant steps amplify rounding
        ("A", 20, "gd-paper", 3000, 1, 49.65, 2e-3),
        ("A", 20, "pgd-exponential", 3000, 1, 50.83, 2e-3),
        ("B", 10, "pgd-exponential", 3000, 1, 3188, 2e-3),
        ("B", 20, "gd-paper", 3000, 1, 2820, 2e-2),
        ("B", 10, "gd", 200, 32, 3338, 2e-3),
    ],
)
def test_the_reference_figures_are_met(model, seeds, method, steps, restarts, expected, tolerance):
    found = run(NetworkSet(WIDTHS[model], tuple(range(seeds))), methods(model)[method].at(0.5), steps, restarts, 0)
    assert sum(found.values) / seeds == pytest.approx(expected, rel=tolerance)


def test_the_rate_of_a_method_is_what_its_steps_cost():
    nets = NetworkSet(SMALL, (0, 1))
    assert rate(nets, PGD(), 2, 20).passes == 2
    refresh, probes = paper("A").gates.row_norms.refresh, paper("A").gates.row_norms.probes  # pyright: ignore
    assert rate(nets, paper("A"), 1, refresh).passes == pytest.approx(4 + (probes + 1) / refresh)
    assert (steps_within(6000, 2), steps_within(6000 / 32, 2), steps_within(3, 100)) == (3000, 94, 1)


def test_means_and_pairs_are_those_of_scipy():
    a, b = [3.0, 5.0, 4.0, 8.5, 1.0], [2.0, 5.004, 5.0, 6.0, 1.0]
    ours, theirs = paired(a, b), stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.95)
    assert ours.difference.mean == pytest.approx(0.4992)
    assert (ours.difference.low, ours.difference.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert ours.difference.error == pytest.approx(stats.sem(np.array(a) - b), rel=1e-12)
    assert (ours.wins, ours.ties, ours.losses) == (2, 2, 1)  # within .1 % is level
    assert student([7.0])[:3] == (7.0, -np.inf, np.inf)
    assert reached([10.0, 9.995, 9.98, -10.0], [10.0, 10.0, 10.0, -9.995]) == 0.75
    with refuses("theirs"):
        paired([1.0], [1.0, 2.0])


def test_blocks_take_turns_and_threads_are_restored():
    order: list[str] = []
    taken = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0, 2, 5)
    assert order == ["a", "b", "b", "a"]
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_errors_of_estimated_norms_are_those_of_the_chi_distribution():
    case = norms_module.NormsCase("net", random_net((6, 40, 30, 1), 0, torch.float64), rand(10, 6))
    exact, *rows = norms_module.measure(case, repeats=40, seed=0)
    assert exact["forwards"] == 7
    for row in rows:
        k = row["probes"]
        expected = stats.chi(k, scale=k**-0.5).expect(lambda r: abs(r - 1))
        assert row["mean_error"] == pytest.approx(expected, rel=0.1)
        assert row["forwards"] == k + 1


@pytest.mark.parametrize("name", ["a", "mnist"])
def test_counted_steps_are_what_passes_through_the_network(name):
    case = CASES[name][0]
    network = Counted(case.build())
    counted = StepCase("counted", lambda: network, case.shape, 2)
    posed = counted.posed()
    for method in cost_module.methods(counted, None).values():
        stepper = cost_module.Stepper(counted.ready(posed), method, counted.start(posed))
        stepper.advance(3)
        network.forwards = network.backwards = 0
        stepper.advance(cost_module.BLOCK)
        assert (network.forwards, network.backwards) == (2 * stepper.forwards, 2 * stepper.backwards)


def test_the_timed_networks_are_those_described():
    assert sum(h.numel() for h in preactivations(mnist_conv(), torch.zeros(1, 1, 28, 28))) == 8396
    vgg = vgg19_cifar()
    assert len(preactivations(vgg, torch.zeros(1, 3, 32, 32))) == 17
    assert torch.equal(vgg[2].weight, vgg19_cifar()[2].weight)  # pyright: ignore
    assert all(not p.requires_grad for p in vgg.parameters())


def test_the_ablation_leaves_out_one_part_each():
    for form, variants in ablations("A").items():
        whole = variants["whole"]
        assert isinstance(whole, ADRGD)
        changed = {name: _differences(whole, variant) for name, variant in variants.items()}
        assert changed.pop("whole") == set()
        assert changed.pop("without activation variables") == {"all"}
        assert list(changed.values()) == [{"row_norms"}, {"r"}, {"a_beta", "gamma"}, {"rescale", "descent"}], form
    assert all({method.gates.alpha for method in form.values()} == set(form) for form in alphas("A").values())  # pyright: ignore


def _differences(a: ADRGD, b: Optimizer) -> set[str]:
    if not isinstance(b, ADRGD):
        return {"all"}
    names = {name for name in vars(a.gates) if getattr(a.gates, name) != getattr(b.gates, name)}
    return names | ({"descent"} if a.descent != b.descent else set())


@pytest.mark.slow
def test_every_method_is_compared_on_the_same_networks(tmp_path):
    (tmp_path / "table.md").write_text("old")
    written = random_nets("A", quick=True, part="table", out=str(tmp_path), overwrite=True)
    rows = result_rows(tmp_path)
    assert {row["method"] for row in rows} == set(methods("A"))
    assert all(f"| {name} " in written.markdown or f"**{name}**" in written.markdown for name in methods("A"))
    best = {seed: max(float(row["value"]) for row in rows if row["network"] == seed) for seed in ("0", "1")}
    assert all(float(row["best_known"]) == best[row["network"]] for row in rows)
    assert (tmp_path / "table.md").read_text() == written.markdown


@pytest.mark.slow
def test_equal_cost_is_equal_within_a_step_and_one_set_of_norms(tmp_path):
    random_nets("A", seeds=2, steps=200, starts=2, methods="adr-gd-paper", part="table", out=str(tmp_path))
    equal = [row for row in result_rows(tmp_path) if row["group"] == "equal passes"]
    assert {(row["method"], row["restarts"]) for row in equal} >= {("pgd", "1"), ("adr-gd-paper", "2")}
    for row in equal:
        restarts = int(row["restarts"])
        passes = int(row["forwards"]) + int(row["backwards"]) - restarts - 1  # the last looks
        assert abs(passes - 400) <= (4 + 9) * restarts
    steps = {(row["method"], row["restarts"]): int(row["steps"]) for row in equal}
    assert (steps["pgd", "1"], steps["pgd", "2"]) == (200, 100)
