"""Images with labels, as people keep them: folders of classes, lists, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from files import call, change_card, refused, table, write_classifier, write_png
from nets import refuses
from safetensors.torch import save_file
from torch import nn

import latentopt as lo
from latentopt.jobs.labelled_images import open_labelled

NAMES = ["cat", "golden retriever", "tench"]


def classifier(count: int = 3, names: list[str] | None = NAMES) -> lo.Classifier:
    return lo.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, count)), input_shape=(1, 4, 4), classes=names)


def write(folder: Path, *names: str, side: int = 4) -> Path:
    for grey, name in enumerate(names):
        write_png(folder / name, np.full((side, side), grey, np.uint8))
    return folder


FOLDERS = {
    "names of classes": (["tench/1.png", "cat/1.png", "cat/2.png"], classifier(), [0, 2, 0]),
    "names in another spelling": (["Golden_Retriever/a.png", "Cat/a.png"], classifier(), [0, 1]),
    "nested": (["cat/old/1.png", "tench/new/deep/1.png"], classifier(), [0, 2]),
    "as many as classes": (["a/1.png", "b/1.png", "c/1.png"], classifier(), [0, 1, 2]),
    "classes without names": (["a/1.png", "c/1.png", "b/1.png"], classifier(names=None), [0, 1, 2]),
    "numbers": (["2/1.png", "0/1.png"], classifier(names=None), [0, 2]),
    "no classifier": (["b/1.png", "a/1.png"], None, [0, 1]),
}


@pytest.mark.parametrize(("names", "network", "labels"), FOLDERS.values(), ids=FOLDERS.keys())
def test_subfolders_are_classes(tmp_path, names, network, labels):
    read = open_labelled(str(write(tmp_path, *names)), classifier=network)
    assert read.labels.tolist() == labels
    assert sorted(read.names) == sorted(names)
    greys = [round(image.mean().item() * 255) for image in read.images]
    assert [names[grey] for grey in greys] == read.names


def test_a_limit_takes_images_of_each_class_in_turn(tmp_path):
    folder = write(tmp_path, *(f"{name}/{i}.png" for name in ("cat", "tench") for i in range(3)))
    assert open_labelled(str(folder), limit=4, classifier=classifier()).labels.tolist() == [0, 2, 0, 2]


def test_links_are_followed_once_and_a_test_part_is_taken(tmp_path):
    folder = write(tmp_path / "data", "train/cat/1.png", "train/tench/1.png", "test/cat/2.png")
    write(tmp_path / "elsewhere", "3.png")
    (folder / "test" / "tench").symlink_to(tmp_path / "elsewhere")
    (folder / "test" / "cat" / "loop").symlink_to(folder / "test")
    read = open_labelled(str(folder), classifier=classifier())
    assert (read.names, read.labels.tolist()) == (["cat/2.png", "tench/3.png"], [0, 2])


@pytest.mark.parametrize("listed", ["folder", "file"])
@pytest.mark.parametrize("heading", ["", "file,label\n"])
def test_a_list_has_the_labels(tmp_path, listed, heading):
    write(tmp_path, "x/a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text(f"{heading}x/a.png,tench\nc.png, 1\nb.png,Golden Retriever\n")
    read = open_labelled(str(tmp_path if listed == "folder" else tmp_path / "labels.csv"), classifier=classifier())
    assert (read.labels.tolist(), read.names) == ([2, 1, 1], ["x/a.png", "c.png", "b.png"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_an_array_file_has_images_and_labels(tmp_path, suffix):
    images, labels, path = torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1]), tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, images=images.numpy(), labels=labels.numpy())
    else:
        (save_file if suffix == ".safetensors" else torch.save)({"images": images, "labels": labels}, path)
    read = open_labelled(str(path))
    assert torch.equal(read.images, images)
    assert torch.equal(read.labels, labels)


WRONG = {
    "a folder that is no class": (["cat/1.png", "dog/1.png"], "dog in"),
    "another number of folders": (["a/1.png", "b/1.png"], "model's 3 classes (cat, golden retriever, tench, ...)"),
    "numbers out of order": (["1/1.png", "10/1.png", "2/1.png"], "as 00, 01"),
    "no subfolder": (["1.png"], "labels.csv"),
}


@pytest.mark.parametrize(("names", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_folder_that_is_no_data_set_is_told(tmp_path, names, words):
    with refuses("data", words):
        open_labelled(str(write(tmp_path, *names)), classifier=classifier())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("broken.png,1\n", "known image format"),
        ("a.png\n", "['a.png']"),
        ("", "nothing"),
        ("a.png,1,2\n", "'2'"),
        ("none.png,1\n", "no file"),
        (b"\xff\xfe", ""),
    ],
)
def test_a_list_that_is_none_is_told(tmp_path, text, words):
    write(tmp_path, "a.png").joinpath("broken.png").write_text("no image")
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(lo.InputError) as caught:
        open_labelled(str(tmp_path), classifier=classifier())
    assert words in str(caught.value)


def test_a_job_attacks_a_folder_of_classes(tmp_path, capsys):
    """Sizes are changed only where that is asked for."""
    change_card(write_classifier(tmp_path / "model"), classes=[f"digit {i}" for i in range(10)])
    folder = write(tmp_path / "data", "digit_3/a.png", "digit 1/b.png", "digit 3/c.png", side=12)
    command = ["attack", "--model", tmp_path / "model", "--data", folder, "--eps", "0.1", "--steps", "2"]
    command += ["--optimizer", "pgd", "--wandb", "disabled", "--device", "cpu", "--out", tmp_path / "out"]
    assert "--resize" in refused(capsys, *command)
    assert not (tmp_path / "out").exists()
    assert call(capsys, *command, "--resize").code == 0
    assert sorted(row["label"] for row in table(tmp_path / "out")) == ["1", "3", "3"]
