from __future__ import annotations

import contextlib
import csv
import json
import time

import pytest
import safetensors
import torch
import yaml
from files import contents
from nets import refuses
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentopt.errors import InputError
from latentopt.jobs import experiment as module
from latentopt.jobs.experiment import PLACE_SETTINGS, Experiment, Shard
from latentopt.jobs.records import read_results

RECIPE = {"job": "reconstruct", "model": "m", "steps": 3, "out": "o", "wandb": "offline", "batch_size": 2}
IDENTITY = {"weights": "abc", "targets_held": "def"}


def store(folder, recipe=RECIPE, identity=IDENTITY) -> Experiment:
    return Experiment(folder, dict(recipe), dict(identity))


def shard(*index: int) -> Shard:
    tensors = {"index": torch.tensor(index), "latents": torch.tensor(index)[:, None] + torch.tensor([0.0, 0.5])}
    rows = [{"name": f"t{i}", "mse": i / 7, "psnr": float("inf")} for i in index]
    return Shard([f"t{i}" for i in index], rows, {**tensors, "curve": torch.rand(len(index), 3)})


def begun(folder) -> Experiment:
    opened = store(folder)
    opened.open()
    return opened


def test_what_is_added_is_done_and_read_back_in_order(tmp_path):
    held, parts = begun(tmp_path / "o"), [shard(4, 5), shard(0, 1, 2)]
    assert held.done() == set()
    for part in parts:
        held.add(part)
    again = store(tmp_path / "o")
    assert again.done() == {0, 1, 2, 4, 5}
    for read, added in zip(again.read(), reversed(parts), strict=True):
        assert (read.names, read.rows) == (added.names, added.rows)
        assert read.tensors.keys() == added.tensors.keys()
        assert all(torch.equal(read.tensors[key], added.tensors[key]) for key in added.tensors)


def test_a_batch_that_was_being_written_when_killed_is_not_done(tmp_path):
    held = begun(tmp_path / "o")
    held.add(shard(0, 1))
    whole = next(held.shards.iterdir())
    (held.shards / f".{whole.name}.4242.partial").write_bytes(whole.read_bytes()[:50])
    assert store(tmp_path / "o").done() == {0, 1}
    assert len(list(held.read())) == 1


def test_the_results_are_in_the_order_of_the_targets(tmp_path):
    held = begun(tmp_path / "o")
    for part in (shard(3, 6), shard(1, 4), shard(0, 1)):  # one target in two parts
        held.add(part)
    rows = held.finish([])
    assert [row["name"] for row in rows] == ["t0", "t1", "t3", "t4", "t6"]
    assert read_results(tmp_path / "o") == rows
    latents = load_file(tmp_path / "o" / "latents.safetensors")["latents"]
    assert latents.tolist() == [[i, i + 0.5] for i in (0, 1, 3, 4, 6)]
    assert not (tmp_path / "o" / "skipped.csv").exists()


def test_what_was_skipped_is_written_and_forgotten_once_it_is_not(tmp_path):
    held = begun(tmp_path / "o")
    held.add(shard(0))
    held.finish([("a, b.png", 'says "no"\nand why')])
    with (tmp_path / "o" / "skipped.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["name", "reason"], ["a, b.png", 'says "no"\nand why']]
    held.finish([])
    assert not (tmp_path / "o" / "skipped.csv").exists()


def test_the_folder_says_which_job_it_holds(tmp_path):
    begun(tmp_path / "o")
    assert yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text()) == RECIPE
    job = json.loads((tmp_path / "o" / "job.json").read_text())
    assert job == {"job": "reconstruct", "model": "m", "steps": 3, **IDENTITY}


@pytest.mark.parametrize("key", PLACE_SETTINGS)
def test_where_and_how_a_job_runs_may_change(tmp_path, key):
    begun(tmp_path / "o").add(shard(0))
    assert store(tmp_path / "o", {**RECIPE, key: "other"}).done() == {0}


