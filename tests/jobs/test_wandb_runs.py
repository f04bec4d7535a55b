"""Runs of W&B: servers that do not take them, runs that users have open, variables, and jobs that go on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import QUICK, blobs, call, stopped_in_its_second_batch, write_classifier
from nets import mlp

import latentopt as lo
from latentopt.jobs import tracker as tracking
from latentopt.jobs import wandb_run
from latentopt.jobs.records import Offline, read_metrics, read_offline
from latentopt.jobs.store import Store
from latentopt.jobs.tracker import Tracker
from latentopt.jobs.wandb_files import RUN_ID, last_step, parts, raw_records
from latentopt.jobs.wandb_server import refusal

# wandb.Image leaves the GIF that it was given open.
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")

ANSWERS = {
    "401": (401, b"{}", "W&B's server does not take the key (HTTP 401)"),
    "500": (500, b"{}", "W&B's server did not answer (HTTP 500)"),
    "404": (404, b"", "W&B's server did not answer (HTTP 404)"),
    "nobody": (200, b'{"data": {"viewer": null}}', "W&B's server does not know the key"),
}
SETTINGS: dict[str, Any] = {"low": -1.0, "high": 1.0, "shape": (3,), "optimizer": "adam", "steps": 3, "seed": 0}


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        monkeypatch.delenv(name)


@contextmanager
def server(code: int, content: bytes) -> Iterator[str]:
    """The address of a server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_that_does_not_take_runs_is_told_at_once(monkeypatch, kind):
    code, content, reason = ANSWERS[kind]
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with server(code, content) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        begun = time.monotonic()
        assert refusal() == reason
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("content", [b'{"data": {"viewer": {"id": "me"}}}', b"<html>", b"{}"])
def test_a_server_that_answers_otherwise_is_left_to_wandb(monkeypatch, content):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with server(200, content) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert refusal() == ""


@pytest.mark.parametrize("url", ["nonsense", "http://nowhere.invalid"])
def test_an_address_that_is_none_is_told(monkeypatch, url):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert refusal().startswith("W&B's server did not answer (")


