"""Runs of W&B: servers that do not take them, runs that users have open, variables, and jobs that go on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import QUICK, blobs, call, stopped_at_parts, stopped_in, stopped_in_its_second_batch, write_classifier
from nets import mlp
from wandb_runs import LoggedRun, drop_wandb_variables

import latentopt as lo
from latentopt.cli import main
from latentopt.jobs import tracker, wandb_run
from latentopt.jobs.records import BEST, OfflineRun, read_metrics, read_offline
from latentopt.jobs.wandb_log import last_step, log_files, raw_records, read_run_id

# wandb.Image leaves the GIF that it was given open.
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")

SETTINGS: dict[str, Any] = {"low": -1.0, "high": 1.0, "shape": (3,), "optimizer": "adam", "steps": 3, "seed": 0}


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch):
    drop_wandb_variables(monkeypatch)


@contextmanager
def _server(code: int, content: bytes) -> Iterator[str]:
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


@pytest.fixture
def at_server(monkeypatch) -> Iterator[Callable[..., None]]:
    """Set W&B's server: one that gives one answer to everything, or an address without any."""
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with ExitStack() as stack:

        def begin(code: int = 0, content: bytes = b"", url: str = "") -> None:
            monkeypatch.setenv("WANDB_BASE_URL", stack.enter_context(_server(code, content)) if code else url)

        yield begin


@pytest.mark.parametrize(
    ("code", "content", "reason"),
    [
        (401, b"{}", "W&B's server does not take the key (HTTP 401)"),
        (500, b"{}", "W&B's server did not answer (HTTP 500)"),
        (404, b"", "W&B's server did not answer (HTTP 404)"),
        (200, b'{"data": {"viewer": null}}', "W&B's server does not know the key"),
        (200, b'{"data": {"viewer": {"id": "me"}}}', ""),
        (200, b"<html>", ""),  # left to W&B, like all other answers
        (200, b"{}", ""),
    ],
)
def test_a_server_that_does_not_take_runs_is_told_at_once(at_server, code, content, reason):
    at_server(code, content)
    begun = time.monotonic()
    assert wandb_run.server_refusal() == reason
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("url", ["nonsense", "http://nowhere.invalid"])
def test_an_address_that_is_none_is_told(at_server, url):
    at_server(url=url)
    assert wandb_run.server_refusal().startswith("W&B's server did not answer (")


