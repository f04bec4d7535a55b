"""CPU time of an iteration of ADR-GD relative to one of PGD, by network and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.study import chosen, study
from benchmarks.timing import Seconds, interleaved, timed
from latentopt.gates import sites
from latentopt.noise import Noise
from latentopt.objectives import Unit
from latentopt.optimizers import ADRGD, GD, PGD, FreeGates, Optimizer, SoftGates
from latentopt.problem import Batch, Problem
from latentopt.reports import Report, Row, Table
from latentopt.sets import Box
from latentopt.solver.loop import solve
from latentopt.zoo.random_nets import WIDTHS, random_net

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StepCase:
    """A network and a batch.

    Args:
        name: of the network.
        build: makes it.
        shape: of one input: an image in [0, 1], or a vector in [-1, 1].
        batch: inputs in a step.
        last: gates that ADR-GD drives, counted from the last; None: all.
        exact: the authors' form too, which computes exact norms in every step.
        compiled: passes through the network are compiled.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    last: int | None = None
    exact: bool = False
    compiled: bool = False

    def posed(self) -> Problem:
        """Arguments of `solve`."""
        box = Box(0.0, 1.0) if len(self.shape) == 3 else Box(-1.0, 1.0)
        return Problem(self.build(), Unit(0), self.shape, self.batch, box)

    def start(self, posed: Problem) -> Tensor:
        """Draw a different random point for each sample."""
        rows = torch.arange(self.batch)
        return posed.rows(rows, Noise(0, rows)).random_start()

    def ready(self, posed: Problem) -> Batch:
        """Arguments of an optimiser."""
        rows = torch.arange(self.batch)
        return posed.rows(rows, Noise(0, torch.zeros_like(rows)), 1_000_000, self.compiled)


def _mlps(model: str) -> list[StepCase]:
    build, shape = partial(random_net, WIDTHS[model], 0), (WIDTHS[model][0],)
    return [
        StepCase(f"net {model}{', compiled' * compiled}", build, shape, batch, exact=not compiled, compiled=compiled)
        for compiled in (False, True)
        for batch in (1, 64)
    ]


CASES: dict[str, list[StepCase]] = {
    "a": _mlps("A"),
    "c": _mlps("C"),
    "mnist": [StepCase("MNIST conv net", networks.mnist_conv, (1, 28, 28), n, exact=n == 1) for n in (1, 32, 256)],
    "vgg19": [StepCase("VGG19", networks.vgg19_cifar, (3, 32, 32), 16)],
    "wide-resnet": [StepCase("wide_resnet50_2, last block", networks.wide_resnet, (3, 224, 224), 2, last=3)],
}


BASE, HAND = "pgd", "by hand"
CLOCKS = ("cpu", "wall")
BLOCK = FreeGates().row_norms.refresh
"""Steps per block: the interval between two estimates of the norms, so that every block pays for one."""
SOLVE = 200
"""Steps of a solve that is timed in full, including set-up."""
NOTE = (
    "Random weights; the first output unit is maximised. The methods alternate, with a block of steps each. A ratio is "
    "a method's block time over the first method's in the same round; the table has the median with the quartiles. "
    "Milliseconds are medians of one step of the whole batch. Forwards and backwards are per sample and step, norms "
    "included."
)


@study
def cost(
    networks: str = "all",
    seconds: float = 60.0,
    rounds: int = 25,
    quick: bool = False,
) -> Report:
    """Time an iteration of each form of ADR-GD relative to one of PGD.

    Args:
        networks: all, or some of a, c, mnist, vgg19, wide-resnet, between commas.
        seconds: time limit per network and batch, after which no new round starts.
        rounds: maximal number of rounds; at least 3 are made.
        quick: net A, one round, as a smoke test.
    """
    if quick:
        seconds, rounds = 0.01, 1
    cases = CASES["a"][:2] if quick else list(chain(*chosen("networks", networks, CASES).values()))
    turns = Turns(seconds, rounds)
    steps = [row for case in cases for row in measure(case, turns)]
    in_loop = [case for case in cases if case.batch <= 64 and not (case.last or case.compiled)]
    loops = [row for case in in_loop for row in measure_loop(case, turns)]
    tables = [_table("One step", steps, ("forwards", "backwards"))]
    if loops:
        tables.append(_table("The loop: solve with plain GD over a loop written by hand", loops, ()))
    return Report("Cost of an iteration", NOTE, tables, steps + loops, partial(_draw, steps))


@dataclass(frozen=True)
class Turns:
    """Limits of the measurement of a case."""

    seconds: float
    most: int
    block: float = 0.02  # CPU seconds that a block of the first method takes at least

    def take(
        self, advance: dict[str, Callable[[int], object]], first: str, least: int = BLOCK
    ) -> tuple[int, dict[str, list[Seconds]]]:
        """Return the steps per block, at least ``least``, and each method's times of its blocks."""
        for function in advance.values():
            function(2)  # first calls are slower
        a_step = min(timed(partial(advance[first], 2)).cpu for _ in range(3)) / 2
        steps = least * max(1, round(self.block / max(least * a_step, 1e-6)))
        blocks = {name: partial(function, steps) for name, function in advance.items()}
        return steps, interleaved(blocks, self.seconds, min(3, self.most), self.most)


