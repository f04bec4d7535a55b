"""The tracker by itself: lines on disk, several processes, and runs that W&B cannot take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from files import call, refused
from loops import METHODS, posed
from nets import refuses
from wandb_runs import LoggedRun, drop_wandb_variables

import latentopt as lo
from latentopt.cli.options import make_parser
from latentopt.jobs.records import read_metrics, read_offline
from latentopt.jobs.tracker import Tracker, check_wandb_mode


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch):
    drop_wandb_variables(monkeypatch)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_disabled_tracks_on_disk_alone_in_whole_batches(tmp_path):
    tracker = Tracker(tmp_path, "disabled", {}, "test")
    for step in range(3):
        tracker.log(step, {"loss/total": 1 / (step + 1)})
    assert not (tmp_path / "metrics.jsonl").exists()
    tracker.flush()
    tracker.flush()
    assert read_metrics(tmp_path) == [{"step": step, "loss/total": 1 / (step + 1)} for step in range(3)]
    assert tracker.finish([{"a": 1}], {}, []) == []
    assert names(tmp_path) == ["metrics.jsonl"]


def test_online_without_a_key_warns_stays_offline_and_never_asks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    (tmp_path / "o").mkdir()
    tracker = Tracker(tmp_path / "o", "online", {}, "test")
    tracker.log(0, {"loss/total": 0.5})
    (folder,) = tracker.finish([{"a": 1}], {}, [])
    printed = capsys.readouterr().err
    assert "latentopt: warning: no W&B key is configured (wandb login); the run stays offline\n" in printed
    assert "deprecated" not in printed
    assert folder.name.startswith("offline-run-")
    assert LoggedRun(tmp_path / "o").history[0]["loss/total"] == 0.5


@pytest.mark.parametrize("mode", ["Online", "", "dryrun"])
def test_an_unknown_mode_is_refused(mode):
    with refuses("wandb"):
        check_wandb_mode(mode)


def test_a_line_torn_by_a_kill_is_dropped_and_the_log_goes_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss/total": 2.0}\n{"step": 1, "lo')
    tracker = Tracker(tmp_path, "disabled", {}, "test")
    assert tracker.last() == {"step": 0, "loss/total": 2.0}
    tracker.log(1, {"loss/total": 1.0})
    tracker.flush()
    assert read_metrics(tmp_path) == [{"step": 0, "loss/total": 2.0}, {"step": 1, "loss/total": 1.0}]


def test_lines_of_other_processes_are_appended(tmp_path):
    trackers = [Tracker(tmp_path, "disabled", {}, "test", rank) for rank in range(3)]
    for step in range(3):
        for tracker in trackers:
            tracker.log(step, {"loss/total": 10.0 * tracker.rank + step})
    for tracker in trackers:
        tracker.flush()
    assert names(tmp_path) == ["metrics.1.jsonl", "metrics.2.jsonl", "metrics.jsonl"]
    resumed = Tracker(tmp_path, "disabled", {}, "test", 1)  # continues behind its own lines
    assert resumed.last() == {"step": 2, "loss/total": 12.0}
    assert trackers[1].finish([{"a": 1}], {"a": 1.0}, []) == []
    trackers[0].finish([{"a": 1}], {"a": 1.0}, [])
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(9))
    assert [line["loss/total"] for line in lines] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert [line.get("rank") for line in lines] == [None] * 3 + [1] * 3 + [2] * 3
    assert names(tmp_path) == ["metrics.jsonl", "summary.json"]


def test_lines_of_another_process_are_appended_once(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "a": 1.0}\n{"step": 1, "a": 5.0, "rank": 1}\n')
    (tmp_path / "metrics.1.jsonl").write_text('{"step": 0, "a": 5.0}\n')  # killed before it was removed
    Tracker(tmp_path, "disabled", {}, "test").finish([{"a": 1}], {"a": 1.0}, [])
    assert [line["a"] for line in read_metrics(tmp_path)] == [1.0, 5.0]
    assert not (tmp_path / "metrics.1.jsonl").exists()


def test_the_run_id_of_an_agent_wins_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "fromagent")
    Tracker(tmp_path, "offline", {}, "test").finish([{"a": 1}], {}, [])
    monkeypatch.delenv("WANDB_RUN_ID")
    Tracker(tmp_path, "offline", {}, "test").finish([{"a": 1}], {}, [])
    assert LoggedRun(tmp_path).ids == ["fromagent", "fromagent"]


def test_wandb_that_fails_on_the_way_does_not_stop_a_job(tmp_path, monkeypatch, capsys):
    tracker = Tracker(tmp_path, "offline", {}, "test")
    monkeypatch.setattr(tracker.run, "log", lambda *_, **__: 1 / 0)
    for step in range(3):
        tracker.log(step, {"loss/best": 1.0})
    tracker.flush()
    assert tracker.finish([{"a": 1}], {"a": 1.0}, []) == []
    assert capsys.readouterr().err.count("warning: W&B does not take more (division by zero)") == 1
    assert len(read_metrics(tmp_path)) == 3
    assert json.loads((tmp_path / "summary.json").read_text()) == {"best/a": 1.0}


def walk(callbacks: Sequence[lo.Track], steps: int = 2) -> None:
    lo.solve(posed(), "gd", steps=steps, callbacks=callbacks)


def test_track_writes_the_fixed_keys_and_an_offline_run(tmp_path):
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


ATTACK = ("--model", "mnist-cnn", "--data", "mnist", "--limit", "1", "--eps", "0.1")


@pytest.mark.parametrize(
    ("variable", "given", "mode"),
    [
        (None, None, "offline"),
        ("disabled", None, "disabled"),
        ("dryrun", None, "offline"),
        ("run", None, "online"),
        ("disabled", "offline", "offline"),
        ("maybe", None, None),
    ],
)
def test_the_mode_is_the_option_else_the_variable(tmp_path, monkeypatch, capsys, variable, given, mode):
    monkeypatch.setattr("latentopt.cli.options._parser_of", make_parser)  # without those of earlier variables
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    words = [] if given is None else ["--wandb", given]
    if mode is None:
        assert "wandb: expected one of online, offline, disabled" in refused(capsys, "attack", *ATTACK, "--dry-run")
        with refuses("wandb"):
            lo.Track(tmp_path / "t")
        return
    said = call(capsys, "attack", *ATTACK, "--out", tmp_path / "out", "--dry-run", *words)
    assert yaml.safe_load(said.out)["wandb"] == mode, said.err
    sweep = ["sweep", "attack-adr-gd", "--trials", "1", "--dry-run", "--out", tmp_path / "s", *words]
    assert f"--wandb={mode}" in call(capsys, *sweep).out
    assert lo.Track(tmp_path / "t", **({"wandb": given} if given else {})).wandb == mode


def test_runs_are_in_the_job_where_the_variable_names_no_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "all"))
    tracker = Tracker(tmp_path, "offline", {}, "test")
    tracker.finish([{"a": 1}], {"a": 1.0}, [])
    assert len([*tmp_path.glob("wandb/offline-run-*")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_runs_are_in_the_folder_that_the_variable_names(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "all"))
    for name in ("one", "two", "two"):
        job = tmp_path / name
        job.mkdir(exist_ok=True)
        tracker = Tracker(job, "offline", {}, "test")
        tracker.log(int(tracker.last().get("step", -1)) + 1, {"loss/best": 1.0})
        tracker.flush()
        tracker.finish([{"a": 1}], {"a": 1.0}, [])
    assert len([*(tmp_path / "all").glob("wandb/offline-run-*")]) == 3
    assert [*(tmp_path / "one").glob("wandb/*run-*/")] == []
    for name, steps in {"one": [0], "two": [0, 1]}.items():
        run = read_offline(tmp_path / name, wait=20)
        assert [row["_step"] for row in run.history if "loss/best" in row] == steps
