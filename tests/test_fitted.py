"""Targets that fit a generator, are made to, or are told why they do not."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from files import write_png
from nets import near
from PIL import Image
from test_targets import GREY, image, of_bytes, pixels, read

from latentopt.errors import InputError
from latentopt.jobs.targets import Fitted, Targets, open_source


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


def test_resizing_is_bilinear_with_antialiasing_as_pillow_does_it(tmp_path):
    array = pixels(23, 17)
    resized = image(read(write_png(tmp_path / "a.png", array), Fitted((1, 4, 6), (1, 4, 6), resize=True)))
    expected = Image.fromarray(array.astype(np.float32) / 255).resize((6, 4), Image.Resampling.BILINEAR)
    near(resized[0], torch.tensor(np.asarray(expected)), 1e-5)


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
