from __future__ import annotations

import gzip
import hashlib
import pickle
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from files import blobs, halves, idx, write_mnist
from local_data import local_data
from nets import refuses
from sklearn.datasets import load_digits

import latentopt as lo
from latentopt.errors import InputError
from latentopt.zoo.data import ImageData, LabelledData, augment
from latentopt.zoo.datasets import load_labelled, names, open_dataset, read_idx
from latentopt.zoo.paths import cache_root, data_root, shipped_folder


def test_digits_are_scikit_learns():
    images = open_dataset("digits")
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    pixels, _ = load_digits(return_X_y=True)
    assert np.array_equal(images.reshape(1797, 64) * 16, pixels)


@pytest.mark.parametrize("shape", [(5, 28, 28), (7,), (2, 3)])
def test_an_idx_file_is_read_as_it_was_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(read_idx(path), array)


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(gzip.compress(WHOLE)[:-12], id="truncated gzip"),
        pytest.param(gzip.compress(WHOLE)[:10] + b"\xff" + gzip.compress(WHOLE)[11:], id="corrupt gzip"),
        pytest.param(gzip.compress(WHOLE[:-1]), id="too few values"),
        pytest.param(gzip.compress(WHOLE + b"\x00"), id="too many values"),
        pytest.param(gzip.compress(WHOLE[:9]), id="truncated header"),
        pytest.param(gzip.compress(WHOLE[:3]), id="no header"),
        pytest.param(gzip.compress(b""), id="empty"),
        pytest.param(gzip.compress(b"\x00\x00\x0d" + WHOLE[3:]), id="floats"),
        pytest.param(WHOLE, id="not compressed"),
        pytest.param(b"", id="no bytes"),
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path, content):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with refuses(str(path)):
        read_idx(path)


def test_the_environment_says_where_data_are_unless_the_caller_does(tmp_path, monkeypatch):
    (tmp_path / "here" / "mnist").mkdir(parents=True)
    write_mnist(tmp_path / "here" / "mnist", test=3)
    write_mnist(tmp_path, test=5)
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "here"))
    assert len(open_dataset("mnist")) == 3
    assert len(open_dataset("mnist", str(tmp_path))) == 5


def test_without_the_environment_data_and_cache_are_in_the_users_folders(tmp_path, monkeypatch):
    for name in ("LATENTOPT_DATA", "LATENTOPT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root().name == cache_root().name == "latentopt"
    if sys.platform == "linux":
        assert (data_root(), cache_root()) == (tmp_path / "data/latentopt", tmp_path / "cache/latentopt")


def write_torchvision_mnist(root: Path, name: str = "MNIST") -> Path:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for split, count, seed in (("train", 6, 0), ("t10k", 3, 1)):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(blobs(count, seed)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(halves(blobs(count, seed))))
    return root


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_torchvisions_layout_is_read_through_torchvision(tmp_path, name, folder):
    write_torchvision_mnist(tmp_path, folder)
    for split, expected in (("test", blobs(3, seed=1)), ("train", blobs(6, seed=0))):
        dataset = open_dataset(name, str(tmp_path), split)
        assert np.array_equal(np.stack([np.asarray(dataset[i]) for i in range(len(dataset))]), expected)
        images, labels = load_labelled(name, str(tmp_path), split, limit=2)
        assert np.array_equal(255 * images[:, 0], expected[:2])
        assert np.array_equal(labels, halves(expected)[:2])


def test_a_colour_data_set_of_torchvision_is_read_by_name(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({"data": images.reshape(4, -1), "labels": [0] * 4}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["thing"]}))
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    dataset = open_dataset("cifar10", str(tmp_path))
    assert len(dataset) == 4
    assert np.array_equal(np.asarray(dataset[3]), images[3].transpose(1, 2, 0))


def test_the_known_names_are_digits_and_torchvisions():
    assert names()[0] == "digits"
    assert {"MNIST", "FashionMNIST", "CIFAR10", "CelebA"} <= set(names())


@pytest.mark.parametrize("name", ["nonsense", "cifar11", "", "wrap_dataset_for_transforms_v2"])
def test_an_unknown_name_is_refused(tmp_path, name):
    with refuses("data set"):
        open_dataset(name, str(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "CIFAR10", "Food101", "SVHN", "ImageNet", "CocoDetection", "EMNIST"])
def test_data_that_are_not_there_are_refused_in_one_line(tmp_path, name):
    with pytest.raises(InputError) as caught:
        open_dataset(name, str(tmp_path / "nowhere"))
    assert caught.value.name == f"data set {name}"
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


def test_image_data_gives_shuffled_batches_of_images_in_zero_one(tmp_path):
    data = ImageData("mnist", str(write_mnist(tmp_path, train=20)), batch_size=8)
    torch.manual_seed(0)
    batches = [batch[0] for batch in data.train_dataloader()]
    assert [tuple(batch.shape) for batch in batches] == [(8, 1, 28, 28)] * 2  # the last 4 are left out
    seen = {image.numpy().tobytes() for image in torch.cat(batches)}
    all_images = [image.numpy().tobytes() for image in torch.tensor(blobs(20, seed=0))[:, None] / 255]
    assert len(seen) == 16
    assert seen < set(all_images)
    assert [image.numpy().tobytes() for image in torch.cat(batches)] != all_images[:16]


def test_image_data_limits_and_takes_floats_as_they_are():
    assert torch.equal(ImageData("digits").images("test", 5)[:, 0], torch.tensor(open_dataset("digits")[:5]))


