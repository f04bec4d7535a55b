from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from loops import METHODS, column, identity, posed, same_results
from nets import Counted, mlp, near, refuses

import latentopt as lo
from latentopt import GD, Status, solve
from latentopt.solver.callbacks import JsonLines, Progress, ProgressBar, StopBelow, Trajectory


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def walk(*start: float, success: float = -torch.inf, **settings) -> lo.Result:
    """The objective is the input, a number, which falls by .5 a step; below ``success`` it is solved."""
    problem = identity(samples=len(start))
    problem.success = lambda value, output: value < success
    return solve(problem, GD(lr=0.5), start=column(*start), **{"steps": 8, **settings})


def test_a_callback_that_returns_true_stops_the_solve_after_all_others_were_called():
    seen: list[int] = []
    stop, watch = (lambda progress: progress.t == 3), (lambda progress: seen.append(progress.t))
    result = walk(4.0, 9.0, callbacks=[stop, watch], restarts=2)
    assert seen == [1, 2, 3]
    assert result.status == (Status.STOPPED,) * 2
    assert len(result.history["loss"]) == 3
    assert result.forwards.tolist() == [2 * (3 + 1) + 1] * 2  # the last iterates are looked at
    near(result.value, result.history["loss"][-1].amin(0) - 0.5, 1e-12)
    assert walk(3.25, 99.0, success=3, callbacks=[stop]).status == (Status.SOLVED, Status.STOPPED)


@pytest.mark.parametrize("answer", [None, False, 0, torch.tensor(False)])
def test_any_other_answer_does_not_stop_it(answer):
    assert len(walk(4.0, callbacks=[lambda progress: answer]).history["loss"]) == 8


@pytest.mark.parametrize("ends", ["whole", "stopped", "error"])
def test_callbacks_are_closed_however_the_solve_ends(ends):
    class Recorder:
        closed = 0

        def __call__(self, progress: Progress) -> bool:
            assert self.closed == 0
            if ends == "error" and progress.t == 2:
                raise ZeroDivisionError
            return ends == "stopped"

        def close(self) -> None:
            self.closed += 1

    first, second = Recorder(), Recorder()
    try:
        walk(4.0, callbacks=[first, second])
    except ZeroDivisionError:
        assert ends == "error"
    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize("method", [METHODS["adr-gd-paper"], METHODS["adam"]])
def test_watching_changes_nothing(method, tmp_path):
    watched = solve(posed(), method, steps=6, callbacks=[Trajectory(), JsonLines(tmp_path / "a"), ProgressBar()])
    assert same_results(watched, solve(posed(), method, steps=6))


def test_a_trajectory_keeps_every_so_many_iterates():
    seen = Trajectory(every=3)
    result = walk(4.0, 9.0, callbacks=[seen])
    assert seen.t == [1, 4, 7]
    expected = torch.tensor([[4.0, 9.0], [2.5, 7.5], [1.0, 6.0]]).double()[..., None]
    assert torch.equal(seen.stacked(), expected)
    assert result.x[0] == 0
    with refuses("every"):
        Trajectory(every=0)


def test_json_lines_are_written_as_the_solve_goes(tmp_path):
    path = tmp_path / "a.jsonl"
    counts: list[int] = []
    result = walk(4.0, 9.0, callbacks=[JsonLines(path), lambda progress: counts.append(len(lines(path)))])
    assert counts == list(range(1, 9))
    written = lines(path)
    assert [line["t"] for line in written] == list(range(1, 9))
    assert [line["loss"] for line in written] == [6.5 - 0.5 * t for t in range(8)]
    assert [line["best"] for line in written] == [line["loss"] for line in written]
    assert [line["grad_norm"] for line in written] == [1.0] * 8
    assert [(line["forwards"], line["backwards"]) for line in written] == [(t, t) for t in range(1, 9)]  # a sample's
    assert 0 < written[0]["seconds"] <= written[-1]["seconds"] <= result.meta["seconds"]


