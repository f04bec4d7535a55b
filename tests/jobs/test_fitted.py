"""Targets that fit a generator, are made to, or are told why they do not."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from files import call, write_png
from nets import near
from PIL import Image
from test_targets import GREY, image, of_bytes, pixels, read

from latentopt.errors import InputError
from latentopt.jobs.targets import Fitted, Targets, load_images, open_source


def test_a_bad_file_is_an_error_in_its_place_that_names_it(tmp_path):
    write_png(tmp_path / "a.png", pixels(4, 6))
    (tmp_path / "b.png").write_text("no image")
    write_png(tmp_path / "c.png", pixels(8, 8))
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    (tmp_path / "e.png").mkdir()
    (tmp_path / "f.png").write_bytes(b"")
    write_png(tmp_path / "g.png", pixels(4, 6))
    targets = Targets(open_source([str(tmp_path)]), GREY)
    read_all = [targets[index] for index in range(7)]
    assert [target.name for target in read_all if target.image is not None] == ["a.png", "g.png"]
    assert all(target.name in target.error for target in read_all[1:6])
    assert not read_all[0].error


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def test_an_image_of_absurd_size_is_an_error_in_its_place(tmp_path):
    (tmp_path / "a.png").write_bytes(png_that_claims(20_000, 20_000))
    target = read(tmp_path / "a.png")
    assert target.image is None
    assert "a.png" in target.error


def test_sizes_and_channels_change_only_where_asked(tmp_path):
    colour = pixels(8, 12, 3)
    path = write_png(tmp_path / "a.png", colour)
    shapes = ((1, 4, 6), (1, 2, 3))
    assert "--convert" in read(path, Fitted(*shapes)).error
    assert "--convert" in read(path, Fitted(*shapes, resize=True)).error
    assert "--resize" in read(path, Fitted(*shapes, convert=True)).error
    assert image(read(path, Fitted(*shapes, resize=True, convert=True))).shape == (1, 4, 6)


def test_converting_weighs_colours_by_bt_601_and_repeats_grey(tmp_path):
    path = write_png(tmp_path / "a.png", 255 * np.eye(3, dtype=np.uint8)[[[0, 1, 2], [2, 1, 0]]])
    grey = image(read(path, Fitted((1, 2, 3), (1, 2, 3), convert=True)))
    near(grey[0], torch.tensor([[0.299, 0.587, 0.114], [0.114, 0.587, 0.299]]), 1e-6)
    path = write_png(tmp_path / "b.png", pixels(2, 3))
    colour = image(read(path, Fitted((3, 2, 3), (3, 2, 3), convert=True)))
    assert torch.equal(colour, of_bytes(pixels(2, 3)).expand(3, -1, -1))


def test_measurements_are_taken_by_their_shape_and_all_are_of_one_kind(tmp_path):
    write_png(tmp_path / "a.png", pixels(2, 3))
    write_png(tmp_path / "b.png", pixels(4, 6))
    targets = Targets(open_source([str(tmp_path)]), GREY)
    assert [image(targets[index]).shape for index in range(2)] == [(1, 2, 3), (1, 4, 6)]
    targets.kind = (1, 2, 3)
    assert "b.png" in targets[1].error
    assert not targets[0].error


def test_the_first_good_image_is_found_and_none_is_an_error_that_names_the_first(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    write_png(tmp_path / "b.png", pixels(4, 6))
    assert Targets(open_source([str(tmp_path)]), GREY).first_good().shape == (1, 4, 6)
    write_png(tmp_path / "b.png", pixels(5, 5))
    with pytest.raises(InputError, match=r"a\.png.*and 1 more"):
        Targets(open_source([str(tmp_path)]), GREY).first_good()


def disc(height: int, width: int, radius: float, channels: int = 1) -> np.ndarray:
    """Bytes of a white disc in the middle of black."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2 <= radius**2
    return np.repeat((255 * inside).astype(np.uint8)[..., None], channels, 2).squeeze()


def extent(picture: torch.Tensor) -> tuple[int, int]:
    """Height and width of what is bright in an image (C, H, W)."""
    bright = picture[0] > 0.5
    return int(bright.any(1).sum()), int(bright.any(0).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(84, 252), (252, 84), (56, 57), (30, 300)])
def test_a_disc_stays_a_disc(tmp_path, height, width, channels):
    path = write_png(tmp_path / "a.png", disc(height, width, min(height, width) * 3 / 8, channels))
    crop, pad, stretch = (load_images(path, shape=(1, 28, 28), fit=fit)[0] for fit in ("crop", "pad", "stretch"))
    assert torch.equal(crop, load_images(path, shape=(1, 28, 28))[0])
    for tall, wide in (extent(crop), extent(pad)):
        assert abs(tall - wide) <= 1
    assert abs(extent(crop)[0] - 21) <= 1
    if max(height, width) >= 3 * min(height, width):
        ratio = max(extent(stretch)) / min(extent(stretch))
        assert ratio == pytest.approx(max(height, width) / min(height, width), rel=0.4)


def test_every_fit_is_pillows_bilinear_resize_with_antialiasing(tmp_path):
    """Of the short side, whose middle is taken; of the long side, between black bars; of both sides."""
    array = pixels(40, 26)
    path = write_png(tmp_path / "a.png", array)

    def fitted(fit: Any) -> torch.Tensor:
        return image(read(path, Fitted((1, 10, 13), (1, 10, 13), resize=True, fit=fit)))[0]

    def resized(width: int, height: int) -> torch.Tensor:
        whole = Image.fromarray(array.astype(np.float32) / 255).resize((width, height), Image.Resampling.BILINEAR)
        return torch.tensor(np.asarray(whole))

    near(fitted("crop"), resized(13, 20)[5:15], 1e-5)
    near(fitted("stretch"), resized(13, 10), 1e-5)
    near(fitted("pad")[:, 3:9], resized(6, 10), 1e-5)
    assert not fitted("pad")[:, [0, 1, 2, 9, 10, 11, 12]].any()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 1, 9), (1, 31, 7)])
def test_every_fit_of_every_size_has_the_shape(tmp_path, fit, shape):
    for height, width in ((4, 6), (1, 1), (3, 50), (50, 3), (23, 17)):
        path = write_png(tmp_path / f"{height}x{width}.png", pixels(height, width))
        assert load_images(path, shape=shape, fit=fit).shape == (1, *shape)


def test_another_size_of_the_same_aspect_is_fitted_alike(tmp_path):
    path = write_png(tmp_path / "a.png", pixels(8, 12))
    crop, pad, stretch = (load_images(path, shape=(1, 4, 6), fit=fit) for fit in ("crop", "pad", "stretch"))
    assert torch.equal(crop, pad)
    assert torch.equal(crop, stretch)


def test_an_unknown_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="fit: expected one of crop, pad, stretch, got 'squash'"):
        load_images(write_png(tmp_path / "a.png", pixels(8, 12)), shape=(1, 4, 6), fit="squash")  # pyright: ignore


def test_the_command_takes_a_fit(tmp_path, capsys):
    write_png(tmp_path / "a.png", disc(84, 252, 31.5))
    settings = ["--start", "random", "--restarts", 1, "--steps", 1, "--halving", "[]", "--wandb", "disabled"]
    named = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.png", "--resize", "--device", "cpu"]
    assert call(capsys, *named, *settings, "--fit", "pad", "--out", tmp_path / "r").code == 0
    said = call(capsys, *named, *settings, "--fit", "squash", "--out", tmp_path / "s")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "fit" in said.err
