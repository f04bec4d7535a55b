from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from loops import METHODS, posed
from nets import refuses
from test_tracking import offline_records, values

import latentopt as lo


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def walk(callbacks: Sequence[lo.Track], steps: int = 2) -> None:
    lo.solve(posed(), "gd", steps=steps, callbacks=callbacks)


def test_track_writes_the_fixed_keys_and_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "runs" / "mine"
    paper = METHODS["adr-gd-paper"]
    result = lo.solve(posed(), paper, steps=5, restarts=2, callbacks=[lo.Track(folder)])
    written = json_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in written] == list(range(5))
    gates = {"constraint", "opt/beta", "opt/flips"}
    promised = {"step", "loss/total", "loss/data", "loss/best", "cost/forwards", "opt/grad_norm", *gates}
    assert all(line.keys() == promised for line in written)
    loss = result.history["loss"].mean((1, 2)).tolist()
    assert [line["loss/total"] for line in written] == pytest.approx(loss, rel=1e-6)
    best = result.history["loss"].cummin(0).values.amin(1).mean(1).tolist()
    assert [line["loss/best"] for line in written] == pytest.approx(best, rel=1e-6)
    records = offline_records(folder)
    (started,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    config = values(started.config.update)
    assert config["optimizer"] == repr(paper)
    assert (config["steps"], config["restarts"], config["seed"]) == (5, 2, 0)
    history = [values(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    steps = [row for row in history if "loss/total" in row]
    assert [row["loss/total"] for row in steps] == [line["loss/total"] for line in written]


def test_track_goes_on_only_if_told_to(tmp_path):
    tracker = lo.Track(tmp_path, wandb="disabled")
    walk([tracker], 3)
    for again in (lambda: lo.Track(tmp_path, wandb="disabled"), lambda: walk([tracker])):
        with refuses("folder"):
            again()
    assert len(json_lines(tmp_path / "metrics.jsonl")) == 3
    walk([lo.Track(tmp_path, wandb="disabled", resume=True)])
    assert [line["step"] for line in json_lines(tmp_path / "metrics.jsonl")] == list(range(5))
    (tmp_path / "file").touch()
    with refuses("folder"):
        lo.Track(tmp_path / "file")
    with refuses("wandb"):
        lo.Track(tmp_path / "b", wandb="sometimes")  # pyright: ignore[reportArgumentType]