def test_labels_of_digits_and_mnist_are_read_with_their_images(tmp_path):
    images, labels = load_labelled("digits")
    assert images.shape == (1797, 1, 8, 8)
    assert np.array_equal(labels, load_digits(return_X_y=True)[1])
    write_mnist(tmp_path, train=6, test=3)
    assert np.array_equal(open_dataset("mnist", str(tmp_path)), blobs(3, seed=1))
    for split, expected in (("test", blobs(3, seed=1)), ("train", blobs(6, seed=0))):
        assert np.array_equal(open_dataset("MNIST", str(tmp_path), split), expected)
        images, labels = load_labelled("mnist", str(tmp_path), split)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.long)
        assert torch.equal(images, torch.tensor(expected)[:, None] / 255)
        assert np.array_equal(labels, halves(expected))


def write_cifar10(folder: Path, images: np.ndarray, labels: list[Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"images": images} | ({} if labels is None else {"labels": np.array(labels)})
    np.savez(folder / "cifar10_train_first4.npz", **arrays)
    return folder


COLOURS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("under", ["", "cifar10"])
def test_cifar10_is_read_from_npz_files(tmp_path, under):
    write_cifar10(tmp_path / under, COLOURS, [3, 0, 9, 1])
    assert np.array_equal(open_dataset("CIFAR10", str(tmp_path), "train"), COLOURS)
    images, labels = load_labelled("cifar10", str(tmp_path), "train", limit=3)
    assert torch.equal(images, torch.tensor(COLOURS[:3]).permute(0, 3, 1, 2) / 255)
    assert labels.tolist() == [3, 0, 9]
    with refuses("data set cifar10"):
        load_labelled("cifar10", str(tmp_path), "test")


def test_a_broken_npz_file_and_one_without_labels_are_refused(tmp_path):
    path = write_cifar10(tmp_path, COLOURS) / "cifar10_train_first4.npz"
    with refuses(str(path)):
        load_labelled("cifar10", str(tmp_path), "train")
    path.write_bytes(path.read_bytes()[:-40])
    with refuses(str(path)):
        open_dataset("cifar10", str(tmp_path), "train")


@pytest.mark.parametrize("labels", [[0.5] * 4, [0, 1, 2], [[0], [1], [2], [3]], [0, 1, 2, -1], list("abcd")])
def test_labels_that_are_no_classes_are_refused(tmp_path, labels):
    write_cifar10(tmp_path, COLOURS, labels)
    with refuses("data set cifar10"):
        load_labelled("cifar10", str(tmp_path), "train")


def test_images_without_labels_are_still_images(tmp_path):
    labels = write_mnist(tmp_path, test=3) / "t10k-labels-idx1-ubyte.gz"
    labels.unlink()
    assert len(open_dataset("mnist", str(tmp_path))) == 3
    with refuses(str(labels)):
        load_labelled("mnist", str(tmp_path))


def test_labelled_data_keeps_the_last_images_for_validation(tmp_path):
    data = LabelledData("mnist", str(write_mnist(tmp_path, train=20)), batch_size=8, validation=3)
    images, labels = data.load("train")
    torch.manual_seed(0)
    batches = list(data.train_dataloader())
    assert [len(batch[0]) for batch in batches] == [8, 8]  # the 17th is left out
    known = {image.numpy().tobytes(): label for image, label in zip(images[:17], labels, strict=False)}
    assert all(known[x.numpy().tobytes()] == y for batch in batches for x, y in zip(*batch, strict=True))
    (kept,) = data.val_dataloader()
    assert torch.equal(kept[0], images[17:])
    assert torch.equal(kept[1], labels[17:])


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (LabelledData, "validation", 0),
        (LabelledData, "shift", 0.5),
        (LabelledData, "batch_size", 0),
        (ImageData, "batch_size", 0),
        (partial(open_dataset, "digits"), "split", "validation"),
    ],
)
def test_wrong_settings_are_refused(function, name, value):
    with refuses(name):
        function(**{name: value})


def test_images_are_mirrored_and_moved_each_for_itself_and_else_unchanged():
    image = torch.rand(1, 2, 5, 6)
    torch.manual_seed(0)
    assert augment(image, False, 0) is image
    mirrored = augment(image.expand(64, -1, -1, -1), True, 0)
    kept = [torch.equal(one, image[0]) for one in mirrored]
    assert 16 < sum(kept) < 48
    assert all(same or torch.equal(one, image[0].flip(-1)) for one, same in zip(mirrored, kept, strict=True))
    moved = augment(image.expand(256, -1, -1, -1), False, 1)
    around = torch.zeros(2, 7, 8)
    around[:, 1:-1, 1:-1] = image[0]
    allowed = {around[:, y : y + 5, x : x + 6].numpy().tobytes() for y in range(3) for x in range(3)}
    assert {one.numpy().tobytes() for one in moved} == allowed


def test_a_broken_file_of_a_data_set_is_one_line(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, kind in product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        (raw / f"{split}-{kind}-ubyte").write_bytes(b"xx")
    with refuses("data set fashionmnist", str(tmp_path)):
        open_dataset("fashionmnist", str(tmp_path))


def test_the_first_test_images_of_mnist_ship(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path))
    images, labels = load_labelled("mnist", limit=500)
    assert images.shape == (500, 1, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert lo.load("mnist-cnn")(images[:100]).argmax(1).eq(labels[:100]).float().mean() > 0.97
    others: list[dict[str, Any]] = [{"limit": 501}, {}, {"split": "train", "limit": 5}]
    for more in (*others, {"root": str(tmp_path), "limit": 5}):
        with refuses("data set mnist"):
            load_labelled("mnist", **more)
    assert list(tmp_path.iterdir()) == []


def test_the_images_that_ship_are_those_of_the_whole_data_set():
    whole = local_data("mnist")
    shipped = shipped_folder("data") / "mnist"
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert np.array_equal(read_idx(shipped / name), read_idx(whole / name)[:500])
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 150_000
