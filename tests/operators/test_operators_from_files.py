"""Masks and kernels of files: in Python, on the command line and in recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import call, refused, table, write_model, write_png
from nets import near, refuses
from PIL import Image
from safetensors.torch import save_file

import latentopt as lo
from latentopt.operators import Compose, KernelBlur, Mask
from latentopt.zoo import cards

LEFT = np.repeat(np.array([[1, 1, 0, 0]], np.uint8), 4, 0)
KERNEL = np.array([[0, 0, 0], [0, 3, 1], [0, 0, 0]])
IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def write_mask(path: Path, mask: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".npy":
            np.save(path, mask)
        case ".npz":
            np.savez(path, other=mask, mask=mask)
        case ".safetensors":
            save_file({"mask": torch.tensor(mask).float()}, path)
        case ".pt":
            torch.save(torch.tensor(mask).bool(), path)
        case _:
            write_png(path, 255 * mask)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.npy", "a.npz", "a.safetensors", "a.pt"])
def test_a_mask_of_a_file(tmp_path, name):
    expected = IMAGES * torch.tensor(LEFT)
    mask = 255 * LEFT if name.endswith(("npy", "npz")) else LEFT
    path = write_mask(tmp_path / name, mask if name.endswith(("npy", "npz")) else LEFT)
    assert torch.equal(Mask(str(path))(IMAGES), expected)
    assert torch.equal(Mask(path).take(torch.tensor([1]))(IMAGES[1:]), expected[1:])
    assert torch.equal(Mask(LEFT.tolist())(IMAGES), expected)


def test_a_folder_has_a_mask_for_each_image(tmp_path):
    for name, mask in (("b.png", 1 - LEFT), ("a.png", LEFT)):
        write_mask(tmp_path / name, mask)
    expected = IMAGES * torch.tensor(np.stack([LEFT, 1 - LEFT])[:, None])
    assert torch.equal(Mask(tmp_path)(IMAGES), expected)
    assert torch.equal(Compose([Mask(tmp_path)]).take(torch.tensor([1]))(IMAGES[1:]), expected[1:])


def test_a_coloured_mask_is_one_of_each_channel(tmp_path):
    colours = np.stack([LEFT, 1 - LEFT, LEFT], 2)
    write_png(tmp_path / "a.png", 255 * colours)
    images = IMAGES.expand(-1, 3, -1, -1)
    assert torch.equal(Mask(tmp_path / "a.png")(images), images * torch.tensor(colours).permute(2, 0, 1))


def broken(folder: Path) -> None:
    (folder / "text.png").write_text("no image")
    layer = Image.fromarray(255 * LEFT).convert("RGBA")
    layer.putalpha(Image.fromarray(255 * LEFT))
    layer.save(folder / "transparent.png")
    write_mask(folder / "black.png", 0 * LEFT)
    write_mask(folder / "mixed" / "a.png", LEFT)
    write_mask(folder / "mixed" / "b.png", LEFT[:2])
    np.save(folder / "large.npy", 2.0 * LEFT)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.png", "no file"),
        ("text.png", "no known image format"),
        ("transparent.png", "no transparency"),
        ("black.png", "all zeros"),
        ("mixed", "one shape"),
        ("large.npy", "from 0 to 2"),
    ],
)
def test_a_mask_that_cannot_be_used_is_told(tmp_path, name, words):
    broken(tmp_path)
    with refuses("mask" if name in ("black.png", "large.npy") else str(tmp_path / name), words):
        Mask(tmp_path / name)


def test_a_kernel_is_a_convolution_with_mirrored_borders(tmp_path):
    np.save(tmp_path / "k.npy", KERNEL)
    for blur in (KernelBlur(KERNEL), KernelBlur(KERNEL.tolist()), KernelBlur(tmp_path / "k.npy")):
        shifted = torch.cat([IMAGES[..., 1:2], IMAGES[..., :-1]], -1)
        near(blur(IMAGES), 0.75 * IMAGES + 0.25 * shifted, 1e-6)
    write_png(tmp_path / "k.png", (85 * KERNEL).astype(np.uint8))
    near(KernelBlur(tmp_path / "k.png")(IMAGES), KernelBlur(KERNEL)(IMAGES), 1e-6)


@pytest.mark.parametrize(
    "kernel", [np.zeros((3, 3)), -KERNEL, np.ones((2, 3)), np.ones((3, 3, 3, 3)), np.full((1, 1), np.nan)]
)
def test_a_wrong_kernel_is_refused(kernel):
    with refuses("kernel"):
        KernelBlur(kernel)
    with refuses("kernel"):
        KernelBlur(np.ones((9, 1)))(IMAGES)


def test_a_job_inpaints_with_a_mask_for_each_target(tmp_path, capsys, monkeypatch):
    """Its recipe has the path, and other masks are another job."""
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "tiny")
    for name, mask in (("a", LEFT), ("b", 1 - LEFT)):
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
        write_png(tmp_path / "targets" / f"{name}.png", (255 * LEFT))
    command = ["reconstruct", "--model", model, "--targets", "targets", "--steps", "1", "--restarts", "1"]
    command += ["--start", "random", "--wandb", "disabled", "--device", "cpu", "--operator", "mask", "--out", "each"]
    assert "no file" in refused(capsys, *command, "--operator.mask", "none.png", "--dry-run")
    assert call(capsys, *command, "--operator.mask", "masks").code == 0
    found = lo.reconstruct(
        cards.load_generator(model),
        lo.load_images("targets"),
        operator=Mask("masks"),
        start="random",
        steps=1,
        restarts=1,
    )
    assert [float(row["loss"]) for row in table(tmp_path / "each")] == pytest.approx(found.value.tolist(), rel=1e-4)
    operator = yaml.safe_load((tmp_path / "each" / "recipe.yaml").read_text())["operator"]
    assert operator == {"class_path": "latentopt.operators.Mask", "init_args": {"mask": "masks"}}
    write_mask(tmp_path / "masks" / "a.png", 1 - LEFT)
    assert "operator_held" in refused(capsys, *command, "--operator.mask", "masks")
