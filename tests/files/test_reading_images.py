"""Every kind of image file that people have, and folders of them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import refuses
from PIL import Image, ImageCms

import latentopt as lo
from latentopt import cli
from latentopt.errors import printable
from latentopt.files import FileWarning

HALVES = np.repeat(np.array([[[200, 40, 40], [40, 60, 200]]], np.uint8), 8, 0).repeat(4, 1)  # (8, 8, 3), red and blue
RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def in_mode(mode: str, path: Path, **options: Any) -> None:
    Image.fromarray(HALVES).convert(mode).save(path, **options)


def lab(path: Path) -> None:
    profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    stored = ImageCms.profileToProfile(Image.fromarray(HALVES), *profiles, outputMode="LAB")
    assert stored is not None
    stored.save(path)


def twelve_bits(path: Path) -> None:
    """A grey TIFF of 12 bits a pixel, two of them in three bytes."""
    first, second = (RAMP * 4095).round().astype(np.uint32).reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    fields = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in fields.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    path.write_bytes(head + packed + struct.pack("<H", len(fields)) + entries + bytes(4))


def pgm(most: int, path: Path) -> None:
    path.write_bytes(b"P5 8 8 %d\n" % most + (RAMP * most).round().astype(">u2").tobytes())


COLOUR, GREY = HALVES.transpose(2, 0, 1) / 255, RAMP[None]
FILES: dict[str, tuple[str, Callable[[Path], object], np.ndarray, float]] = {
    "CMYK JPEG": ("a.jpg", lambda path: in_mode("CMYK", path, quality=100), COLOUR, 0.05),
    "CMYK TIFF": ("a.tif", lambda path: in_mode("CMYK", path), COLOUR, 0.01),
    "YCbCr TIFF": ("a.tif", lambda path: in_mode("YCbCr", path), COLOUR, 0.02),
    "LAB": ("a.tif", lab, COLOUR, 0.04),
    "palette with an opaque alpha": ("a.webp", lambda path: in_mode("RGBA", path, lossless=True), COLOUR, 1e-6),
    "WebP": ("a.webp", lambda path: in_mode("RGB", path, lossless=True), COLOUR, 1e-6),
    "JPEG 2000": ("a.jp2", lambda path: in_mode("RGB", path), COLOUR, 0.01),
    "capital suffix": ("a.JPEG", lambda path: in_mode("RGB", path, quality=100, subsampling=0), COLOUR, 0.02),
    "12 bits": ("a.tif", twelve_bits, GREY, 1 / 4095),
    "12 bits, PGM": ("a.pgm", lambda path: pgm(4095, path), GREY, 1 / 4095),
    "16 bits, PGM": ("a.pgm", lambda path: pgm(65535, path), GREY, 1 / 65535),
    "floats": ("a.tif", lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path), GREY, 1e-7),
}


@pytest.mark.parametrize(("name", "write", "expected", "tolerance"), FILES.values(), ids=FILES.keys())
def test_an_image_in_every_mode(tmp_path, name, write, expected, tolerance):
    write(tmp_path / name)
    images = lo.load_images(tmp_path)
    assert images.shape == (1, *expected.shape)
    assert np.abs(images[0].numpy() - expected).max() <= tolerance


def transparent(path: Path, **options: Any) -> None:
    layer = Image.fromarray(HALVES).convert("RGBA")
    layer.putpixel((7, 7), (0, 0, 0, 0))
    layer.save(path, **options)


def pages(path: Path) -> None:
    Image.fromarray(HALVES).save(path, save_all=True, append_images=[Image.fromarray(255 - HALVES)])


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sixteen_bit_colour(path: Path) -> None:
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in HALVES)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


WHITE = COLOUR.copy()
WHITE[:, 7, 7] = 1
REMARKS = {
    "animated GIF": ("a.gif", pages, "first of its 2 pages", COLOUR, 0.2),
    "animated WebP": ("a.webp", pages, "first of its 2 pages", COLOUR, 0.2),
    "TIFF of pages": ("a.tif", pages, "first of its 2 pages", COLOUR, 0),
    "transparent PNG": ("a.png", transparent, "over white", WHITE, 0),
    "transparent palette": ("a.gif", transparent, "over white", WHITE, 0),
    "16-bit colour": ("a.png", sixteen_bit_colour, "with 8", COLOUR, 0),
}


@pytest.mark.parametrize(("name", "write", "words", "expected", "tolerance"), REMARKS.values(), ids=REMARKS.keys())
def test_what_is_left_out_of_a_file_is_said(tmp_path, name, write, words, expected, tolerance):
    write(tmp_path / name)
    with pytest.warns(FileWarning, match=f"{name}: .*{words}"):
        images = lo.load_images(tmp_path)
    assert np.abs(images[0].numpy() - expected).max() <= tolerance + 1e-6


def cut(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def bomb(path: Path) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b""))


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated PNG": ("a.png", cut, ""),
    "truncated JPEG": ("a.jpg", cut, "truncated"),
    "truncated GIF": ("a.gif", cut, ""),
    "no image": ("a.png", lambda path: path.write_text("text"), "no known image format"),
    "empty": ("a.png", lambda path: path.touch(), "no known image format"),
    "decompression bomb": ("a.png", bomb, "decompression bomb"),
    "pipe": ("a.png", os.mkfifo, "a pipe"),
    "folder": ("a.png", Path.mkdir, "a folder"),
    "32 bits": ("a.tif", lambda path: Image.fromarray(np.full((4, 6), 70000, np.int32)).save(path), "8 or 16 bits"),
}


@pytest.mark.parametrize(("name", "write", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named(tmp_path, name, write, words):
    write(tmp_path / name)
    with refuses(str(tmp_path / name), words):
        lo.load_images(tmp_path)


def test_subfolders_are_read_where_no_image_lies_above_them(tmp_path):
    for name in ("b/2.png", "b/deep/1.png", "a/1.png", "a/.hidden.png", ".git/x.png", "__MACOSX/a/1.png", "a/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(HALVES).save(tmp_path / name)
    (tmp_path / "a" / "folder.png").mkdir()
    from latentopt.jobs.sources import open_source

    assert list(open_source([str(tmp_path)]).names) == ["a/1.png", "b/2.png", "b/deep/1.png"]
    Image.fromarray(HALVES).save(tmp_path / "top.png")
    assert lo.load_images(tmp_path).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"a\x1b[31m.png", b"a\nb.png", "\u202egnp.png".encode()])
def test_no_name_of_a_file_reaches_the_terminal_as_it_is(tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_text("no image")
    from latentopt.jobs.targets import Fitted, Targets, open_source

    target = Targets(open_source([str(tmp_path)]), Fitted((3, 8, 8), (3, 8, 8)))[0]
    for text in (target.name, target.error):
        assert text.encode().decode().isprintable()
        assert text == printable(text)
    with pytest.raises(lo.InputError) as caught:
        lo.load_images(os.fsdecode(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("target", ["a\0b", "a\0b.png", "x" * 5000, "/dev/null", "/dev/zero"])
def test_what_no_file_is_called_and_devices_are_refused(target):
    with refuses("targets"):
        lo.load_images(target, "b.png")


def test_the_command_line_says_in_one_line_what_is_left_out():
    told = cli._warning_line(FileWarning("a.png: its\x1b[31m pages"), FileWarning, "a.py", 3)
    assert told == "latentopt: warning: a.png: its\\x1b[31m pages\n"
    assert "a.py" in cli._warning_line(UserWarning("other"), UserWarning, "a.py", 3)