def test_online_without_a_server_is_one_line_and_the_job_is_done_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", closed_port())
    np.save(tmp_path / "a.npy", blobs(1, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *QUICK, "--wandb", "online"]
    said = call(capsys, *words, "--out", tmp_path / "o")
    assert said.code == 0
    told = [line for line in said.err.splitlines() if "warning" in line]
    assert told == ["latentopt: warning: W&B's server did not answer (ConnectionRefusedError); the run stays offline"]
    run = read_offline(tmp_path / "o", wait=20)
    assert run.finished
    assert [row["_step"] for row in run.history if "loss/total" in row] == list(range(4))


def test_a_solve_goes_on_without_a_server(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with server(500, b"") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        found = lo.maximize(mlp(3, 8, 1), **SETTINGS, callbacks=[lo.Track(tmp_path / "t", wandb="online")])
    assert found.meta["steps"] == 3
    assert len(read_metrics(tmp_path / "t")) == 3
    assert capsys.readouterr().err.count("warning") == 1


def test_a_run_that_a_server_refuses_later_goes_on_under_another_id_with_all_its_steps(tmp_path, monkeypatch, capsys):
    """W&B's own process may still hold the id of a run that did not begin."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss/best": 3.0}\n{"step": 1, "loss/best": 2.0}\n')
    begun, asked = wandb_run._begun, []

    def refused(folder, mode, name, options):
        asked.append((mode, name))
        if mode == "online":
            raise ConnectionError("no")
        return begun(folder, mode, name, options)

    monkeypatch.setattr(wandb_run, "_begun", refused)
    monkeypatch.setattr(wandb_run, "refusal", lambda: "")
    tracker = Tracker(tmp_path, "online", {}, "test")
    tracker.log(2, {"loss/best": 1.0})
    tracker.flush()
    tracker.finish([{"a": 1}], {"a": 1.0}, [])
    assert [mode for mode, _ in asked] == ["online", "offline"]
    assert asked[0][1] != asked[1][1] == (tmp_path / "wandb" / RUN_ID).read_text()
    assert "W&B's server did not answer (ConnectionError); the run stays offline" in capsys.readouterr().err
    run = read_offline(tmp_path, wait=20)
    assert [(row["_step"], row["loss/best"]) for row in run.history if "loss/best" in row] == [(0, 3), (1, 2), (2, 1)]


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


OPEN = """
    import os, sys
    os.environ.update(WANDB_NAME="own", WANDB_TAGS="own", WANDB_NOTES="own", WANDB_ENTITY="own", WANDB_PROJECT="own")
    os.environ["WANDB_RUN_GROUP"] = "own"
    import wandb, latentopt as lo
    from pathlib import Path
    from torch import nn
    folder = Path(sys.argv[1])
    mine = wandb.init(mode="offline", project="mine", dir=folder, settings=wandb.Settings(silent=True))
    mine.log({"before": 1})
    settings = {"low": -1.0, "high": 1.0, "shape": (3,), "optimizer": "adam", "steps": 3}

    def inside(progress):
        wandb.log({"inside": progress.t})

    def solved(name):
        lo.maximize(nn.Linear(3, 1), **settings, callbacks=[lo.Track(folder / name), inside])
        assert wandb.run is mine

    solved("zeroth")
    for name in ("NAME", "TAGS", "NOTES", "ENTITY", "PROJECT", "RUN_GROUP"):
        del os.environ[f"WANDB_{name}"]
    solved("first")
    os.environ.update(WANDB_NAME="n", WANDB_TAGS="x,y", WANDB_NOTES="hi", WANDB_ENTITY="e", WANDB_PROJECT="p")
    os.environ["WANDB_RUN_GROUP"] = "g"
    solved("second")
    for name in ("NAME", "TAGS", "NOTES", "ENTITY", "PROJECT", "RUN_GROUP"):
        del os.environ[f"WANDB_{name}"]
    os.environ["WANDB_RUN_ID"] = mine.id  # as under W&B's agent
    solved("third")
    mine.log({"after": 2})
    mine.finish()
"""


def record_of(path: Path, kind: str) -> Any:
    records = raw_records(path.read_bytes())
    return next(getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind)


def test_a_run_that_is_open_stays_so_and_variables_hold_for_one_job(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(OPEN), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (mine,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    keys = [next(iter(row.keys() - {"_timestamp", "_runtime", "_step"})) for row in read_offline(mine, 20).history]
    assert keys == ["before", *["inside"] * 12, "after"]
    told = []
    for name in ("zeroth", "first", "second", "third"):
        history = read_offline(tmp_path / name, wait=20).history
        assert [row["_step"] for row in history if "loss/total" in row] == [0, 1, 2]
        run = record_of(parts(tmp_path / name)[0], "run")
        told.append((run.project, run.entity, run.display_name, list(run.tags), run.notes, run.run_group))
    assert told == [
        ("own", "own", "own", ["own"], "own", "own"),
        ("latentopt", "", "", [], "", ""),
        ("p", "e", "n", ["x", "y"], "hi", "g"),
        ("latentopt", "", "", [], "", ""),
    ]


def same(one: Offline, other: Offline) -> None:
    """Two runs have the same steps, figures and summaries."""
    varying = ("_timestamp", "_runtime", "seconds")

    def figures(run: Offline) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key not in varying} for row in run.history]

    def tracked(run: Offline) -> list[dict[str, Any]]:
        kept = [{key: value for key, value in row.items() if "." not in key} for row in figures(run)]
        return [row for row in kept if len(row) > 1]

    assert tracked(one) == tracked(other)
    plain = [{key: v for key, v in run.summary.items() if not isinstance(v, dict)} for run in (one, other)]
    assert {key: plain[0][key] for key in plain[0] if "/" in key and "_" not in key[:1]} == {
        key: plain[1][key] for key in plain[1] if "/" in key and "_" not in key[:1]
    }
    for key in tracking.BEST:
        assert one.summary.get(key) == other.summary.get(key), key


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> list[str]:
    model = write_classifier(tmp_path_factory.mktemp("model") / "m", hidden=12)
    words = ["attack", "--model", str(model), "--data", "digits", "--eps", "0.05", "--limit", "8", "--batch-size", "2"]
    return [*words, "--optimizer", "pgd", "--steps", "5", "--restarts", "2", "--device", "cpu", "--wandb", "offline"]


def test_a_job_stopped_twice_is_one_run_like_that_of_one_that_was_not(tmp_path, capsys, monkeypatch, attacked):
    assert call(capsys, *attacked, "--out", tmp_path / "whole").code == 0
    add, count = Store.add, [0]

    def stopped(store, shard):
        count[0] += 1
        if count[0] in (2, 4):
            raise KeyboardInterrupt
        add(store, shard)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", stopped)
        for _ in range(2):
            assert call(capsys, *attacked, "--out", tmp_path / "o").code == 130
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    assert len(parts(tmp_path / "o")) == 3
    assert read_metrics(tmp_path / "o") == read_metrics(tmp_path / "whole")
    run = read_offline(tmp_path / "o", wait=20)
    same(run, read_offline(tmp_path / "whole", wait=20))
    last = read_offline(parts(tmp_path / "o")[-1])  # what a server has in the end
    assert {key: last.summary.get(key) for key in tracking.BEST} == {key: run.summary.get(key) for key in tracking.BEST}
    steps = [[row["_step"] for row in read_offline(path).history] for path in parts(tmp_path / "o")]
    each = [step for part in steps for step in part]
    assert each == list(range(len(each)))  # none twice, none left out: a server takes them as they are


def test_what_wandb_lost_in_a_kill_is_sent_from_the_copy_on_disk(tmp_path, capsys, monkeypatch, attacked):
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *attacked, "--out", tmp_path / "o").code == 130
    name = (tmp_path / "o" / "wandb" / RUN_ID).read_text()
    last_step(tmp_path / "o", name)  # waits for what W&B still writes
    (part,) = parts(tmp_path / "o")
    content = part.read_bytes()
    while [record.WhichOneof("record_type") for record in raw_records(content)].count("history") > 1:
        content = content[:-16]
    part.write_bytes(content)
    assert last_step(tmp_path / "o", name) == 0 < len(read_metrics(tmp_path / "o")) - 1
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    run = read_offline(tmp_path / "o", wait=20)
    steps = [row["_step"] for row in run.history if "cost/forwards" in row]
    assert steps == [line["step"] for line in read_metrics(tmp_path / "o")]


def test_a_job_that_was_stopped_when_it_finished_is_tracked_to_its_end(tmp_path, capsys, monkeypatch, attacked):
    with monkeypatch.context() as patch:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("latentopt.jobs.attack._draw", stopped)
        assert call(capsys, *attacked, "--out", tmp_path / "o").code == 130
    assert not (tmp_path / "o" / "summary.json").exists()
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    run = read_offline(tmp_path / "o", wait=20)
    assert run.summary["best/success"] == json.loads((tmp_path / "o" / "summary.json").read_text())["best/success"]
    assert any("results.path" in row for row in run.history)
    count = len(parts(tmp_path / "o"))
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    assert len(parts(tmp_path / "o")) == count  # done: nothing more to track


def test_a_job_killed_between_its_lines_and_its_part_has_each_line_once(tmp_path, capsys, monkeypatch, attacked):
    add, count = Store.add, [0]

    class Killed(BaseException):
        pass

    def killed(store, shard):
        count[0] += 1
        if count[0] == 3:
            raise Killed
        add(store, shard)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", killed)
        patch.setattr(tracking, "_cut", lambda path, count: None)  # a process that is killed takes nothing back
        with pytest.raises(Killed):
            call(capsys, *attacked, "--out", tmp_path / "o")
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    assert call(capsys, *attacked, "--out", tmp_path / "whole").code == 0
    assert read_metrics(tmp_path / "o") == read_metrics(tmp_path / "whole")
    same(read_offline(tmp_path / "o", wait=20), read_offline(tmp_path / "whole", wait=20))


def test_lines_that_other_processes_left_are_taken_over_once(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "a": 1.0}\n{"step": 1, "a": 5.0, "rank": 1}\n')
    (tmp_path / "metrics.1.jsonl").write_text('{"step": 0, "a": 5.0}\n')  # killed before it was removed
    Tracker(tmp_path, "disabled", {}, "test").finish([{"a": 1}], {"a": 1.0}, [])
    assert [line["a"] for line in read_metrics(tmp_path)] == [1.0, 5.0]
    assert not (tmp_path / "metrics.1.jsonl").exists()
