"""The EXIF orientation of photographs, wherever images are read (stylegan-encoder#18)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import latentopt as lo
from latentopt.jobs.targets import Fitted, Targets, open_source
from latentopt.zoo import datasets
from latentopt.zoo.data import ImageData

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[::-1],
    8: lambda a: np.rot90(a),
}
"""What the TIFF and EXIF standards want done with the stored rows and columns."""


def photograph() -> np.ndarray:
    """(40, 60, 3) bytes, each quarter of another colour, without small detail that JPEG would change."""
    quarters = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [200, 200, 40]]], np.uint8)
    return quarters.repeat(20, 0).repeat(30, 1)


def write(path: Path, array: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless: dict[str, Any] = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    lossless |= {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(array).save(path, exif=exif, **lossless)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_of_every_format(tmp_path, suffix, orientation):
    image = lo.load_images(write(tmp_path / f"a{suffix}", photograph(), orientation))
    expected = TURNS[orientation](photograph()).transpose(2, 0, 1) / 255
    assert image[0].shape == expected.shape
    assert np.abs(image[0].numpy() - expected).max() < 0.05


@pytest.mark.parametrize("orientation", TURNS)
def test_grey_and_sixteen_bits_are_turned_too(tmp_path, orientation):
    for array in (photograph()[:, :, 0], photograph()[:, :, 0].astype(np.uint16) * 257):
        image = lo.load_images(write(tmp_path / "a.png", array, orientation))
        expected = TURNS[orientation](photograph()[:, :, 0]) / 255
        torch.testing.assert_close(image[0, 0], torch.tensor(expected.copy()).float(), rtol=0, atol=1e-6)


def test_a_palette_keeps_its_colours(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(photograph()).quantize(4).save(tmp_path / "a.png", exif=exif)
    image = lo.load_images(tmp_path / "a.png")
    assert torch.equal(image[0], torch.tensor(TURNS[6](photograph()).copy()).permute(2, 0, 1) / 255)


def test_targets_of_a_job_are_turned_before_they_are_fitted(tmp_path):
    write(tmp_path / "a.jpg", photograph(), 8)
    target = Targets(open_source([str(tmp_path)]), Fitted((3, 60, 40), (3, 60, 40)))[0]
    assert target.image is not None


def test_images_of_a_data_set_are_turned_as_targets_and_for_training(tmp_path, monkeypatch):
    opened = [Image.open(write(tmp_path / "a.jpg", photograph(), 6)) for _ in range(2)]
    monkeypatch.setattr(datasets, "_torchvision", lambda *arguments: opened)
    assert open_source(["Flowers102"]).read(1).shape == (60, 40, 3)
    assert ImageData("Flowers102").images("train").shape == (2, 3, 60, 40)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_there_is_not_changes_nothing(tmp_path, orientation):
    assert lo.load_images(write(tmp_path / "a.jpg", photograph(), orientation)).shape == (1, 3, 40, 60)


@pytest.mark.filterwarnings("ignore:.*EXIF")  # Pillow's, when it opens the file
@pytest.mark.parametrize("exif", [b"Exif\0\0broken", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0\xff\xff"])
def test_broken_metadata_is_no_orientation(tmp_path, exif):
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", exif=exif)
    assert lo.load_images(tmp_path / "a.jpg").shape == (1, 3, 40, 60)
