from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from files import blobs, write_mnist, write_png
from nets import near, refuses
from PIL import Image

from latentopt.jobs.targets import Fitted, Target, Targets, load_images, open_source

GREY = Fitted((1, 4, 6), (1, 2, 3))


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read(path: Path | str, fitted: Fitted = GREY) -> Target:
    return Targets(open_source([str(path)]), fitted)[0]


def image(target: Target) -> torch.Tensor:
    assert target.image is not None, target.error
    return target.image


def of_bytes(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array).float()[None] / 255


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".pgm", ".gif", ".PNG"])
def test_a_grey_image_file_is_read_exactly(tmp_path, suffix):
    array = pixels(4, 6)
    target = read(write_png(tmp_path / f"a{suffix}", array))
    assert (target.index, target.name) == (0, f"a{suffix}")
    assert torch.equal(image(target), of_bytes(array))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16"])
def test_grey_stored_in_another_mode_loses_nothing(tmp_path, mode):
    array = pixels(4, 6)
    stored = Image.fromarray(array)
    stored = Image.fromarray(array.astype(np.uint16) * 257) if mode == "I;16" else stored.convert(mode)
    stored.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as again:
        assert again.mode == mode
    near(image(read(tmp_path / "a.png")), of_bytes(array), 1e-7)


def test_a_black_and_white_file_is_zeros_and_ones(tmp_path):
    array = pixels(4, 6) > 127
    write_png(tmp_path / "a.png", array)
    assert torch.equal(image(read(tmp_path / "a.png")), torch.tensor(array).float()[None])


def test_sixteen_bits_keep_their_precision(tmp_path):
    array = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2700
    near(image(read(write_png(tmp_path / "a.png", array))), torch.tensor(array / 65535).float()[None], 1e-7)


def test_thirty_two_bits_are_refused_rather_than_cut_to_sixteen(tmp_path):
    Image.fromarray(np.full((4, 6), 70000, np.int32)).save(tmp_path / "a.tiff")
    assert "a.tiff" in read(tmp_path / "a.tiff").error


def test_a_palette_with_colours_is_colour(tmp_path):
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[:2, :, 0] = 255
    Image.fromarray(colours).quantize(4).save(tmp_path / "a.png")
    target = read(tmp_path / "a.png", Fitted((3, 4, 6), (3, 4, 6)))
    assert torch.equal(image(target), torch.tensor(colours).permute(2, 0, 1) / 255)
    assert "--convert" in read(tmp_path / "a.png").error


def test_a_folder_is_its_images_in_the_order_of_their_names(tmp_path):
    for at, name in enumerate(["b.png", "a.png", "c.jpg", "10.png", "9.png"]):
        write_png(tmp_path / name, pixels(4, 6, seed=at))
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source([str(tmp_path)])
    assert list(source.names) == ["10.png", "9.png", "a.png", "b.png", "c.jpg"]
    assert torch.equal(image(Targets(source, GREY)[2]), of_bytes(pixels(4, 6, seed=1)))


def test_files_and_folders_are_read_in_the_order_given_and_a_limit_takes_the_first(tmp_path):
    paths = [write_png(tmp_path / name, pixels(4, 6)) for name in ("z.png", "f/a.png", "f/b.png")]
    given = [str(paths[0]), str(tmp_path / "f")]
    assert list(open_source(given).names) == ["z.png", "a.png", "b.png"]
    assert list(open_source(given, limit=2).names) == ["z.png", "a.png"]


def test_equal_file_names_are_told_apart_and_one_file_named_twice_is_refused(tmp_path):
    one, two = (str(write_png(tmp_path / name, pixels(4, 6))) for name in ("f/a.png", "g/a.png"))
    assert list(open_source([one, two]).names) == [one, two]
    with refuses("targets"):
        open_source([one, one])


def test_a_named_data_set_is_read_by_split_and_limit(tmp_path):
    source = open_source(["mnist"], str(write_mnist(tmp_path, train=12, test=5)), "train", limit=3)
    assert list(source.names) == ["mnist-00", "mnist-01", "mnist-02"]
    assert np.array_equal(source.read(2), blobs(12, seed=0)[2])


def test_a_file_wins_over_a_data_set_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "digits" / "a.png", pixels(4, 6))
    assert list(open_source(["digits"]).names) == ["a.png"]


def test_there_must_be_something_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    for given in ([], ["nothing.png"], ["x" * 300 + ".png"], ["no such", "thing"]):
        with refuses("targets"):
            open_source(given)
    for given, name in (("x" * 300, "data set"), (str(tmp_path / "empty"), str(tmp_path / "empty"))):
        with refuses(name):
            open_source([given])


def test_the_fingerprint_tells_other_files_apart(tmp_path):
    def fingerprint() -> str:
        return open_source([str(tmp_path)]).fingerprint

    path = write_png(tmp_path / "a.bmp", pixels(4, 6))
    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    size = path.stat().st_size
    assert write_png(path, pixels(4, 6, seed=1)).stat().st_size == size
    seen.append(fingerprint())
    write_png(path, pixels(40, 40))
    seen.append(fingerprint())
    path.rename(tmp_path / "b.bmp")
    seen.append(fingerprint())
    write_png(tmp_path / "c.png", pixels(4, 6))
    assert len({*seen, fingerprint()}) == 5


def test_images_of_a_folder_are_one_tensor(tmp_path):
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    write_png(tmp_path / "a.png", grey)
    write_png(tmp_path / "b.png", grey[::-1].copy())
    images = load_images(tmp_path)
    assert torch.equal(images[:, 0], torch.tensor(np.stack([grey, grey[::-1]])).float() / 255)
    assert load_images(tmp_path / "b.png", shape=(3, 8, 8)).shape == (1, 3, 8, 8)


def test_images_of_several_shapes_want_one(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    write_png(tmp_path / "b.png", np.zeros((5, 4), np.uint8))
    with refuses("targets", "[(1, 4, 4), (1, 5, 4)]"):
        load_images(tmp_path)
    assert load_images(tmp_path, shape=(1, 4, 4)).shape == (2, 1, 4, 4)
