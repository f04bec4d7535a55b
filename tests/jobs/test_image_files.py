"""Jobs write each reconstruction and each adversarial image as a file that has the name of its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from files import QUICK, call, table, write_classifier, write_model
from PIL import Image
from safetensors.torch import load_file

from latentopt.jobs.image_files import file_names
from latentopt.zoo import cards


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def draw(folder: Path, names: list[str], side: int) -> Path:
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a.png", "b.jpg"], ["a.png", "b.png"]),
        (["cats/1.png", "dogs/1.png"], ["cats_1.png", "dogs_1.png"]),
        (["a.png", "a.jpg", "A.bmp"], ["a.png", "a-1.png", "A-2.png"]),
        (["../../etc", "/x", "..", ""], ["etc.png", "x.png", "image.png", "image-3.png"]),
        (["a\x1b b", "é.png"], ["a_b.png", "é.png"]),
        (["a" * 300], ["a" * 100 + ".png"]),
        (["digits-0.5", "v1.2"], ["digits-0.5.png", "v1.2.png"]),
    ],
)
def test_file_names_are_safe_and_differ(names, files):
    assert file_names(names) == files


def test_reconstructions_are_files_also_of_a_job_that_was_done_without(tmp_path, capsys):
    model, targets = write_model(tmp_path / "m"), draw(tmp_path / "t", ["one.png", "two.png", "x/three.png"], 8)
    words = ["reconstruct", "--model", model, "--targets", targets, *QUICK, "--start", "random", "--batch-size", 2]
    words += ["--resize", "--out", tmp_path / "o"]
    assert call(capsys, *words).code == 0
    assert not (tmp_path / "o/images").exists()
    before = (tmp_path / "o/results.csv").read_bytes()
    said = call(capsys, *words, "--save-images")
    assert said.code == 0
    assert str(tmp_path / "o/images") in said.out
    assert (tmp_path / "o/results.csv").read_bytes() == before
    rows, array = table(tmp_path / "o"), np.load(tmp_path / "o/images.npy")
    files = [tmp_path / "o/images" / name for name in file_names([row["name"] for row in rows])]
    assert sorted(files) == sorted((tmp_path / "o/images").iterdir())
    generator = cards.load_generator(str(model))
    latents = load_file(tmp_path / "o/latents.safetensors")["latents"]
    images = generator(latents).detach()  # as the guide has it
    assert array.shape == images.shape
    assert array == pytest.approx(images.numpy(), abs=1e-6)
    for file, image in zip(files, images, strict=True):
        wanted = (255 * image.clamp(0, 1)).numpy().squeeze()
        shown = pixels(file) if image.shape[0] == 1 else pixels(file).transpose(2, 0, 1)
        assert np.abs(shown - wanted).max() <= 0.5 + 1e-3


def test_adversarial_images_are_files_in_the_ball(tmp_path, capsys):
    model = write_classifier(tmp_path / "m", hidden=12)
    data = draw(tmp_path / "d", [f"{label}/{name}.png" for label in range(10) for name in "ab"], 8)
    words = ["attack", "--model", model, "--data", data, "--eps", 0.05, "--optimizer", "pgd", "--steps", 5]
    words += ["--batch-size", 7, "--wandb", "disabled", "--device", "cpu", "--out", tmp_path / "o", "--save-images"]
    said = call(capsys, *words)
    assert said.code == 0, said.err
    rows = table(tmp_path / "o")
    names = [row["name"] for row in rows]
    assert sorted(names) == sorted(str(path.relative_to(data)) for path in data.rglob("*.png"))
    classifier = cards.load_classifier(str(model))
    lost = 0
    for row, file in zip(rows, file_names(names), strict=True):
        change = np.abs(pixels(tmp_path / "o/images" / file).astype(int) - pixels(data / row["name"]))
        assert change.max() <= 0.05 * 255
        shown = torch.from_numpy(pixels(tmp_path / "o/images" / file))[None, None] / 255
        still = int(classifier(shown).argmax(1)) != int(row["label"])
        lost += row["success"] == "True" and not still
    count = sum(row["success"] == "True" for row in rows)
    assert count > 5
    assert ("images: " in said.err) == (lost > 0)
    assert len(list((tmp_path / "o/images").iterdir())) == 20


def test_a_dry_run_writes_no_images(tmp_path, capsys):
    words = ["attack", "--model", write_classifier(tmp_path / "m"), "--data", "digits", "--eps", 0.1, "--save-images"]
    assert call(capsys, *words, "--dry-run", "--out", tmp_path / "o").code == 0
    assert not (tmp_path / "o").exists()
