from __future__ import annotations

from collections.abc import Sequence

import pytest
from loops import METHODS, posed
from nets import refuses
from wandb_runs import LoggedRun

import latentopt as lo
from latentopt.jobs.records import read_metrics


def walk(callbacks: Sequence[lo.Track], steps: int = 2) -> None:
    lo.solve(posed(), "gd", steps=steps, callbacks=callbacks)


def test_track_writes_the_fixed_keys_and_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "runs" / "mine"
    paper = METHODS["adr-gd-paper"]
    result = lo.solve(posed(), paper, steps=5, restarts=2, callbacks=[lo.Track(folder)])
    written = read_metrics(folder)
    assert [line["step"] for line in written] == list(range(5))
    gates = {"constraint", "opt/beta", "opt/flips"}
    promised = {"step", "loss/total", "loss/data", "loss/best", "cost/forwards", "opt/grad_norm", *gates}
    assert all(line.keys() == promised for line in written)
    loss = result.history["loss"].mean((1, 2)).tolist()
    assert [line["loss/total"] for line in written] == pytest.approx(loss, rel=1e-6)
    best = result.history["loss"].cummin(0).values.amin(1).mean(1).tolist()
    assert [line["loss/best"] for line in written] == pytest.approx(best, rel=1e-6)
    run = LoggedRun(folder)
    assert run.config["optimizer"] == repr(paper)
    assert (run.config["steps"], run.config["restarts"], run.config["seed"]) == (5, 2, 0)
    logged = [row["loss/total"] for row in run.history if "loss/total" in row]
    assert logged == [line["loss/total"] for line in written]


def test_track_goes_on_only_if_told_to(tmp_path):
    tracker = lo.Track(tmp_path, wandb="disabled")
    walk([tracker], 3)
    for again in (lambda: lo.Track(tmp_path, wandb="disabled"), lambda: walk([tracker])):
        with refuses("folder"):
            again()
    assert len(read_metrics(tmp_path)) == 3
    walk([lo.Track(tmp_path, wandb="disabled", resume=True)])
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(5))
    (tmp_path / "file").touch()
    with refuses("folder"):
        lo.Track(tmp_path / "file")
    with refuses("wandb"):
        lo.Track(tmp_path / "b", wandb="sometimes")  # pyright: ignore[reportArgumentType]
