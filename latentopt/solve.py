"""The only loop: restarts x batch as one batch, the best so far of each sample, survivors only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentopt.draws import Draws
from latentopt.errors import InputError, positive
from latentopt.networks import frozen
from latentopt.optimizers import named
from latentopt.optimizers.base import Optimizer, State, Step
from latentopt.problem import Problem
from latentopt.result import Result, Status, versions


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after each step. Rows are restart-major: row = restart * B + sample."""

    t: int  # steps done, from 1
    steps: int
    x: Tensor  # (restarts * B, *shape) where the step started; of a stopped row, where it stopped
    loss: Tensor  # (restarts * B,) objective there; NaN once stopped
    best_x: Tensor  # (B, *shape) best so far
    best: Tensor  # (B,) its objective
    info: dict[str, Tensor]  # what the optimiser reports, (restarts * B,); NaN once stopped
    forwards: int  # of all samples together, so far


Callback = Callable[[Progress], None]


def solve(
    problem: Problem,
    optimizer: Optimizer | str = "adr-gd",
    *,
    steps: int = 300,
    restarts: int = 1,
    seed: int = 0,
    start: Tensor | Result | None = None,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Minimise a problem's objective for each sample of its batch.

    Args:
        problem: what to minimise.
        optimizer: a method, or its registered name (`latentopt.optimizers.NAMED`).
        steps: steps of each restart, >= 1.
        restarts: independent starts of each sample, >= 1; the best is chosen by the objective.
        seed: of every random number. All samples share the starts and noise of a restart, so a batch gives what its
            samples give alone.
        start: inputs (B, *shape), or a `Result`, for the first restart to start from; the others start at random.
        callbacks: called after every step.

    Raises:
        InputError: an argument is not as described, the start lies outside the feasible set, or the objective is not
            finite there.
    """
    optimizer = named(optimizer)
    positive("steps", steps, integer=True)
    positive("restarts", restarts, integer=True)
    begun = time.perf_counter()
    with frozen(problem.network):
        run = _Run(problem, optimizer, steps, restarts, seed)
        run.begin(start.x if isinstance(start, Result) else start)
        for t in range(1, steps + 1):
            if not len(run.rows):
                break
            run.advance(t)
            for callback in callbacks:
                callback(run.progress(t))
        return run.finish(time.perf_counter() - begun)


@dataclass(eq=False)
class _Run:
    """The state of a solve. `rows` are the rows still in; everything else has all restarts * B rows."""

    problem: Problem
    optimizer: Optimizer
    steps: int
    restarts: int
    seed: int
    history: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def begin(self, start: Tensor | None) -> None:
        batch = self.problem.batch
        self.rows = torch.arange(self.restarts * batch, device=self.problem.like.device)
        self.active = self._problem(self.rows)
        self.x = self.active.random_start()
        if start is not None:
            self.x[:batch] = self._checked(start)
        self.state: State = self.optimizer.init(self.active, self.x)
        self.best_x, self.best = self.x.clone(), self.x.new_full((len(self.x),), torch.inf)
        self.solved = torch.zeros_like(self.rows, dtype=torch.bool)
        self.forwards, self.backwards = torch.zeros_like(self.rows), torch.zeros_like(self.rows)

    def _problem(self, rows: Tensor) -> Problem:
        draws = Draws(self.seed, rows // self.problem.batch)
        return self.problem.rows(rows % self.problem.batch, draws, self.steps)

    def _checked(self, start: Tensor) -> Tensor:
        expected = (self.problem.batch, *self.problem.shape)
        if not isinstance(start, Tensor) or start.shape != expected:
            raise InputError("start", f"a tensor of shape {expected}", getattr(start, "shape", type(start).__name__))
        start = start.to(self.x)
        first = self._problem(torch.arange(self.problem.batch, device=start.device))
        if not bool(((first.feasible.project(start) - start).abs() <= 1e-6).all()):
            raise InputError("start", "a point of the feasible set", "one outside")
        return first.feasible.project(start)

    def advance(self, t: int) -> None:
        step = self.optimizer.step(self.active, self.x[self.rows], self.state)
        if t == 1 and not bool(step.here.value.isfinite().all()):
            raise InputError("objective", "a finite value at the start", step.here.value.tolist())
        self.forwards[self.rows] += step.cost.forwards
        self.backwards[self.rows] += step.cost.backwards
        self._record(step)
        self._improve(self.x[self.rows], *step.here)
        self.state = step.state
        finite = step.here.value.isfinite() & step.x.flatten(1).isfinite().all(1)
        keep = finite & ~self._solved_samples()[self.rows % self.problem.batch]
        self.x[self.rows[keep]] = step.x[keep]
        self._keep(keep)

    def _record(self, step: Step) -> None:
        self.where = self.x.clone()
        for name, values in {"loss": step.here.value, **step.info}.items():
            row = values.new_full((len(self.x),), torch.nan)
            row[self.rows] = values
            self.history[name].append(row)

    def _improve(self, x: Tensor, value: Tensor, output: Tensor) -> None:
        was = self.solved[self.rows]
        solved = self.problem.success(value, output) if self.problem.success else torch.zeros_like(was)
        # A solved iterate beats every other; among equals the objective decides.
        better = value.isfinite() & ((solved & ~was) | ((solved == was) & (value < self.best[self.rows])))
        self.best[self.rows[better]] = value[better]
        self.best_x[self.rows[better]] = x[better]
        self.solved[self.rows[better]] = solved[better]

    def _keep(self, keep: Tensor) -> None:
        if not bool(keep.all()):
            self.rows = self.rows[keep]
            self.active, self.state = self._problem(self.rows), _take(self.state, keep)

    def progress(self, t: int) -> Progress:
        winner = self._winner()
        latest = {name: rows[-1] for name, rows in self.history.items()}
        loss = latest.pop("loss")
        done = int(self.forwards.sum())
        return Progress(t, self.steps, self.where, loss, self.best_x[winner], self.best[winner], latest, done)

    def _winner(self) -> Tensor:
        """Row (B,) of each sample's best restart."""
        unsolved = self._solved_samples().repeat(self.restarts) & ~self.solved
        restart = self.best.masked_fill(unsolved, torch.inf).reshape(self.restarts, -1).argmin(0)
        return restart * self.problem.batch + torch.arange(self.problem.batch, device=restart.device)

    def _solved_samples(self) -> Tensor:
        return self.solved.reshape(self.restarts, -1).any(0)

    def finish(self, seconds: float) -> Result:
        batch = self.problem.batch
        if len(self.rows):  # the last iterates have not been looked at
            self._improve(self.x[self.rows], *self.active.evaluate(self.x[self.rows]))
            self.forwards[self.rows] += 1
        winner = self._winner()
        x = self.best_x[winner]
        value, output = self._problem(torch.arange(batch, device=x.device)).evaluate(x)
        solved = self.problem.success(value, output) if self.problem.success else self._solved_samples()
        alive = self._solved_samples()
        alive[self.rows % batch] = True
        return Result(
            x=x,
            value=value,
            output=output,
            status=tuple(
                Status.SOLVED if s else Status.BUDGET if a else Status.NONFINITE
                for s, a in zip(solved.tolist(), alive.tolist(), strict=True)
            ),
            restart=winner // batch,
            forwards=self.forwards.reshape(self.restarts, -1).sum(0) + 1,
            backwards=self.backwards.reshape(self.restarts, -1).sum(0),
            history={k: torch.stack(v).unflatten(1, (self.restarts, -1)) for k, v in self.history.items()},
            meta={
                "optimizer": repr(self.optimizer),
                "steps": self.steps,
                "restarts": self.restarts,
                "seed": self.seed,
                "seconds": seconds,
                "versions": versions(),
            },
        )


def _take(state: State, keep: Tensor) -> State:
    """The rows ``keep`` of every tensor in a state."""
    if isinstance(state, Tensor):
        return state[keep]
    if isinstance(state, tuple):
        parts = [_take(part, keep) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state
