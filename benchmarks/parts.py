"""The parts of the benchmark of random networks: Table 1(c), the ablation and Figure 5 of arXiv 2406.00494."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.cells import Cell
from benchmarks.methods import CONTROL, PAPERS_ALPHA, Method, ablations, alphas, tuned
from benchmarks.runs import Nets, rate, run, steps_within
from latentopt.optimizers import Optimizer, RowNorms

PRINTED, PASSES, SECONDS = "one start", "equal passes", "equal CPU time"
NOTES: dict[tuple[str, str], str] = defaultdict(
    lambda: "One start at 0.",
    {
        ("table", PRINTED): "As in the paper: one start at 0, as many steps for all, whatever they cost.",
        ("table", PASSES): "As many forwards and backwards for all, in one long run from 0 and in shorter ones.",
        ("table", SECONDS): "The CPU time of the control for all, in one long run from 0 and in shorter ones.",
    },
)


@dataclass(frozen=True)
class Plan:
    """What is run, and how much of it."""

    model: str
    nets: Nets
    steps: int  # of a single start
    starts: int  # where there are several
    seed: int
    control_steps: int = 200  # of each of the control's starts; its time is the budget of CPU time
    probe: int = RowNorms().refresh  # steps of the shorter run that finds what a step costs: norms are paid for once

    def shortened(self) -> Plan:
        """The plan of a smoke test."""
        return replace(self, control_steps=6, probe=1)

    @property
    def passes(self) -> int:
        """Forwards and backwards of each network: what a gradient method needs for its single start."""
        return 2 * self.steps

    def cell(self, part: str, group: str, name: str, optimizer: Optimizer, steps: int, restarts: int) -> Cell:
        """Run it."""
        ran = run(self.nets, optimizer, steps, restarts, self.seed)
        return Cell(part, group, name, optimizer, restarts, steps, ran)


def table_cells(plan: Plan, methods: Mapping[str, Method]) -> Iterator[Cell]:
    """Every method as in the paper, at equal counted cost, and in equal CPU time."""
    control = methods[CONTROL].at(None)
    leader = plan.cell("table", SECONDS, CONTROL, control, plan.control_steps, plan.starts)
    for name, method in methods.items():
        for restarts in (1, plan.starts):
            optimizer, leads = method.at(tuned(plan.model, restarts > 1, name)), name == CONTROL and restarts > 1
            cost = rate(plan.nets, optimizer, restarts, plan.probe)
            steps = steps_within(plan.passes / restarts, cost.passes)
            equal = plan.cell("table", PASSES, name, optimizer, steps, restarts)
            if restarts == 1:
                same = steps == plan.steps
                printed = equal if same else plan.cell("table", PRINTED, name, optimizer, plan.steps, 1)
                yield replace(printed, group=PRINTED, control=name == CONTROL)
            yield replace(equal, control=leads)
            steps = steps_within(leader.ran.seconds, cost.seconds)
            yield (
                replace(leader, control=True)
                if leads
                else plan.cell("table", SECONDS, name, optimizer, steps, restarts)
            )


def ablation_cells(plan: Plan) -> Iterator[Cell]:
    """Each form of ADR-GD, and what it is without each of its parts."""
    for form, variants in ablations(plan.model).items():
        for at, (name, optimizer) in enumerate(variants.items()):
            cell = plan.cell("ablation", form, name, optimizer, plan.steps, 1)
            yield replace(cell, control=at == 0)


def alpha_cells(plan: Plan) -> Iterator[Cell]:
    """Each form of ADR-GD by the slope of its gates."""
    for form, variants in alphas(plan.model).items():
        for alpha, optimizer in variants.items():
            cell = plan.cell("alpha", form, f"{alpha:g}", optimizer, plan.steps, 1)
            yield replace(cell, control=alpha == PAPERS_ALPHA)