def methods(case: StepCase, layers: Sequence[int] | None) -> dict[str, Optimizer]:
    """Return the timed methods; the first is the reference."""
    methods: dict[str, Optimizer] = {
        BASE: PGD(),
        "adr-gd soft": ADRGD(SoftGates(phase=1.0, layers=layers), PGD()),
        "adr-gd paper": ADRGD.paper(layers=layers),
    }
    return methods | ({"adr-gd reference": ADRGD.reference(layers=layers)} if case.exact else {})


class Stepper:
    """A running method; `forwards` and `backwards` are those of the latest block."""

    def __init__(self, batch: Batch, optimizer: Optimizer, start: Tensor) -> None:
        self.batch, self.optimizer, self.x = batch, optimizer, start
        self.state = optimizer.init(batch, start)

    def advance(self, steps: int) -> None:
        self.forwards = self.backwards = 0
        for _ in range(steps):
            step = self.optimizer.step(self.batch, self.x, self.state)
            self.x, self.state = step.x, step.state
            self.forwards, self.backwards = self.forwards + step.cost.forwards, self.backwards + step.cost.backwards


def measure(case: StepCase, turns: Turns) -> list[Row]:
    """Return one row for each method."""
    posed, layers = case.posed(), None
    if case.last:
        assert isinstance(posed.network, nn.Module)
        count = len(sites(posed.network, torch.zeros(1, *case.shape)))
        layers = list(range(count - case.last, count))
    start = case.start(posed)
    steppers = {name: Stepper(case.ready(posed), method, start) for name, method in methods(case, layers).items()}
    steps, times = turns.take({name: stepper.advance for name, stepper in steppers.items()}, BASE)
    return [
        {
            **_row(case, name, steps, times[name], times[BASE]),
            "forwards": stepper.forwards / steps,
            "backwards": stepper.backwards / steps,
        }
        for name, stepper in steppers.items()
    ]


def measure_loop(case: StepCase, turns: Turns) -> list[Row]:
    """Compare `solve` with plain gradient descent and a hand-written loop."""
    problem = case.posed()
    start = case.start(problem)

    def by_hand(steps: int) -> Tensor:
        x = start
        for _ in range(steps):
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(problem.objective(problem.network(x)).sum(), x)
            x = problem.feasible.project(x.detach() - 0.1 * grad)
        return x

    def solved(steps: int) -> Tensor:
        return solve(problem, GD(lr=0.1), steps=steps, start=start).x

    steps, times = turns.take({HAND: by_hand, "solve": solved}, HAND, 1 if turns.most == 1 else SOLVE)
    return [_row(case, name, steps, times[name], times[HAND]) for name in (HAND, "solve")]


def _row(case: StepCase, name: str, steps: int, spent: Sequence[Seconds], base: Sequence[Seconds]) -> Row:
    row: Row = {"network": case.name, "batch": case.batch, "method": name, "rounds": len(spent), "block": steps}
    for clock in CLOCKS:
        own, other = (np.array([getattr(seconds, clock) for seconds in times]) for times in (spent, base))
        low, middle, high = np.quantile(own / other, [0.25, 0.5, 0.75]).tolist()
        row |= {f"{clock}_ms": 1000 * float(np.median(own)) / steps, f"{clock}_ratio": middle}
        row |= {f"{clock}_ratio_q1": low, f"{clock}_ratio_q3": high}
    return row


def _table(title: str, rows: Sequence[Row], counts: Sequence[str]) -> Table:
    def cells(row: Row) -> list[str]:
        ratios = [f"{row[f'{c}_ratio']:.2f} [{row[f'{c}_ratio_q1']:.2f}, {row[f'{c}_ratio_q3']:.2f}]" for c in CLOCKS]
        times = [f"{row[f'{clock}_ms']:.3g}" for clock in CLOCKS]
        counted = [f"{row[name]:.3g}" for name in counts]
        return [row["network"], str(row["batch"]), row["method"], *counted, *times, *ratios, f"{row['rounds']}"]

    columns = ["network", "batch", "method", *counts, "CPU ms", "wall ms", "CPU ratio", "wall ratio", "rounds"]
    return Table(title, "", columns, [cells(row) for row in rows])


def _draw(rows: Sequence[Row], figure: Figure) -> None:
    drawn = [row for row in rows if row["method"].startswith("adr-gd")]
    figure.set_size_inches(8, 1 + 0.28 * len(drawn))
    axes = figure.subplots()
    for index, row in enumerate(drawn):
        errors = [[row["cpu_ratio"] - row["cpu_ratio_q1"]], [row["cpu_ratio_q3"] - row["cpu_ratio"]]]
        axes.errorbar(row["cpu_ratio"], -index, xerr=errors, fmt="o", color="tab:blue", capsize=3)
    names = [f"{row['network']}, batch {row['batch']}: {row['method']}" for row in drawn]
    axes.set_yticks([-index for index in range(len(drawn))], names, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="CPU time of a step over PGD's, median and quartiles")
    axes.grid(alpha=0.3, which="both")