def test_figures_that_are_not_finite_are_null(tmp_path):
    problem = identity(lambda x: torch.where(x < 0.75, torch.inf, x)[:, 0])
    solve(problem, GD(lr=0.5), start=column(1.0), callbacks=[JsonLines(tmp_path / "b")])
    assert [line["loss"] for line in lines(tmp_path / "b")] == [1.0, None, 1.0, None]


def test_json_lines_overwrite_nothing_unless_they_resume(tmp_path):
    path = tmp_path / "a.jsonl"
    writer = JsonLines(path)
    walk(4.0, callbacks=[writer], steps=2)
    before = path.read_bytes()
    with refuses(str(path)):
        JsonLines(path)
    with refuses(str(path)):  # the second solve of the same callback
        walk(4.0, callbacks=[writer], steps=2)
    assert path.read_bytes() == before
    with refuses(str(tmp_path / "no")):
        JsonLines(tmp_path / "no" / "a.jsonl")
    for content in ("notes\n", "[1]\n", '{"step": 1}\n'):  # another's file
        path.write_text(content)
        with refuses(str(path)):
            JsonLines(path, resume=True)
        assert path.read_text() == content


def test_json_lines_that_resume_have_each_step_once(tmp_path):
    path, checkpoint = tmp_path / "a.jsonl", tmp_path / "c"

    def killed(progress: Progress) -> None:
        if progress.t == 6:
            raise KeyboardInterrupt

    settings = {"checkpoint": checkpoint, "checkpoint_every": 4}
    with pytest.raises(KeyboardInterrupt):
        walk(4.0, callbacks=[JsonLines(path, resume=True), killed], **settings)
    with path.open("a") as file:
        file.write('{"t": 7, "lo')  # a line torn by a kill
    walk(4.0, callbacks=[JsonLines(path, resume=True)], **settings)
    assert [(line["t"], line["loss"]) for line in lines(path)] == [(t, 4.5 - 0.5 * t) for t in range(1, 9)]


def test_stop_below_waits_for_every_sample():
    result = walk(4.0, 4.75, callbacks=[StopBelow(3.0)])
    assert len(result.history["loss"]) == 5  # 2.75 is looked at in the fifth step
    assert result.status == (Status.STOPPED,) * 2


def test_the_progress_bar_shows_steps_and_loss_and_may_be_used_again(capsys):
    bar = ProgressBar(desc="mine", mininterval=0)
    for _ in range(2):
        walk(4.0, callbacks=[bar])
        said = capsys.readouterr().err
        assert "mine: 100%" in said
        assert "8/8" in said
        assert "loss 0.5" in said


def test_progress_tells_the_settings_and_the_cost():
    seen: list[Progress] = []
    result = walk(4.0, restarts=3, seed=5, callbacks=[seen.append])
    assert seen[0].meta["seed"] == 5
    assert {**seen[0].meta, "seconds": result.meta["seconds"]} == result.meta
    assert [(p.forwards, p.backwards) for p in seen] == [(3 * t, 3 * t) for t in range(1, 9)]
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)


def test_progress_carries_the_output_of_every_iterate_at_no_cost():
    seen: list[Progress] = []
    plain, watched = Counted(mlp(3, 8, 5, 2)), Counted(mlp(3, 8, 5, 2))
    for network, callbacks in ((plain, []), (watched, [seen.append])):
        solve(posed(network=network, tolerance=0.05), "adam", steps=30, restarts=2, callbacks=callbacks)
    assert watched.forwards == plain.forwards
    assert 0 < int(seen[-1].loss.isnan().sum()) < 6  # some have stopped
    for progress in seen:
        stopped = progress.loss.isnan()
        assert torch.equal(progress.output.isnan().all(1), stopped)
        near(progress.output[~stopped], watched(progress.x[~stopped]), 1e-12)
