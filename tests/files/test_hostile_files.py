"""Files that would wait for ever, fill the memory or act on a terminal are refused at once, in one line."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import refuses

import latentopt as lo
from latentopt.cli.output import one_line
from latentopt.files import arrays, read_array, read_image, read_tensors, read_values
from latentopt.inverse.initializers import Saved
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.sources import open_source
from latentopt.solver.callbacks import JsonLines
from latentopt.zoo.datasets import read_idx
from latentopt.zoo.strict_yaml import parse_yaml, read_yaml


class Waits(BaseException):
    """A file that nobody writes into is read."""


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Waits

    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


READERS: dict[str, Callable[[Path], object]] = {
    "image": lambda path: read_image(path.with_suffix(".png")),
    "images": lambda path: lo.load_images(path.with_suffix(".png")),
    "folder of images": lambda path: lo.load_images(path.parent),
    "array": lambda path: read_array(path.with_suffix(".npy")),
    "array as targets": lambda path: open_source([str(path.with_suffix(".npz"))]),
    "safetensors": lambda path: read_tensors(path.with_suffix(".safetensors")),
    "state dict": lambda path: read_tensors(path.with_suffix(".pt")),
    "mask": lambda path: lo.operators.Mask(path.with_suffix(".png")),
    "mask folder": lambda path: read_values(path.parent),
    "labelled array": lambda path: open_labelled(str(path.with_suffix(".npz"))),
    "labelled list": lambda path: open_labelled(str(path.with_suffix(".csv"))),
    "start": lambda path: Saved(path.with_suffix(".safetensors")),
    "result": lambda path: lo.Result.load(path.with_suffix(".safetensors")),
    "recipe": lambda path: read_yaml(path.with_suffix(".yaml")),
    "card": lambda path: lo.load(str(path.parent)),
    "idx": lambda path: read_idx(path.with_suffix(".gz")),
    "checkpoint": lambda path: lo.maximize(
        torch.nn.Linear(2, 1).eval(),
        shape=(2,),
        low=-1,
        high=1,
        steps=1,
        checkpoint=path.with_suffix(".safetensors"),
    ),
}
SUFFIXES = (".png", ".npy", ".npz", ".safetensors", ".pt", ".csv", ".yaml", ".gz")


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_is_no_file(tmp_path, read, kind):
    make = os.mkfifo if kind == "pipe" else Path.mkdir
    for suffix in SUFFIXES:
        make(tmp_path / f"a{suffix}")
    (tmp_path / "weights.safetensors").touch()
    make(tmp_path / "card.yaml")
    with pytest.raises(lo.InputError):
        read(tmp_path / "a")


def npz(path: Path, header: tuple[int, ...], count: int) -> None:
    """An array whose header promises another shape than its ``count`` bytes of zeros."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": header})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("images.npy", "w") as member:
        member.write(head.getvalue())
        for _ in range(count // 2**20):
            member.write(bytes(2**20))


def bomb_idx(path: Path) -> None:
    import gzip

    with gzip.open(path, "wb", 1) as file:
        file.write(b"\x00\x00\x08\x01\x00\x00\x00\x02")
        for _ in range(4):
            file.write(bytes(2**20))


BOMBS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object], str]] = {
    "array with a wrong header": (
        "a.npz",
        lambda path: npz(path, (10**7, 10**6), 2**20),
        read_array,
        "as its header says",
    ),
    "array of zeros": ("a.npz", lambda path: npz(path, (9, 2**20), 9 * 2**20), read_array, "no bomb"),
    "idx": ("a.gz", bomb_idx, read_idx, "2 values"),
    "deep YAML": ("a.yaml", lambda path: path.write_text("[" * 400), read_yaml, ""),
    "wide YAML": (
        "a.yaml",
        lambda path: path.write_text(
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        ),
        read_yaml,
        "more than",
    ),
    "YAML with control characters": ("a.yaml", lambda path: path.write_text("a: \x1b[31m"), read_yaml, ""),
    "YAML with a number of 5000 digits": ("a.yaml", lambda path: path.write_text("1" * 5000), read_yaml, ""),
}


@pytest.mark.parametrize(("name", "write", "read", "words"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused(tmp_path, monkeypatch, name, write, read, words):
    monkeypatch.setattr(arrays, "LARGE", 2**20)
    write(tmp_path / name)
    with refuses(str(tmp_path / name), words):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b", "\udcff", "x" * 300 + ".png"])
@pytest.mark.parametrize(
    "read",
    [lo.load, lo.load_images, lo.Result.load, open_labelled, Saved, lo.operators.Mask],
    ids=["model", "images", "result", "labelled", "start", "mask"],
)
def test_a_name_that_no_file_has_is_refused_and_printed_safely(name, read):
    with pytest.raises(lo.InputError) as caught:
        read(name)
    assert str(caught.value).isprintable()


def maximized(**settings: Any) -> None:
    lo.maximize(torch.nn.Linear(2, 1).eval(), shape=2, low=-1, high=1, steps=1, **settings)


def attacked() -> tuple[lo.AttackResult, torch.nn.Module]:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
    return lo.attack(model, torch.rand(1, 1, 2, 2), torch.tensor([0]), 0.1, optimizer="fgsm"), model


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
@pytest.mark.parametrize(
    ("argument", "write"),
    [
        ("checkpoint", lambda path: maximized(checkpoint=path)),
        ("path", lambda path: maximized(callbacks=JsonLines(path))),
        ("folder", lambda path: maximized(callbacks=lo.Track(path))),
        ("folder", lambda path: lo.save_png(path, *attacked())),
    ],
    ids=["checkpoint", "lines", "track", "images"],
)
def test_a_place_that_cannot_be_written_is_refused(argument, write, name, tmp_path):
    with refuses(argument):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_the_command_line_prints_is_escaped():
    assert one_line("no \x1b[31m\n such\udcff \u202efile") == r"no \x1b[31m such\udcff \u202efile"
    assert parse_yaml("a: 1") == {"a": 1}
