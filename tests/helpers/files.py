"""What the tests of jobs and commands share: files such as users have, and the command line in this process."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from nets import refill
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.cli import main
from latentopt.jobs.experiment import Experiment, Shard
from latentopt.zoo import cards, datasets

ROOT = Path(__file__).parents[2]
QUICK = ("--steps", "4", "--restarts", "2", "--wandb", "disabled", "--device", "cpu")

VIDEO = {"trajectory.mp4"} if shutil.which("ffmpeg") else set()


class Said(NamedTuple):
    code: object
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *words: object, once: bool = True) -> Said:
    """Run `latentopt` in this process; with ``once`` an option that the words have twice is given as it is last."""
    capsys.readouterr()
    try:
        code: object = main(each_once(words) if once else [str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def each_once(words: Iterable[object]) -> list[str]:
    """The words of a command with each option once, as it is given last."""
    groups, option = {"": list[str]()}, ""
    for word in map(str, words):
        if word.startswith("--"):
            option = word.partition("=")[0].replace("_", "-")
            groups[option] = []
        groups[option].append(word)
    return [word for group in groups.values() for word in group]


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run `latentopt`, which refuses in one line on stderr, and return the line."""
    outcome = call(capsys, *words)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert outcome.err.startswith("latentopt: error: ")
    return outcome.err


@contextmanager
def stopped_in_its_second_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, a job is interrupted when it is about to keep its second batch."""
    add = Experiment.add

    def stopped(store: Experiment, shard: Shard) -> None:
        if store.done():
            raise KeyboardInterrupt
        add(store, shard)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "add", stopped)
        yield


@contextmanager
def stopped_at_parts(monkeypatch: pytest.MonkeyPatch, error: type[BaseException], *counts: int) -> Iterator[None]:
    """Within, a job stops when it is about to keep a part of these numbers, counted over all calls from 1."""
    add, count = Experiment.add, [0]

    def stopped(store, shard):
        count[0] += 1
        if count[0] in counts:
            raise error
        add(store, shard)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "add", stopped)
        yield


@contextmanager
def stopped_in(monkeypatch: pytest.MonkeyPatch, target: str) -> Iterator[None]:
    """Within, a call of the function with this dotted name is interrupted."""

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target, stopped)
        yield


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def idx(array: np.ndarray) -> bytes:
    """Bytes in the format of MNIST."""
    return b"\x00\x00\x08" + struct.pack(f">B{array.ndim}I", array.ndim, *array.shape) + array.tobytes()


def blobs(count: int, seed: int, side: int = 28) -> np.ndarray:
    """Grey images (count, side, side) bytes, each one bright spot at a random place."""
    centre = np.random.default_rng(seed).uniform(side / 4, 3 * side / 4, (count, 2, 1, 1))
    rows, columns = np.mgrid[:side, :side]
    distance = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2
    return (255 * np.exp(-distance / (side / 2))).astype(np.uint8)


def halves(images: np.ndarray) -> np.ndarray:
    """Of grey images (count, height, width) whether the right half (1) is the brighter, or the left one (0)."""
    middle = images.shape[-1] // 2
    left, right = (part.sum((1, 2), dtype=np.int64) for part in (images[..., :middle], images[..., middle:]))
    return (right > left).astype(np.uint8)


def write_mnist(folder: Path, train: int = 256, test: int = 64) -> Path:
    """A data set in the format and under the names of MNIST; an image's class is the half, 0 or 1, of its spot."""
    for name, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images = blobs(count, seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", halves(images))):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def own_images(count: int, seed: int = 0) -> Tensor:
    """Images of mnist-vae (count, 1, 28, 28)."""
    generator = cards.load_generator("mnist-vae")
    return generator(generator.latents(count, seed))


def write_model(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A model of 3 latents and images (1, 4, 4) with random weights; ``changes`` replace fields of its card."""
    spec = {"class_path": "latentopt.zoo.architectures.MLP", "init_args": {"sizes": [3, 6, 16], "shape": [1, 4, 4]}}
    settings: dict[str, Any] = {"latent_shape": [3], "output_range": (-1.0, 2.0), "start_scale": 0.5}
    card = cards.GeneratorCard(name="tiny", summary="for tests", architecture={"generator": spec}, **settings)
    module = refill(cards.build(spec), seed=seed)
    cards.save_model(folder, card, {"generator": module.float()})
    change_card(folder, **changes)
    return folder


def write_classifier(folder: Path, hidden: int = 0, scale: float = 10.0) -> Path:
    """A model that tells scikit-learn's digits by least squares, on the pixels or on so many random ReLU features."""
    images, labels = datasets.load_labelled("digits")
    sizes = [64, hidden, 10] if hidden else [64, 10]
    spec = {"class_path": "latentopt.zoo.architectures.MLP", "init_args": {"sizes": sizes}}
    module = refill(cards.build(spec), seed=0, dtype=torch.float32)
    *_, last = parts(module, nn.Linear)
    with torch.no_grad():
        features = torch.cat([module.layers[:-2](images), torch.ones(len(images), 1)], 1)  # pyright: ignore
        solved = torch.linalg.lstsq(features.double(), scale * F.one_hot(labels, 10).double()).solution
        last.weight.copy_(solved[:-1].T)
        last.bias.copy_(solved[-1])
    settings: dict[str, Any] = {"input_shape": [1, 8, 8], "mean": 0.0, "std": 1.0, "classes": list("0123456789")}
    card = cards.ClassifierCard(name="tiny", summary="for tests", architecture={"classifier": spec}, **settings)
    cards.save_model(folder, card, {"classifier": module})
    return folder


def change_card(folder: Path, **changes: Any) -> None:
    path = folder / cards.CARD
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def parts(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of a job's results, without the seconds."""
    with (folder / "results.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def lasting(path: Path) -> bytes:
    """What a file holds, a report without its seconds."""
    return re.sub(rb'<tr class="varies">.*?</tr>', b"", path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