@pytest.mark.parametrize(
    ("recipe", "identity", "differing"),
    [
        ({**RECIPE, "steps": 4}, IDENTITY, ["steps"]),
        ({**RECIPE, "steps": 4, "model": "n"}, IDENTITY, ["steps", "model"]),
        ({**RECIPE, "seed": 1}, IDENTITY, ["seed"]),
        ({key: RECIPE[key] for key in RECIPE if key != "steps"}, IDENTITY, ["steps"]),
        (RECIPE, {**IDENTITY, "weights": "xyz"}, ["weights"]),
    ],
)
def test_another_job_is_refused_with_what_differs_and_nothing_is_touched(tmp_path, recipe, identity, differing):
    begun(tmp_path / "o").add(shard(0))
    before = contents(tmp_path)
    with pytest.raises(InputError) as caught:
        store(tmp_path / "o", recipe, identity)
    assert str(caught.value).startswith("out: ")
    assert all(key in str(caught.value).split(" other ")[1] for key in differing)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "job.json"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with refuses("out"):
        store(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "o").write_text("mine")
    with refuses(str(tmp_path / "o")):
        store(tmp_path / "o")
    with refuses("out"):
        begun(tmp_path / "o" / "deeper")
    assert contents(tmp_path) == {"o": b"mine"}


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_job_killed_while_it_opened_its_folder_can_be_started_again(tmp_path, monkeypatch, written):
    """Killed after so many of the two files that it writes first."""
    count, write = 0, module.write_atomically

    def killed(path, content):
        nonlocal count
        if count == written:
            raise KeyboardInterrupt
        count += 1
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", killed)
        with contextlib.suppress(KeyboardInterrupt):
            begun(tmp_path / "o")
    assert count == written  # none: the folder is empty
    assert begun(tmp_path / "o").done() == set()


def broken(kind: str, content: bytes, path) -> None:
    if kind == "no metadata":
        save_file({"index": torch.tensor([0])}, path)
    elif kind == "no index":
        save_file({"latents": torch.zeros(1, 2)}, path, {"names": "[]", "rows": "[]"})
    else:
        path.write_bytes({"cut": content[:-8], "cut head": content[:40], "empty": b"", "text": b"hello"}[kind])


@pytest.mark.parametrize("kind", ["cut", "cut head", "empty", "text", "no metadata", "no index"])
def test_a_broken_part_is_refused_by_its_name(tmp_path, kind):
    held = begun(tmp_path / "o")
    held.add(shard(0, 1))
    path = next(held.shards.iterdir())
    broken(kind, path.read_bytes(), path)
    with refuses(str(path)):
        held.done()


def test_of_the_first_targets_only_what_is_asked_is_read_in_their_order(tmp_path, monkeypatch):
    held = begun(tmp_path / "o")
    parts = [shard(0, 5), shard(2, 3), shard(6, 7), shard(8)]
    for part in parts:
        held.add(part)
    opened = []
    monkeypatch.setattr(safetensors, "safe_open", lambda path, kind: opened.append(path.stem) or safe_open(path, kind))
    read = held.read_first([0, 2, 5], "latents")
    assert {key: values.tolist() for key, values in read.items()} == {"latents": [[0, 0.5], [2, 2.5], [5, 5.5]]}
    assert opened == ["000000000", "000000002", "000000006"]  # the last of them to see that there is no more
    curves = held.read_first([2, 5], "curve")["curve"]
    assert torch.equal(curves, torch.stack([parts[1].tensors["curve"][0], parts[0].tensors["curve"][1]]))


def test_many_parts_are_looked_through_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_atomically", lambda path, content: path.write_bytes(content))
    held = begun(tmp_path / "o")
    for at in range(2000):
        held.add(shard(at))
    begin = time.perf_counter()
    assert held.done() == set(range(2000))
    assert time.perf_counter() - begin < 5  # 10,000 take 2 s alone on one slow core
