"""Cases and methods of the inversion of generators, and the outcome of any method, judged at its latents."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.tuned import TUNED
from latentopt import metrics
from latentopt.inverse.initializers import Initializer, Random, Regression
from latentopt.inverse.reconstruct import HALVING, reconstruct
from latentopt.networks.generator import Generator
from latentopt.optimizers import ADRGD, CMAES, LBFGS, Adam, LevenbergMarquardt, Momentum, Optimizer, SoftGates
from latentopt.solver.callbacks import Progress

RECOVERED = 1e-4
"""A generator's own image counts as recovered below this mean squared error."""
RESTARTS = 8
STEPS, STALLED = 1000, 30
"""Per round, without decreasing step sizes: maximal steps, and steps without a gain that end a restart."""
RETRIES = 999
"""More rounds than fit into the time: unsolved problems restart after convergence."""


@dataclass(frozen=True, eq=False)
class InversionCase:
    """A generator and targets.

    Args:
        name: of the generator.
        generator: as a user has it.
        targets: (B, C, H, W) in [0, 1].
        own: they are the generator's own.
        seed: of starts.
    """

    name: str
    generator: Generator
    targets: Tensor
    own: bool
    seed: int

    @property
    def title(self) -> str:
        return f"{self.name}, its own images" if self.own else f"{self.name}, real images"


@dataclass(eq=False)
class InversionClock:
    """The clock of one method on one case, in CPU seconds: what is best so far, when. It starts with the first look.

    As a callback of `latentopt.solve` it stops the solve in time.
    """

    case: InversionCase
    seconds: float
    times: list[float] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)  # (B,) each, falling
    x: Tensor | None = None
    begun: float = field(default_factory=time.process_time)

    def __call__(self, progress: Progress) -> bool:
        return self.see(progress.best_x, progress.best)

    def see(self, x: Tensor, value: Tensor) -> bool:
        """Record latents and their mean squared errors; return whether the time is over."""
        now = time.process_time() - self.begun
        if self.x is None:
            self.x, best = x.clone(), value.clone()
        else:
            better = value < self.values[-1]
            self.x = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, self.x)
            best = torch.where(better, value, self.values[-1])
        self.times.append(now)
        self.values.append(best.detach())
        return now >= self.seconds or (self.case.own and bool((best < RECOVERED).all()))


@dataclass(frozen=True, eq=False)
class InversionOutcome:
    """Outcome of a method."""

    times: list[float]  # CPU seconds
    values: Tensor  # (times, B) best so far, of the method's own count
    mse: Tensor  # (B,) at the latents in the end, through the generator as the user has it
    psnr: Tensor
    ssim: Tensor

    def listed(self) -> dict[str, Any]:
        """Return the outcome as JSON holds it."""
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(self).items()}

    @classmethod
    def of_lists(cls, lists: dict[str, Any]) -> InversionOutcome:
        """Return the outcome that `listed` gave."""
        return cls(lists["times"], **{name: torch.tensor(value) for name, value in lists.items() if name != "times"})

    def at(self, seconds: float) -> Tensor:
        """Best error so far (B,) at a time; infinite before the first evaluation."""
        reached = [row for t, row in zip(self.times, self.values, strict=True) if t <= seconds]
        return reached[-1] if reached else torch.full_like(self.mse, torch.inf)

    def recovered_at(self) -> float:
        """Time at which all targets were recovered; infinite if never."""
        all_of = (t for t, row in zip(self.times, self.values, strict=True) if (row < RECOVERED).all())
        return next(all_of, float("inf"))


Runner = Callable[[InversionCase, InversionClock], None]


@dataclass(frozen=True)
class InversionMethod:
    """A method of inversion.

    Args:
        name: by which its size is found in `TUNED`.
        build: from a step size and a number of restarts.
        sizes: to choose among; none: nothing is chosen.
        default: where nothing was chosen for a generator.
    """

    name: str
    build: Callable[[float, int], Runner]
    sizes: tuple[tuple[float, int], ...] = ()
    default: tuple[float, int] = (0.1, RESTARTS)

    def size(self, case: InversionCase) -> tuple[float, int]:
        """Return the size chosen for a case's generator, else the default."""
        step, restarts = TUNED["reconstruct"].get(case.name, {}).get(self.name, self.default)
        return step, restarts

    def at(self, case: InversionCase, size: tuple[float, int] | None = None) -> Runner:
        return self.build(*(size or self.size(case)))


def judge(case: InversionCase, runner: Runner, seconds: float) -> InversionOutcome:
    """Run a method for a number of CPU seconds."""
    watch = InversionClock(case, seconds)
    runner(case, watch)
    assert watch.x is not None
    with torch.no_grad():
        image = case.generator(watch.x)
    mse, psnr = metrics.mse(image, case.targets), metrics.psnr(image, case.targets)
    return InversionOutcome(
        watch.times, torch.stack(watch.values), mse, psnr, metrics.ssim(image.clamp(0, 1), case.targets)
    )


