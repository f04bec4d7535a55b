"""Calls show their progress in terminals and notebooks, and nowhere else."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nets import mlp, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import progress
from latentopt.objectives import Unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    """Standard error that is a terminal, where lines are drawn at once."""
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream, modules=sys.modules))
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    return stream


def classes() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.rand(4, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return model, x, model(x).argmax(1)


def generator() -> lo.Generator:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Unflatten(1, (1, 2, 4)))
    return lo.Generator(module.eval(), latent_shape=(2,), output_range=(0, 1))


def problem(batch: int = 2) -> lo.Problem:
    return lo.Problem(mlp(2, 3, 1).float(), Unit(), (2,), batch, lo.sets.Box(-1.0, 1.0))


def inverted(**settings: Any) -> lo.Result:
    return lo.reconstruct(generator(), torch.full((2, 1, 2, 4), 0.5), steps=3, restarts=2, **settings)


CALLS: dict[str, Callable[[], Any]] = {
    "solve": lambda: lo.solve(problem(), "pgd", steps=3),
    "attack": lambda: lo.attack(*classes(), 0.01),
    "minimum_norm": lambda: lo.minimum_norm(*classes(), search_steps=2, steps=2),
    "carlini_wagner": lambda: lo.carlini_wagner(*classes(), binary_search_steps=2, steps=2),
    "check_attack": lambda: lo.check_attack(*classes(), 0.1, steps=2),
    "robustness": lambda: lo.robustness(*classes(), 0.1, 0.2, steps=2, queries=2),
    "certify": lambda: lo.certify(problem(1), start=torch.zeros(1, 2), seconds=5),
    "certify_robustness": lambda: lo.certify_robustness(classes()[0], classes()[1][:2], classes()[2][:2], 0.01),
    "reconstruct": lambda: inverted(start="random", retries=1),
    "learn the start": lambda: inverted(start="nearest"),
    "diagnose": lambda: lo.diagnose(generator(), samples=2, steps=2, restarts=1, start="random"),
    "compare": lambda: lo.compare(problem(), ["pgd", "apgd"], evaluations=20, seeds=1),
}


@pytest.mark.filterwarnings("ignore::latentopt.AttackWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_names_itself_and_leaves_nothing(terminal, name):
    CALLS[name]()
    drawn = [line.strip() for line in terminal.getvalue().split("\r")]
    assert name in {line.partition(" " if " " not in name else "  ")[0] for line in drawn}
    assert "\n" not in terminal.getvalue()
    assert drawn[-1] == ""
    assert progress._current.get() is None


def test_calls_within_follow_in_one_line(terminal):
    CALLS["minimum_norm"]()
    assert "radius 0/2, step 1/2, loss " in terminal.getvalue().replace("stage 0/1, ", "")


@pytest.mark.parametrize("why", ["no terminal", "hidden", "variable", "not yet", "own bar"])
def test_it_is_silent(monkeypatch, terminal, why):
    callbacks = []
    match why:
        case "no terminal":
            monkeypatch.setattr(Terminal, "isatty", lambda self: False)
        case "hidden":
            monkeypatch.setitem(progress._settings, "shown", True)  # restored at the end
            lo.set_progress(False)
        case "variable":
            monkeypatch.setenv("LATENTOPT_PROGRESS", "0")
        case "not yet":
            monkeypatch.setattr(progress, "DELAY", 100.0)
        case "own bar":
            monkeypatch.setattr(progress, "DELAY", 0.05)
            callbacks = [lo.callbacks.ProgressBar(file=io.StringIO())]
    lo.solve(problem(), "pgd", steps=3, callbacks=callbacks)
    assert terminal.getvalue() == ""


def test_a_notebook_shows_it_too(monkeypatch, terminal):
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress.is_progress_shown()
    shell.config = {}
    assert not progress.is_progress_shown()


def test_a_call_that_fails_ends_its_line(terminal):
    def fails(progress: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lo.minimum_norm(*classes(), callbacks=[fails], search_steps=2)
    assert progress._current.get() is None
    assert terminal.getvalue().split("\r")[-1].strip() == ""


def test_nothing_depends_on_it(terminal):
    seen, posed = inverted(start="random", retries=1), problem()
    state = torch.get_rng_state()
    lo.solve(posed, "pgd", steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    lo.set_progress(False)
    try:
        unseen = inverted(start="random", retries=1)
    finally:
        lo.set_progress(True)
    assert torch.equal(seen.x, unseen.x)
    assert seen.forwards.tolist() == unseen.forwards.tolist()


def test_a_bar_is_left_by_a_job_and_shares_are_counted(terminal):
    with progress.ProgressLine("job", 4, "image", leave=True) as line:
        line.share = 2
        with progress.ProgressLine("inner", 2) as inner:
            inner.update()
        line.update(2, "well")
        inner.update(0)
    assert "job  25%|" in terminal.getvalue()
    assert terminal.getvalue().rstrip(" ").endswith("\n")
    assert "image 2/4, well" in terminal.getvalue()


def test_what_is_no_switch_is_refused():
    with refuses("shown"):
        lo.set_progress("no")  # pyright: ignore[reportArgumentType]


def test_a_terminal_that_does_not_know_its_size_shows_the_line(monkeypatch):
    pty = pytest.importorskip("pty")  # not on Windows
    main, side = pty.openpty()  # of 0 columns
    with os.fdopen(side, "w") as stream:
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream, modules=sys.modules))
        monkeypatch.setattr(progress, "DELAY", 0.0)
        monkeypatch.setattr(progress, "INTERVAL", 0.0)
        inverted(start="random", halving=())
        stream.flush()
        drawn = os.read(main, 10_000).decode()
    os.close(main)
    assert "reconstruct" in drawn
    assert "step" in drawn
