"""Jobs in several processes: the same results as in one, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from files import blobs, call, lasting, table, write_classifier, write_png

from latentopt.cli import main
from latentopt.jobs.chunks import split_into_chunks

SAME = ("latents.safetensors", "grid.png", "trajectory.gif", "convergence.png", "report.html")
TWO = ("--devices", "2", "--strategy", "ddp")
MANY = 24
MODULE = [sys.executable, "-m", "latentopt"]


def command(folder: Path, out: str, *more: str) -> list[str]:
    words = ["reconstruct", "--model", "mnist-vae", "--targets", str(folder / "images"), "--out", str(folder / out)]
    words += ["--restarts", "2", "--batch-size", "2", "--wandb", "disabled", "--device", "cpu", "--steps", "30"]
    return [*words, *more]


def write_images(folder: Path, count: int, bad: int | None = None) -> None:
    for at, image in enumerate(blobs(count, seed=0)):
        path = write_png(folder / "images" / f"{at:02d}.png", image)
        if at == bad:
            path.write_bytes(b"no image")


def same(one: Path, other: Path) -> bool:
    files = all(lasting(one / name) == lasting(other / name) for name in SAME)
    return files and table(one) == table(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A job of many images in one process that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    write_images(folder, MANY)
    assert main(command(folder, "out", "--steps", "60")) == 0
    return folder / "out"


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_processes_share_all_targets_and_none_twice(world, size):
    todo = [at for at in range(50) if at % 7 not in (2, 3)]
    shares = [split_into_chunks(todo, size, rank, world) for rank in range(world)]
    assert sorted(at for share in shares for chunk in share for at in chunk) == todo
    assert sorted(chunk for share in shares for chunk in share) == split_into_chunks(todo, size)
    assert all(len({at // size for at in chunk}) == 1 for share in shares for chunk in share)


def test_processes_that_know_of_different_parts_share_no_target():
    first, second = split_into_chunks(range(10), 2, 0, 2), split_into_chunks(range(4, 10), 2, 1, 2)
    assert [first, second] == [[[0, 1], [4, 5], [8, 9]], [[6, 7]]]


@pytest.mark.slow
def test_two_processes_give_the_files_of_one(tmp_path, capsys):
    write_images(tmp_path, 5, bad=2)  # three chunks for two; the second one's has an image that cannot be read
    done = subprocess.run([*MODULE, *command(tmp_path, "two", *TWO)], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("4 done, 1 skipped") == 1
    assert call(capsys, *command(tmp_path, "one")).code == 3
    assert same(tmp_path / "one", tmp_path / "two")
    skipped = [(tmp_path / out / "skipped.csv").read_text() for out in ("one", "two")]
    assert skipped[0] == skipped[1]
    assert skipped[0].splitlines()[1].startswith("02.png,")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


@pytest.mark.slow
def test_two_processes_attack_as_one(tmp_path, capsys):
    words = ["attack", "--model", str(write_classifier(tmp_path / "m")), "--data", "digits", "--eps", "0.03"]
    words += ["--optimizer", "pgd", "--steps", "10", "--limit", "20", "--targeted", "3", "--batch-size", "8"]
    words += ["--wandb", "disabled", "--device", "cpu", "--out"]
    done = subprocess.run([*MODULE, *words, str(tmp_path / "two"), *TWO], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one = call(capsys, *words, str(tmp_path / "one"))
    assert done.stdout.count("done, ") == one.out.count("done, ") == 1
    assert table(tmp_path / "one") == table(tmp_path / "two")
    for name in ("adversarial.safetensors", "grid.png", "curve.png"):
        assert lasting(tmp_path / "one" / name) == lasting(tmp_path / "two" / name)


@pytest.mark.slow
def test_the_console_script_starts_a_process_that_finds_nothing_to_do(tmp_path, capsys):
    script = Path(sys.executable).with_name("latentopt")
    if not script.is_file():
        pytest.skip("the console script is not installed")
    write_images(tmp_path, 2)
    words = [str(script), *command(tmp_path, "two", "--devices", "2")]
    for _ in range(2):  # the second time there is nothing at all to do
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 done, 0 skipped" in done.stdout
    assert call(capsys, *command(tmp_path, "one")).code == 0
    assert same(tmp_path / "one", tmp_path / "two")


def parts(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.safetensors")}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(process: subprocess.Popen[bytes], which: str, out: Path) -> None:
    """Kill the first, the second or all of a job's two processes once a part is done; wait until none runs."""
    deadline = time.monotonic() + 120
    while not parts(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    (second,) = children(process.pid)
    for pid in {"first": [process.pid], "second": [second], "all": [process.pid, second]}[which]:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(60) != 0
    while time.monotonic() < deadline and Path(f"/proc/{second}/cmdline").exists():
        if not Path(f"/proc/{second}/cmdline").read_bytes():  # ended, waiting for whoever adopted it
            break
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize(("which", "again"), [("first", TWO), ("second", ()), ("all", ())])
def test_a_job_whose_processes_were_killed_goes_on_with_any_number(whole, capsys, which, again):
    folder, killed = whole.parent, whole.parent / which
    words = [*MODULE, *command(folder, which, "--steps", "60", *TWO)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        kill(process, which, killed)
    finally:
        process.kill()
        process.wait()
    held = parts(killed)
    assert 0 < len(held) < 12
    assert not (killed / "results.csv").exists()
    words = command(folder, which, "--steps", "60", *again)
    if again:
        assert subprocess.run([*MODULE, *words], capture_output=True, check=False).returncode == 0
    else:
        assert call(capsys, *words).code == 0
    assert held.items() <= parts(killed).items()  # nothing is done twice
    assert len(parts(killed)) == 12
    assert same(killed, whole)


@pytest.mark.parametrize("option", [("--devices", "0"), ("--strategy", "nonsense"), ("--num-nodes", "0")])
def test_where_no_job_can_run_is_one_line_and_nothing_is_written(tmp_path, capsys, option):
    write_images(tmp_path, 1)
    said = call(capsys, *command(tmp_path, "out", *option))
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
