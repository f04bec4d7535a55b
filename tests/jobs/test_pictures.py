from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from latentopt import Generator, Reconstruction
from latentopt.jobs.reconstruct_progress import displayable
from latentopt.pictures import draw_histogram, save_convergence, save_gif, save_png, tile, to_bytes


def flat(values: list[int], channels: int = 1, side: int = 4) -> torch.Tensor:
    """Images (B, channels, side, side), each of one grey."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, channels, side, side).clone()


def test_what_is_measured_again_is_stretched_as_the_measurement():
    generator = Generator(torch.nn.Unflatten(1, (1, 2, 2)), latent_shape=4)
    images = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]], [[[0.2, 0.4], [0.6, 1.0]]]])
    problem = Reconstruction(generator, images, lambda image: 10 * image - 3)
    assert torch.allclose(displayable(problem, problem.measurement[:1]), images[:1])
    assert torch.allclose(displayable(problem, problem.measurement[:1] + 5), images[:1] + 0.5)
    near = Reconstruction(generator, images, lambda image: 2 * image - 0.5)
    assert torch.equal(displayable(near, near.measurement / 2), near.measurement / 2)


def test_images_become_bytes_rounded_and_clamped():
    images = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 7.0], requires_grad=True)
    assert to_bytes(images).tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_a_sample_is_its_columns_side_by_side_framed_in_white():
    picture = tile([flat([10]), flat([20])], per_row=1, side=8)
    assert picture.shape == (8 + 4, 8 + 2 * (8 + 4), 3)  # 8 before the sample, 2 around each image
    assert picture.dtype == np.uint8
    expected = np.full((12, 32, 3), 255)
    expected[2:10, 10:18] = 10
    expected[2:10, 22:30] = 20
    assert np.array_equal(picture, expected)


def test_columns_that_enlarge_to_other_heights_stand_in_the_middle_of_the_tallest():
    picture = tile([flat([10], side=7), flat([20], side=5)], per_row=1, side=14)  # 14 and 15 pixels high
    assert picture.shape[0] == 15 + 4
    assert int((picture[..., 0] == 10).sum()) == 14 * 14
    assert int((picture[..., 0] == 20).sum()) == 15 * 15


def test_samples_fill_rows_and_what_is_missing_is_white():
    picture = tile([flat([10, 20, 30])], per_row=2, side=4)
    assert picture.shape == (2 * 8, 2 * 16, 3)
    centres = picture[4::8, 12::16, 0]
    assert centres.tolist() == [[10, 20], [30, 255]]


def test_images_are_enlarged_without_smoothing_and_small_ones_padded():
    checks = torch.tensor([[0, 200], [200, 0]], dtype=torch.uint8)[None, None]
    picture = tile([checks, flat([10], side=3)], per_row=1, side=6)
    assert np.array_equal(picture[2:8, 10:16, 0], np.kron([[0, 200], [200, 0]], np.ones((3, 3))))
    assert np.array_equal(picture[2:8, 20:26, 0], np.full((6, 6), 10))
    padded = tile([flat([10], side=5)], per_row=1, side=7)[2:9, 10:17, 0]
    assert np.array_equal(padded, np.pad(np.full((5, 5), 10), 1, constant_values=255))


def test_colours_are_kept():
    colour = torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert tile([colour, flat([9])], per_row=1, side=4)[4, [12, 20]].tolist() == [[1, 2, 3], [9, 9, 9]]


def test_a_png_holds_the_picture_below_its_titles(tmp_path):
    picture = tile([flat([10, 30], side=60), flat([20, 40], side=60)], side=60)
    save_png(tmp_path / "a.png", picture, ["target", "best"])
    with Image.open(tmp_path / "a.png") as image:
        read = np.asarray(image)
    assert read.shape == (22 + picture.shape[0], *picture.shape[1:])
    assert np.array_equal(read[22:], picture)
    ink = np.flatnonzero((read[:22] < 128).any((0, 2)))
    columns = [range(10, 70), range(74, 134), range(146, 206), range(210, 270)]  # where the images are
    assert all(any(start in column for column in columns) for start in ink)
    assert all(set(ink) & set(column) for column in columns)


def test_a_png_without_titles_is_the_picture(tmp_path):
    picture = tile([flat([10, 30])])
    save_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)


@pytest.mark.parametrize("count", [1, 5])
def test_a_gif_has_every_frame_and_the_last_stays(tmp_path, count):
    frames = [tile([flat([40 * at])]) for at in range(count)]
    save_gif(tmp_path / "a.gif", frames, milliseconds=50)
    with Image.open(tmp_path / "a.gif") as animation:
        assert getattr(animation, "n_frames", 1) == count
        for at, frame in enumerate(frames):
            animation.seek(at)
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - frame).max() <= 4  # 256 colours
            assert count == 1 or animation.info["duration"] == (2000 if at == count - 1 else 50)
        assert animation.info.get("loop", 0) == 0


@pytest.mark.parametrize("curves", [np.logspace(0, -5, 40)[None] * np.arange(1, 101)[:, None], np.zeros((1, 1))])
def test_a_convergence_plot_is_written(tmp_path, curves):
    save_convergence(tmp_path / "a.png", curves, "MSE")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (910, 546)  # 7 x 4.2 inches at 130 dots
        blue = (np.asarray(image.convert("RGB")).astype(int) - (31, 119, 180)).__abs__().sum(-1) < 60
    assert blue.sum() > (500 if len(curves) > 1 else 20)


@pytest.mark.parametrize(
    "values", [[0.001, 0.02, 0.3], [0.5], [0.0, 1.0], [float("nan"), float("inf"), 2.0], [float("nan")]]
)
def test_a_histogram_is_drawn_of_whatever_is_finite(values):
    with Image.open(io.BytesIO(draw_histogram(values, "error"))) as image:
        assert image.size == (910, 416)
        blue = (np.asarray(image.convert("RGB")).astype(int) - (31, 119, 180)).__abs__().sum(-1) < 60
    assert bool(blue.any()) == any(np.isfinite(values))


def test_a_convergence_plot_of_some_images_says_of_how_many(tmp_path):
    curves = np.logspace(0, -5, 40)[None] * np.arange(1, 11)[:, None]
    for name, all_of in (("part", 30), ("all", 10), ("unsaid", None)):
        save_convergence(tmp_path / f"{name}.png", curves, "MSE", all_of)
    contents = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents["all"] == contents["unsaid"] != contents["part"]
