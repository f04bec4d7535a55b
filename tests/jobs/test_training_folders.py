"""Training on folders of images and on torchvision's data sets, whatever they call their parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from files import call, refused
from nets import refuses
from PIL import Image
from torchvision import datasets as torchvision_datasets
from trainings import classifier_recipe, measure_few, vae_recipe

from latentopt.zoo import cards
from latentopt.zoo.data import ImageData, LabelledData
from latentopt.zoo.datasets import open_dataset


def write(path: Path, dark: bool, size: tuple[int, int] = (28, 28), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 60, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels + (0 if dark else 190)).convert(mode).save(path)


def photographs(folder: Path, count: int = 10, **options) -> Path:
    """A folder with two classes."""
    for index in range(count):
        write(folder / "dark" / f"{index:02d}.png", dark=True, **options)
        write(folder / "light" / f"{index:02d}.png", dark=False, **options)
    return folder


def test_classes_take_turns_and_every_fifth_image_is_a_test_image(tmp_path):
    folder = photographs(tmp_path / "photos")
    write(folder / "light" / "10.png", dark=False)
    data = LabelledData(str(folder), batch_size=4, validation=4)
    images, labels = data.load("train")
    assert images.shape == (17, 1, 28, 28)
    assert labels.tolist() == [0, 1] * 8 + [1]
    assert ((images.mean((1, 2, 3)) > 0.5).long() == labels).all()
    assert data.load("test")[1].tolist() == [0, 1, 0, 1]
    assert [len(part) for part in data.training()] == [13, 13]
    named = ImageData("ImageFolder", str(folder))
    assert torch.equal(named.images("train"), images)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_parts_in_folders_of_their_own(name, tmp_path):
    photographs(tmp_path / "train", 3)
    photographs(tmp_path / name, 2)
    data = LabelledData(str(tmp_path), validation=1)
    assert [data.load(split)[1].tolist() for split in ("train", "test")] == [[0, 1] * 3, [0, 1] * 2]


@pytest.mark.parametrize(("shape", "fit"), [([3, 16, 16], "crop"), ([1, 8, 24], "pad"), ([3, 5, 5], "stretch")])
def test_images_of_any_size_and_colour_are_fitted(shape, fit, tmp_path):
    photographs(tmp_path, 3, size=(40, 20), mode="RGB")
    photographs(tmp_path / "dark", 2, size=(9, 31))
    data = ImageData(str(tmp_path), shape=shape, fit=fit)
    images = data.images("train")
    assert images.shape[1:] == tuple(shape)
    assert 0 <= images.min() < images.max() <= 1
    with refuses("data set", "one shape"):
        ImageData(str(tmp_path)).images("train")


def test_a_folder_without_classes_trains_a_generator(tmp_path, capsys, monkeypatch):
    measure_few(monkeypatch)
    for index in range(20):
        write(tmp_path / "photos" / f"{index}.png", index % 2 == 0, size=(30, 34), mode="RGB")
    words = ["--data.dataset", tmp_path / "photos", "--data.batch_size", "4", "--data.shape", "[1, 28, 28]"]
    said = call(capsys, "train", vae_recipe(tmp_path, tmp_path / "r.yaml"), *words, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert cards.load_generator(tmp_path / "out" / "tiny").output_shape() == (1, 28, 28)


def test_a_folder_of_classes_trains_a_classifier(tmp_path, capsys, monkeypatch):
    measure_few(monkeypatch, attacked=True)
    folder, recipe = photographs(tmp_path / "photos", 20), tmp_path / "r.yaml"
    classifier_recipe(tmp_path, recipe, None, {"batch_size": 4})
    words = ["--data.dataset", folder, "--data.validation", "4"]
    said = call(capsys, "train", recipe, *words, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    card = cards.read_card(tmp_path / "out" / "tiny")
    assert "all 8 test images" in card.quality["protocol"]
    assert card.training["data"] == "photos"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "a folder with images"),
        (["a/1.png"], "at least 5 images"),
        (["train/a/1.png"], "a folder test or val"),
        (["train/a/1.png", "val/b/1.png"], "the classes of train: a"),
        (["a/1.png", "b/1.txt"], "a folder with images"),
        (["a/1.broken.png"] * 1, ""),
    ],
)
def test_folders_that_are_no_data_set_are_one_line(files, words, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image") if "broken" in name or "txt" in name else write(folder / name, True)
    line = refused(
        capsys, "train", vae_recipe(tmp_path, tmp_path / "r.yaml"), "--data.dataset", folder, "--out", tmp_path / "out"
    )
    assert words in line
    assert "photos" in line
    assert not (tmp_path / "out").exists()


ITEM = Image.new("L", (4, 4)), 1


class _Items(list):
    def __init__(self, *of: object) -> None:
        super().__init__([ITEM] * 10)
        self.of = of


class Trained(_Items):
    def __init__(self, root, train=True) -> None:
        super().__init__(train)


class Split(_Items):
    NAMES = ("train", "val")

    def __init__(self, root, split="train") -> None:
        if split not in self.NAMES:
            raise ValueError(f"Unknown value {split!r}")
        super().__init__(split)


class Standard(Split):
    NAMES = ("train-standard", "valid")


class Background(_Items):
    def __init__(self, root, background=True) -> None:
        super().__init__(background)


class Whole(_Items):
    def __init__(self, root, transform=None) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Trained, (True, False)),
        (Split, ("train", "val")),
        (Standard, ("train-standard", "valid")),
        (Background, (True, False)),
    ],
)
def test_parts_of_torchvisions_data_sets(kind, parts, monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "USPS", kind)
    for split, part in zip(("train", "test"), parts, strict=True):
        assert open_dataset("usps", split=split).dataset.of == (part,)


def test_a_data_set_without_parts_is_divided(monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "EuroSAT", Whole)
    assert [len(open_dataset("eurosat", split=split)) for split in ("train", "test")] == [8, 2]
    assert len(open_dataset("FakeData", split="test")) == 200
