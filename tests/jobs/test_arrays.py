from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
import torch
from nets import near, refuses
from test_targets import GREY, image, of_bytes, pixels, read

from latentopt.jobs.targets import Fitted, Targets, open_source


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pixels(3, 4, 6), lambda a: a[:, None] / 255),
        (pixels(3, 4, 6, 1), lambda a: a.transpose(0, 3, 1, 2) / 255),
        (pixels(3, 1, 4, 6), lambda a: a / 255),
        (np.repeat(pixels(3, 4, 6, 1), 3, axis=3), lambda a: a[..., :1].transpose(0, 3, 1, 2) / 255),
        (pixels(3, 4, 6).astype(np.uint16) * 257, lambda a: a[:, None] / 65535),
        (pixels(3, 4, 6) / 255, lambda a: a[:, None]),
        ((pixels(3, 4, 6) / 255).astype(">f4"), lambda a: a[:, None]),
        (pixels(3, 4, 6) > 127, lambda a: a[:, None]),
    ],
    ids=["NHW", "NHWC", "NCHW", "grey RGB", "uint16", "float64", "big-endian", "bool"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_read_in_every_layout_and_dtype(tmp_path, array, expected, packed):
    path = tmp_path / ("a.npz" if packed else "a.npy")
    np.savez(path, array) if packed else np.save(path, array)
    source = open_source([str(path)])
    assert list(source.names) == ["a-000000", "a-000001", "a-000002"]
    targets = Targets(source, GREY)
    read_all = torch.stack([image(targets[index]) for index in range(len(targets))])
    near(read_all, torch.tensor(expected(array).astype(np.float32)), 1e-7)


def test_colour_arrays_keep_their_channels(tmp_path):
    array = pixels(2, 4, 6, 3)
    np.save(tmp_path / "last.npy", array)
    np.save(tmp_path / "first.npy", array.transpose(0, 3, 1, 2))
    colour = Fitted((3, 4, 6), (3, 4, 6))
    expected = torch.tensor(array[0]).permute(2, 0, 1) / 255
    for name in ("last.npy", "first.npy"):
        assert torch.equal(image(read(tmp_path / name, colour)), expected)


def test_of_several_arrays_the_one_named_images_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.arange(2), images=pixels(2, 4, 6))
    assert torch.equal(image(read(tmp_path / "a.npz")), of_bytes(pixels(2, 4, 6)[0]))
    np.savez(tmp_path / "b.npz", one=pixels(2, 4, 6), two=pixels(2, 4, 6))
    with refuses(str(tmp_path / "b.npz")):
        open_source([str(tmp_path / "b.npz")])


@pytest.mark.parametrize("array", [pixels(4), pixels(0, 4, 6)])
def test_an_array_that_holds_no_images_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with refuses(str(tmp_path / "a.npy")):
        open_source([str(tmp_path / "a.npy")])


def numpy_bytes(packed: bool, content: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, content) if packed else np.save(file, content)
    return file.getvalue()


NPY, NPZ = (numpy_bytes(packed, pixels(3, 4, 6)) for packed in (False, True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.npy", NPY[:-7], id="cut npy"),
        pytest.param("a.npz", NPZ[:-60], id="cut npz"),
        *product(("a.npy", "a.npz"), (b"hello", b"")),
        pytest.param("a.npz", NPZ.replace(pixels(3, 4, 6).tobytes(), bytes(72)), id="corrupt npz"),
        pytest.param("a.npy", numpy_bytes(False, np.array([[[{}]]])), id="objects"),
    ],
)
def test_broken_and_misnamed_array_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refuses(str(tmp_path / name)):
        open_source([str(tmp_path / name)])


@pytest.mark.parametrize(("name", "content"), [("a.npy", NPZ), ("a.npz", NPY)])
def test_what_an_array_file_holds_decides_how_it_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert torch.equal(image(read(tmp_path / name)), of_bytes(pixels(3, 4, 6)[0]))


@pytest.mark.parametrize("array", [pixels(3, 4, 6).astype(np.int64), pixels(3, 4, 6) * 1j, np.full((3, 4, 6), "x")])
def test_numbers_that_are_no_pixels_are_an_error_of_the_image(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    targets = Targets(open_source([str(tmp_path / "a.npy")]), GREY)
    assert targets[1].image is None
    assert targets[1].error.startswith("a-000001: image: expected bytes, 16-bit values or floats")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255.0])
def test_floats_that_are_no_pixels_are_an_error_of_their_image_alone(tmp_path, bad):
    array = np.zeros((3, 4, 6))
    array[1, 2, 2] = bad
    np.save(tmp_path / "a.npy", array)
    targets = Targets(open_source([str(tmp_path / "a.npy")]), GREY)
    assert [targets[index].image is None for index in range(3)] == [False, True, False]


def test_floats_outside_by_rounding_only_are_clamped(tmp_path):
    array = np.zeros((1, 4, 6))
    array[0, 0, :2] = -0.9e-6, 1 + 0.9e-6
    np.save(tmp_path / "a.npy", array)
    assert image(Targets(open_source([str(tmp_path / "a.npy")]), GREY)[0]).unique().tolist() == [0, 1]


def test_the_fingerprint_tells_arrays_of_other_shape_dtype_or_pixels_apart(tmp_path):
    def fingerprint(array: np.ndarray) -> str:
        np.save(tmp_path / "a.npy", array)
        return open_source([str(tmp_path / "a.npy")]).fingerprint

    arrays = [pixels(3, 4, 6), pixels(2, 4, 6), pixels(3, 6, 4), pixels(3, 4, 6).astype(bool), pixels(3, 4, 6, seed=1)]
    assert len({fingerprint(array) for array in arrays}) == len(arrays)
    assert fingerprint(arrays[0]) == fingerprint(arrays[0])
