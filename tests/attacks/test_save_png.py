from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from files import contents
from nets import rand, refuses
from PIL import Image

import latentopt as lo
from latentopt.sets import Norm


def brighter(threshold: float):
    """Two classes: whether the mean of the pixels lies over a threshold."""

    def model(x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([threshold - mean, mean - threshold], 1)

    return model


def attacked(x: torch.Tensor, threshold: float, eps: float, norm: Norm = "linf") -> lo.AttackResult:
    zeros = torch.zeros(len(x), dtype=torch.long)
    return lo.attack(brighter(threshold), x, zeros, eps, norm=norm, optimizer="pgd", steps=40)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode in ("L", "RGB")
        return np.array(image)


def test_a_success_that_rounding_destroys_is_told(tmp_path):
    """From 100 / 255 and within .4 / 255 there is no other byte: the file is the clean image."""
    x = torch.full((2, 1, 4, 4), 100 / 255)
    found = attacked(x, 100.2 / 255, 0.4 / 255)
    assert found.success.all()
    with pytest.warns(lo.AttackWarning, match="2 of the 2 images that succeed do not as 8-bit files"):
        still = lo.save_png(tmp_path / "o", found, brighter(100.2 / 255))
    assert still is not None
    assert still.tolist() == [False, False]
    assert (pixels(tmp_path / "o" / "0001.png") == 100).all()


def test_a_success_that_rounding_leaves_is_silent(tmp_path):
    """Within 8 / 255 all pixels become 108, to the byte."""
    x, model = torch.stack([torch.full((3, 4, 5), 100 / 255), torch.full((3, 4, 5), 20 / 255)]), brighter(107.5 / 255)
    found = attacked(x, 107.5 / 255, 8 / 255)
    towards = lo.attack(model, x[:1], torch.tensor([1]), 8 / 255, targeted=True, optimizer="pgd", steps=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still = lo.save_png(tmp_path, found, model, names=["a.png", "b.png"])
        aimed = lo.save_png(tmp_path / "towards", towards, model)
    assert still is not None
    assert aimed is not None
    assert still.tolist() == found.success.tolist() == [True, False]
    assert aimed.tolist() == towards.success.tolist() == [True]
    assert pixels(tmp_path / "a.png").shape == (4, 5, 3)
    assert (pixels(tmp_path / "a.png") == 108).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("levels", [0.3, 1.0, 2.6, 8.0])
def test_files_stay_in_the_ball_and_near_the_inputs(tmp_path, norm, levels):
    clean = (255 * rand(6, 1, 5, 5, dtype=torch.float32)).round() / 255
    eps = levels / 255 * (1 if norm == "linf" else 5)
    change = (rand(6, 1, 5, 5, seed=1, dtype=torch.float32) - 0.5).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    x = (clean + eps * (change / size[:, None]).reshape(clean.shape)).clamp(0, 1)
    found = attacked(clean, 0.9, eps, norm)
    object.__setattr__(found, "x", x)
    lo.save_png(tmp_path, found, brighter(0.9), verify=False)
    files = torch.stack([torch.from_numpy(pixels(tmp_path / f"{at:04d}.png")) for at in range(6)])[:, None] / 255
    left = (files - clean).flatten(1)
    assert ((left.abs().amax(1) if norm == "linf" else left.norm(dim=1)) <= eps + 2e-6).all()
    assert (files - x).abs().max() < 1 / 255
    plain = (255 * x).round() / 255 - clean
    inside = (plain.abs().flatten(1).amax(1) if norm == "linf" else plain.flatten(1).norm(dim=1)) <= eps
    assert torch.equal(files[inside], ((255 * x).round() / 255)[inside])  # nothing else where plain rounding will do


def test_a_clean_image_between_bytes_may_have_no_file_in_its_ball(tmp_path):
    x = torch.full((1, 1, 2, 2), 100.5 / 255)
    found = attacked(x, 100.6 / 255, 0.3 / 255)
    with pytest.warns(lo.AttackWarning, match="1 of the 1"):
        still = lo.save_png(tmp_path, found, brighter(0.0))  # which any file would fool
    assert still is not None
    assert not still.any()


def test_0_and_255_are_the_ends_of_the_models_range(tmp_path):
    model = lo.Classifier(torch.nn.Flatten(), input_range=(-1.0, 1.0))
    x = torch.tensor([[[[-1.0, 0.2]]]])
    found = lo.attack(model, x, torch.tensor([1]), 0.8, optimizer="pgd", steps=20)
    assert found.success.all()
    still = lo.save_png(tmp_path, found, model)
    assert still is not None
    assert still.all()
    expected = (255 * (found.x + 1) / 2).flatten()
    assert np.abs(pixels(tmp_path / "0000.png").ravel() - expected.numpy()).max() <= 1


def test_wrong_names_and_shapes_are_refused_and_no_file_is_overwritten(tmp_path):
    found = attacked(torch.full((2, 1, 2, 2), 0.5), 0.6, 0.2)
    for second in ([], ["a.png"], ["../b.png"], ["b.gif"]):
        with refuses("names"):
            lo.save_png(tmp_path / "o", found, brighter(0.6), names=["a.png", *second])
    with refuses("adversarial"):
        lo.save_png(tmp_path / "o", attacked(torch.full((2, 5), 0.5), 0.6, 0.2), brighter(0.6))
    (tmp_path / "0001.png").write_text("mine")
    for folder, name in ((tmp_path, str(tmp_path / "0001.png")), (tmp_path / "0001.png", "folder")):
        with refuses(name):
            lo.save_png(folder, found, brighter(0.6))
    assert contents(tmp_path) == {"0001.png": b"mine"}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_files_of_the_smallest_radius_are_a_success_less_than_a_byte_away(tmp_path, norm, low):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    model, width = lo.Classifier(net, input_range=(low, 1.0)), 1.0 - low
    clean = low + width * (255 * rand(8, 1, 4, 4, dtype=torch.float32)).round() / 255
    found = lo.minimum_norm(model, clean, model(clean).argmax(1), norm=norm, search_steps=3, steps=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still = lo.save_png(tmp_path, found, model)
    assert found.success.all()
    assert still is not None
    assert still.all()
    files = torch.stack([torch.from_numpy(pixels(path)) for path in sorted(tmp_path.iterdir())])[:, None]
    assert ((files - 255 * (found.x - low) / width).abs() < 1).all()
