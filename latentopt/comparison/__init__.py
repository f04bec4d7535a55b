"""Compare methods on one problem at equal cost, paired by seed and sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from latentopt.arguments import Values, checked
from latentopt.comparison.result import Comparison, MethodSummary, first_to_run
from latentopt.comparison.runs import Budget, MethodRun, method_runs
from latentopt.errors import InputError, positive
from latentopt.optimizers import Optimizer, method
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.sets import FeasibleSet
from latentopt.solver.callbacks import Callbacks, as_callbacks

__all__ = ["Budget", "Comparison", "MethodRun", "MethodSummary", "compare", "named_methods", "seed_numbers"]

Methods = str | Optimizer | Sequence[str | Optimizer] | Mapping[str, str | Optimizer]


def named_methods(methods: Methods, feasible: FeasibleSet | None = None) -> dict[str, Optimizer]:
    """Return methods by their names; an optimiser in a sequence is named by its repr.

    Args:
        methods: names and optimisers, or a mapping of names to either.
        feasible: set that they search; it decides what ``adr-gd`` stands for.

    Returns:
        Name to optimiser.

    Raises:
        InputError: there is none, one is unknown, or two have the same name.
    """
    if isinstance(methods, str | Optimizer):
        methods = [methods]
    if isinstance(methods, Mapping):
        pairs = list(methods.items())
    else:
        pairs = [(method if isinstance(method, str) else repr(method), method) for method in methods]
    names = [name for name, _ in pairs]
    if not names:
        raise InputError("methods", "at least one", "none")
    if len(set(names)) < len(names):
        raise InputError("methods", "each method once, or a mapping of names to optimisers", ", ".join(names))
    return {name: method(entry, feasible) for name, entry in pairs}


def seed_numbers(seeds: int | Iterable[int]) -> list[int]:
    """Return the seeds: ``3`` stands for 0, 1, 2.

    Args:
        seeds: a count, or the seeds themselves.

    Returns:
        The seeds.

    Raises:
        InputError: there is none, or one is given twice.
    """
    if isinstance(seeds, int):
        positive("seeds", seeds, integer=True)
        return list(range(seeds))
    numbers: list[int] = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    if not all(type(number) is int for number in numbers):
        raise InputError("seeds", "a count, or integers", repr(seeds))
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError("seeds", "a count, or seeds that differ", numbers)
    return numbers


@checked
def compare(
    problem: Problem,
    methods: Methods,
    *,
    evaluations: int | None = None,
    seconds: float | None = None,
    seeds: int | Iterable[int] = 3,
    restarts: int = 1,
    steps: int | None = None,
    start: Values | None = None,
    reference: str | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> Comparison:
    """Compare methods on a problem at equal cost, paired by seed and sample.

    Each method solves all samples once a seed. All methods have the same starts at the same seed. A method that cannot
    run on the problem, because it needs gates, a sum of squares or a bounded set, has its reason in the table and does
    not stop the others.

    Args:
        problem: what to minimise; also a `Reconstruction`.
        methods: registered names and optimisers; or a mapping of names of your own to either.
        evaluations: what each sample may cost: forwards and backwards of all its restarts together, as in `solve`. One
            of `evaluations` and `seconds` must be given; with both, the first that is spent ends a solve.
        seconds: wall-clock time of each solve of all samples. A step under way is finished.
        seeds: a count (3 stands for 0, 1, 2), or the seeds.
        restarts: starts of each sample.
        steps: steps of each restart, where schedules run down. None: as many as the budget pays for, so that schedules
            run down within it; the cost of a step is measured in a short probe of each method, two steps or a
            twentieth of the seconds, which is not counted.
        start: as in `solve`: inputs (B, *shape) or (k, B, *shape). None: random points of the feasible set.
        reference: name of the method that others are compared with. None: the first that can run.
        callbacks: a function, or several, called after every step of every solve.
        progress: whether progress may be shown; see `latentopt.set_progress`.

    Returns:
        The comparison: rows, summary, tables and plot.

    Raises:
        InputError: an argument is not as described, or no method can run on the problem.

    >>> problem = Problem(lambda x: x, lambda y: y.square().sum(1), (2,), 3)
    >>> found = compare(problem, ["gd", "lm"], evaluations=50, seeds=1, progress=False)
    >>> [(line.method, line.count) for line in found.summary()]
    [('gd', 3), ('lm', 0)]
    >>> found.summary()[1].reasons
    ('objective: expected a sum of squares, such as MSE, got <lambda>',)
    """
    optimizers, numbers = named_methods(methods, problem.feasible), seed_numbers(seeds)
    budget = Budget(evaluations, seconds, restarts, steps)
    if reference is not None and reference not in optimizers:
        raise InputError("reference", f"one of {', '.join(optimizers)}", reference)
    runs: list[MethodRun] = []
    total = len(optimizers) * len(numbers)
    with ProgressLine("compare", total, "solve", shown=progress) as line:
        for method, optimizer in optimizers.items():
            line.text = method
            for run in method_runs(problem, method, optimizer, numbers, budget, start, as_callbacks(callbacks)):
                runs.append(run)
                line.update()
    if all(run.reason for run in runs):
        raise InputError("methods", "at least one that can run on this problem", "; ".join({r.reason for r in runs}))
    return Comparison(runs, reference or first_to_run(runs), budget)