def ours(
    optimizer: Optimizer,
    start: Initializer,
    planned: bool,
    restarts: int,
    halving: tuple[tuple[int, int], ...] = HALVING,
    most: int = STEPS,
) -> Runner:
    """Run one of our methods.

    Args:
        optimizer, start, restarts, halving: as of `latentopt.reconstruct`.
        planned: its step sizes decrease over as many steps as the time allows.
        most: steps of a round of a method that is not planned.
    """

    def run(case: InversionCase, watch: InversionClock) -> None:
        settings: dict[str, Any] = {"steps": most, "halving": halving, "patience": STALLED}
        if planned:
            steps = max(10, int(watch.seconds / _seconds_a_step(case, optimizer, restarts)))
            settings = {"steps": steps, "halving": (), "patience": None}
        reconstruct(
            case.generator,
            case.targets,
            optimizer=optimizer,
            start=start,
            restarts=restarts,
            tolerance=RECOVERED if case.own else None,
            retries=RETRIES,
            seed=case.seed,
            callbacks=[watch],
            **settings,
        )

    return run


def _seconds_a_step(case: InversionCase, optimizer: Optimizer, restarts: int) -> float:
    """Measure the cost of a step on the targets beforehand, outside the method's time."""
    settings: dict[str, Any] = {"start": Random(), "restarts": restarts, "halving": (), "patience": None}
    clock = InversionClock(case, float("inf"))
    reconstruct(case.generator, case.targets, optimizer=optimizer, steps=6, callbacks=[clock], **settings)
    return (clock.times[-1] - clock.times[1]) / (len(clock.times) - 2)


SIZES = tuple((lr, restarts) for lr in (0.05, 0.1, 0.2, 0.4) for restarts in (1, 4))
"""Step sizes, and the number of starts that share the time."""
PAPER = tuple((a_x, RESTARTS) for a_x in (0.1, 0.3, 1.0, 3.0))
RANDOM = Random()
SHORT = 200
"""Steps of a start that is followed alone, before the next one."""
GATES = {"": SoftGates(1.0, steps=15, share=2 / 3), "-gates-off": SoftGates(1e-9, steps=15, share=2 / 3)}
"""Gates of ADR-GD's default, and its control."""


def single(optimizer: Optimizer, start: Initializer) -> Runner:
    """Run one of our methods from one start at a time."""
    return ours(optimizer, start, False, 1, (), SHORT)


def renewed(optimizer: Optimizer, start: Initializer) -> Runner:
    """Run one of our methods from one start; then, again and again, from four others that a new pool predicts."""

    def run(case: InversionCase, watch: InversionClock) -> None:
        x, rows, over = case.generator.latents(len(case.targets), case.seed), torch.arange(len(case.targets)), False

        def see(progress: Progress) -> bool:
            nonlocal over
            x[rows], value[rows] = progress.best_x, progress.best
            over = watch.see(x, value)
            return over

        for attempt in itertools.count():
            value = torch.full((len(x),), torch.inf)
            reconstruct(
                case.generator,
                case.targets[rows],
                optimizer=optimizer,
                start=start,
                restarts=4 if attempt else 1,
                halving=(),
                tolerance=RECOVERED if case.own else None,
                steps=SHORT,
                patience=STALLED,
                seed=case.seed + 1000 * attempt,
                callbacks=[see],
            )
            if over:
                return
            rows = (watch.values[-1] >= RECOVERED).nonzero()[:, 0] if case.own else rows

    return run


def _soft(lr: float) -> Optimizer:
    return ADRGD(SoftGates(), Adam(lr))


METHODS: dict[str, InversionMethod] = {
    method.name: method
    for method in (
        InversionMethod("reconstruct", lambda _, k: ours(LBFGS(memory=64), Regression(), False, k)),
        InversionMethod("reconstruct-single", lambda *_: renewed(LBFGS(memory=64), Regression(500))),
        InversionMethod("lbfgs", lambda _, k: ours(LBFGS(memory=64), RANDOM, False, k)),
        InversionMethod("lm", lambda _, k: ours(LevenbergMarquardt(), Regression(), False, k)),
        InversionMethod("lm-random", lambda _, k: ours(LevenbergMarquardt(), RANDOM, False, k)),
        InversionMethod("adam", lambda lr, k: ours(Adam(lr), RANDOM, True, k), SIZES),
        InversionMethod("adam-regression", lambda lr, k: ours(Adam(lr), Regression(), True, k), SIZES),
        InversionMethod("adr-gd-soft", lambda lr, k: ours(_soft(lr), RANDOM, True, k), SIZES),
        InversionMethod("adr-gd-soft-regression", lambda lr, k: ours(_soft(lr), Regression(), True, k), SIZES),
        *(
            InversionMethod(f"adr-gd{off}{learnt}", lambda *_, g=gates, s=start: single(ADRGD(g), s))
            for off, gates in GATES.items()
            for learnt, start in (("", RANDOM), ("-regression", Regression(500)))
        ),
        InversionMethod("adr-gd-paper", lambda a_x, k: ours(ADRGD.paper(a_x=a_x), RANDOM, True, k), PAPER),
        InversionMethod("momentum", lambda _, k: ours(Momentum(), RANDOM, True, k)),
        InversionMethod("basin-cma", lambda *_: ours(CMAES(refine=30), RANDOM, False, 1)),
        InversionMethod("cma-es", lambda *_: ours(CMAES(), RANDOM, True, 1)),
    )
}