def test_online_without_a_server_is_one_line_and_the_job_is_done_offline(tmp_path, at_server, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at_server(url=f"http://127.0.0.1:{free.getsockname()[1]}")
    np.save(tmp_path / "a.npy", blobs(1, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *QUICK, "--wandb", "online"]
    result = call(capsys, *words, "--out", tmp_path / "o")
    assert result.code == 0
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    reason = "W&B's server did not answer (ConnectionRefusedError); the run stays offline"
    assert warnings == [f"latentopt: warning: {reason}"]
    run = read_offline(tmp_path / "o", wait=20)
    assert run.finished
    assert [row["_step"] for row in run.history if "loss/total" in row] == list(range(4))


def test_a_solve_goes_on_without_a_server(tmp_path, at_server, capsys):
    at_server(500)
    result = lo.maximize(mlp(3, 8, 1), **SETTINGS, callbacks=[lo.Track(tmp_path / "t", wandb="online")])
    assert result.meta["steps"] == 3
    assert len(read_metrics(tmp_path / "t")) == 3
    assert capsys.readouterr().err.count("warning") == 1


def test_a_run_that_a_server_refuses_later_goes_on_under_another_id_with_all_its_steps(tmp_path, monkeypatch, capsys):
    """W&B's own process may still hold the id of a run that did not begin."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss/best": 3.0}\n{"step": 1, "loss/best": 2.0}\n')
    init, calls = wandb_run._init, []

    def refused(folder, mode, run_id, options):
        calls.append((mode, run_id))
        if mode == "online":
            raise ConnectionError("no")
        return init(folder, mode, run_id, options)

    monkeypatch.setattr(wandb_run, "_init", refused)
    monkeypatch.setattr(wandb_run, "server_refusal", lambda: "")
    job = tracker.Tracker(tmp_path, "online", {}, "test")
    job.log(2, {"loss/best": 1.0})
    job.flush()
    job.finish([{"a": 1}], {"a": 1.0}, [])
    assert [mode for mode, _ in calls] == ["online", "offline"]
    assert calls[0][1] != calls[1][1] == read_run_id(tmp_path)
    assert "W&B's server did not answer (ConnectionError); the run stays offline" in capsys.readouterr().err
    run = read_offline(tmp_path, wait=20)
    assert [(row["_step"], row["loss/best"]) for row in run.history if "loss/best" in row] == [(0, 3), (1, 2), (2, 1)]


OPEN = """
    import os, sys
    NAMES = ("NAME", "TAGS", "NOTES", "ENTITY", "PROJECT", "RUN_GROUP")
    os.environ |= {f"WANDB_{name}": "own" for name in NAMES}
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
    for name in NAMES:
        del os.environ[f"WANDB_{name}"]
    solved("first")
    os.environ |= {f"WANDB_{name}": value for name, value in zip(NAMES, ("n", "x,y", "hi", "e", "p", "g"))}
    solved("second")
    for name in NAMES:
        del os.environ[f"WANDB_{name}"]
    os.environ["WANDB_RUN_ID"] = mine.id  # as under W&B's agent
    solved("third")
    mine.log({"after": 2})
    mine.finish()
"""


@pytest.mark.slow
def test_a_run_that_is_open_stays_so_and_variables_hold_for_one_job(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(OPEN), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (mine,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    keys = [next(iter(row.keys() - {"_timestamp", "_runtime", "_step"})) for row in read_offline(mine, 20).history]
    assert keys == ["before", *["inside"] * 12, "after"]
    settings = []
    for name in ("zeroth", "first", "second", "third"):
        logged = LoggedRun(tmp_path / name)
        assert [row["_step"] for row in logged.history if "loss/total" in row] == [0, 1, 2]
        (run,) = logged.runs
        settings.append((run.project, run.entity, run.display_name, list(run.tags), run.notes, run.run_group))
    assert settings == [
        ("own", "own", "own", ["own"], "own", "own"),
        ("latentopt", "", "", [], "", ""),
        ("p", "e", "n", ["x", "y"], "hi", "g"),
        ("latentopt", "", "", [], "", ""),
    ]


def assert_same(one: OfflineRun, other: OfflineRun) -> None:
    """Two runs have the same steps, figures and summaries."""

    def figures(run: OfflineRun) -> list[dict[str, Any]]:
        varying = ("_timestamp", "_runtime", "seconds")
        rows = [{k: value for k, value in row.items() if k not in varying and "." not in k} for row in run.history]
        return [row for row in rows if len(row) > 1]

    def summary(run: OfflineRun) -> dict[str, Any]:
        plain = {key: value for key, value in run.summary.items() if not isinstance(value, dict)}
        return {key: value for key, value in plain.items() if "/" in key and key[:1] != "_"} | best(run)

    assert figures(one) == figures(other)
    assert summary(one) == summary(other)


def best(run: OfflineRun) -> dict[str, Any]:
    return {key: run.summary.get(key) for key in BEST}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> list[str]:
    model = write_classifier(tmp_path_factory.mktemp("model") / "m", hidden=12)
    words = ["attack", "--model", str(model), "--data", "digits", "--eps", "0.05", "--limit", "8", "--batch-size", "2"]
    return [*words, "--optimizer", "pgd", "--steps", "5", "--restarts", "2", "--device", "cpu", "--wandb", "offline"]


@pytest.fixture(scope="module")
def whole(attacked, tmp_path_factory) -> Path:
    """The folder of a job that was not stopped."""
    out = tmp_path_factory.mktemp("job") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        drop_wandb_variables(patch)
        assert main([*attacked, "--out", str(out)]) == 0
    return out


def test_a_job_stopped_twice_is_one_run_like_that_of_one_that_was_not(tmp_path, capsys, monkeypatch, attacked, whole):
    with stopped_at_parts(monkeypatch, KeyboardInterrupt, 2, 4):
        for _ in range(2):
            assert call(capsys, *attacked, "--out", tmp_path / "o").code == 130
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    paths = log_files(tmp_path / "o")
    assert len(paths) == 3
    assert read_metrics(tmp_path / "o") == read_metrics(whole)
    run = read_offline(tmp_path / "o", wait=20)
    assert_same(run, read_offline(whole, wait=20))
    assert best(read_offline(paths[-1])) == best(run)  # what a server has in the end
    steps = [row["_step"] for path in paths for row in read_offline(path).history]
    assert steps == list(range(len(steps)))  # none twice, none left out: a server takes them as they are


def test_what_wandb_lost_in_a_kill_is_sent_from_the_copy_on_disk(tmp_path, capsys, monkeypatch, attacked):
    out = tmp_path / "o"
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *attacked, "--out", out).code == 130
    last_step(out, read_run_id(out))  # waits for what W&B still writes
    (path,) = log_files(out)
    content = path.read_bytes()
    while [record.WhichOneof("record_type") for record in raw_records(content)].count("history") > 1:
        content = content[:-16]
    path.write_bytes(content)
    assert last_step(out, read_run_id(out)) == 0 < len(read_metrics(out)) - 1
    assert call(capsys, *attacked, "--out", out).code == 0
    steps = [row["_step"] for row in read_offline(out, wait=20).history if "cost/forwards" in row]
    assert steps == [line["step"] for line in read_metrics(out)]


def test_a_job_that_was_stopped_when_it_finished_is_tracked_to_its_end(tmp_path, capsys, monkeypatch, attacked):
    with stopped_in(monkeypatch, "latentopt.jobs.attacker.draw_pictures"):
        assert call(capsys, *attacked, "--out", tmp_path / "o").code == 130
    assert not (tmp_path / "o" / "summary.json").exists()
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    run = read_offline(tmp_path / "o", wait=20)
    assert run.summary["best/success"] == json.loads((tmp_path / "o" / "summary.json").read_text())["best/success"]
    assert any("results.path" in row for row in run.history)


def test_a_job_killed_between_its_lines_and_its_part_has_each_line_once(tmp_path, capsys, monkeypatch, attacked, whole):
    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch, stopped_at_parts(monkeypatch, Killed, 3):
        patch.setattr(tracker, "_truncate", lambda path, count: None)  # a process that is killed takes nothing back
        with pytest.raises(Killed):
            call(capsys, *attacked, "--out", tmp_path / "o")
    assert call(capsys, *attacked, "--out", tmp_path / "o").code == 0
    assert read_metrics(tmp_path / "o") == read_metrics(whole)
    assert_same(read_offline(tmp_path / "o", wait=20), read_offline(whole, wait=20))
