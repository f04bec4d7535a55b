from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from files import blobs, call, contents, lasting, stopped_in_its_second_batch, table

from latentopt import io
from latentopt.io import write_atomically
from latentopt.jobs import experiment, report

COUNT, STEPS = 12, 20


def command(folder: Path, out: str) -> list[str]:
    words = ["reconstruct", "--model", "mnist-vae", "--targets", str(folder / "a.npy"), "--out", str(folder / out)]
    words += ["--steps", str(STEPS), "--restarts", "4", "--batch-size", "1", "--start", "random"]
    return [*words, "--wandb", "disabled", "--device", "cpu", "--picture-every", "20"]


def done(out: Path) -> dict[str, int]:
    """The parts of a job that are done, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.safetensors")}


def killed(words: list[str], out: Path, parts: int) -> dict[str, int]:
    """Start the job in a process of its own and kill it once so many parts are done."""
    process = processes.start(words)
    try:
        deadline = time.monotonic() + 120
        while len(done(out)) < parts and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    return done(out)


def test_a_job_killed_twice_ends_as_one_that_was_not(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(COUNT, seed=0))
    words = command(tmp_path, "killed")
    first = killed(words, tmp_path / "killed", 2)
    second = killed(words, tmp_path / "killed", len(first) + 2)
    assert 2 <= len(first) < len(second) < COUNT
    assert not (tmp_path / "killed" / "results.csv").exists()
    assert call(capsys, *words).code == 0
    parts = done(tmp_path / "killed")
    assert len(parts) == COUNT
    assert first.items() <= second.items() <= parts.items()  # no target is done twice

    assert call(capsys, *command(tmp_path, "whole")).code == 0
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    for name in ("latents.safetensors", "grid.png", "trajectory.gif", "convergence.png", "report.html"):
        assert lasting(tmp_path / "killed" / name) == lasting(tmp_path / "whole" / name), name


@pytest.mark.parametrize("changes", [[], ["--batch-size", "2"], ["--device", "auto"]])
def test_a_job_stopped_by_hand_says_so_and_goes_on_wherever_it_runs(tmp_path, monkeypatch, capsys, changes):
    np.save(tmp_path / "a.npy", blobs(3, seed=0))
    words = [*command(tmp_path, "out"), "--steps", "6"]
    with stopped_in_its_second_batch(monkeypatch):
        told = call(capsys, *words)
    assert (told.code, told.err.splitlines()[-1]) == (130, "latentopt: stopped; the same command goes on from here")
    assert len(done(tmp_path / "out")) == 1
    before = contents(tmp_path)
    told = call(capsys, *words, "--seed", "1")  # another job
    assert (told.code, "seed" in told.err) == (2, True)
    assert contents(tmp_path) == before
    told = call(capsys, *words, *changes)
    assert (told.code, "3 done, 0 skipped" in told.out) == (0, True)
    assert [row["name"] for row in table(tmp_path / "out")] == ["a-000000", "a-000001", "a-000002"]
    if not changes:
        lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(3 * 6))
        costs = [line["cost/forwards"] for line in lines]
        for batch in (costs[:6], costs[6:12], costs[12:]):  # a target's, from the batch's beginning
            assert [cost - batch[0] for cost in batch] == [4.0 * t for t in range(6)]


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "a.npy", blobs(3, seed=0))
    words, parts = [*command(tmp_path, "out"), "--steps", "4"], {}
    for name in ("000000001.safetensors", "latents.safetensors", "results.csv", "report.html"):

        def full(path, content, name=name):
            if path.name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            write_atomically(path, content)

        with monkeypatch.context() as patch:
            for module in (io, experiment, report):
                patch.setattr(module, "write_atomically", full)
            told = call(capsys, *words)
        assert told.code == 1
        last = told.err.splitlines()[-1]
        assert last.startswith("latentopt: error: [Errno 28] No space left on device")
        assert name in last
        before, parts = parts, done(tmp_path / "out")
        assert len(parts) == (1 if name.startswith("0") else 3)
        assert before.items() <= parts.items()
    assert call(capsys, *words).code == 0
    assert parts == done(tmp_path / "out")
    assert call(capsys, *words, "--out", tmp_path / "whole").code == 0
    assert table(tmp_path / "out") == table(tmp_path / "whole")


def test_a_part_that_the_disk_has_no_room_for_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"content")
    assert list(tmp_path.iterdir()) == []
