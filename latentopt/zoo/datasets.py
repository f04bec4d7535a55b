"""Image data sets with their labels: scikit-learn's digits, those of torchvision, and folders with class subfolders."""

from __future__ import annotations

import gzip
import inspect
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentopt.errors import InputError, in_one_line, with_nearest
from latentopt.files import image_array, is_file, is_folder, read_array, require_file
from latentopt.zoo.fitting import Fit, fit_to_shape
from latentopt.zoo.image_folders import is_in_part, open_folder
from latentopt.zoo.paths import data_root, shipped_folder

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["images", "labels"]
SHIPPED = 500
"""Number of MNIST's test images that ship, the first ones."""
SPLITS = {"train": ("train", "trainval", "train-standard"), "test": ("test", "val", "valid")}
"""Names of the parts of torchvision's data sets, the first that a set has."""
LOCAL = ("digits", "mnist", "cifar10")
"""Data sets that are read here, without torchvision."""


def open_dataset(
    name: str, root: str | None = None, split: str = "test", download: bool = False, limit: int | None = None
) -> Any:
    """A data set by name: something with a length, whose items are arrays or PIL images.

    Args:
        name: ``digits`` (8x8 handwriting that scikit-learn ships, (N, 8, 8) float32 in [0, 1], the same in both
            splits); the name of a torchvision data set, in any case (``mnist``, ``FashionMNIST``, ``CIFAR10``); or a
            folder (`latentopt.zoo.image_folders.open_folder`), which ``ImageFolder`` with a ``root`` names too.
        root: torchvision's ``root``. MNIST is also read from a folder that holds the four gzipped idx files, CIFAR10
            from one that holds ``cifar10_train*.npz`` and ``cifar10_test*.npz`` (``images`` (N, 32, 32, 3) bytes and
            ``labels``), whole or a part of it. Default: the environment variable LATENTOPT_DATA.
        split: ``train`` or ``test``. Of a torchvision data set without a test part that is ``val`` or ``valid``; of one
            without parts every fifth image.
        download: fetch what is not there, where torchvision can.
        limit: number of images that are needed, the first ones: MNIST's first 500 test images ship.

    Raises:
        InputError: unknown name or split, or the data are not there.
    """
    return _open("images", name, root, split, download, limit)


def load_labelled(
    name: str,
    root: str | None = None,
    split: str = "test",
    limit: int | None = None,
    download: bool = False,
    shape: Sequence[int] | None = None,
    fit: Fit = "crop",
) -> tuple[Tensor, Tensor]:
    """Read the first ``limit`` images (N, C, H, W), float32 in [0, 1], and their classes (N,), long, from 0.

    Args:
        name, root, split, download: as in `open_dataset`.
        limit: default all.
        shape, fit: as in `as_images`.

    Raises:
        InputError: as `open_dataset`; or the labels are not there, or are not one whole number >= 0 an image.

    >>> images, labels = load_labelled("digits", limit=3)
    >>> images.shape, labels
    (torch.Size([3, 1, 8, 8]), tensor([0, 1, 2]))
    """
    import torch

    images = as_images(_open("images", name, root, split, download, limit), limit, shape, fit)
    source = _open("labels", name, root, split, download, limit)
    labels = np.asarray([source[index] for index in range(len(source))][:limit])
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        got = f"{labels.dtype} of shape {labels.shape} for {len(images)} images"
        raise InputError(f"data set {name}", "one whole number >= 0 for each image, its class", got)
    return images, torch.tensor(labels, dtype=torch.long)


def as_images(
    source: Sequence[Any] | NDArray[Any],
    limit: int | None = None,
    shape: Sequence[int] | None = None,
    fit: Fit = "crop",
) -> Tensor:
    """Return the first ``limit`` items of a data set as images (N, C, H, W), float32; bytes are divided by 255.

    Images of Pillow are read as `latentopt.files.read_image` reads those of files.

    Args:
        source: the data set.
        limit: default all.
        shape: (C, H, W) that each image is fitted to; None: all have one shape.
        fit: as in `latentopt.zoo.fitting.resize_image`.

    Raises:
        InputError: they differ in shape.
    """
    import torch

    count = len(source) if limit is None else min(limit, len(source))
    if shape is not None:
        return torch.cat([_fitted(source, at, tuple(shape), fit) for at in range(count)])
    array = source[:count] if isinstance(source, np.ndarray) else [image_array(source[i]) for i in range(count)]
    if len(shapes := {image.shape for image in array}) > 1:
        raise InputError("data set", "images of one shape", sorted(shapes))
    images = torch.tensor(np.asarray(array))
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images / 255 if images.dtype == torch.uint8 else images


def _fitted(source: Any, at: int, shape: tuple[int, ...], fit: Fit) -> Tensor:
    return fit_to_shape(as_images([source[at]])[0], shape, fit)[None]


def _open(part: Part, name: str, root: str | None, split: str, download: bool, limit: int | None) -> Any:
    """Open the images or the labels of a data set, as `open_dataset` describes them."""
    if split not in ("train", "test"):
        raise InputError("split", "train or test", repr(split))
    folder = Path(root) if root else data_root()
    if is_folder_name(name) or name.lower() == "imagefolder":
        source = open_folder(folder if name.lower() == "imagefolder" else Path(name), split)
        return source.labels if part == "labels" else source
    match name.lower():
        case "digits":
            from sklearn.datasets import load_digits

            pixels, labels = load_digits(return_X_y=True)
            return labels if part == "labels" else pixels.reshape(-1, 8, 8).astype(np.float32) / 16
        case "mnist":
            kind = "t10k" if split == "test" else "train"
            images, labels = f"{kind}-images-idx3-ubyte.gz", f"{kind}-labels-idx1-ubyte.gz"
            shipped = [shipped_folder("data") / "mnist"] if _ships(name, root, split, download, limit) else []
            for place in (folder, folder / "mnist", *shipped):
                if is_file(place / images):
                    return read_idx(place / (labels if part == "labels" else images))
        case "cifar10":
            for place in (folder, folder / "cifar10"):
                for path in sorted(place.glob(f"cifar10_{split}*.npz")):
                    return read_array(path, part, strict=True)
    return _torchvision(part, name, folder, split, download)


def is_folder_name(name: str) -> bool:
    """Return whether a data set is named by its folder; the names that are known here come first."""
    return name.lower() not in ("", *LOCAL) and is_folder(name)


def _ships(name: str, root: str | None, split: str, download: bool, limit: int | None) -> bool:
    """Return whether the images that ship are enough, and neither a folder nor a download is asked for."""
    enough = name.lower() == "mnist" and split == "test" and limit is not None and limit <= SHIPPED
    return enough and root is None and not download and not is_folder(data_root() / "MNIST")


def check_dataset(
    name: str, root: str | None = None, split: str = "test", download: bool = False, limit: int | None = None
) -> None:
    """Raise `InputError` where `open_dataset` would, reading no more than file names where these tell.

    Sets that only torchvision reads are opened.
    """
    folder, known = Path(root) if root else data_root(), name.lower()
    if root is not None and (known == "digits" or not root):
        raise InputError("root", "none, as digits ship" if root else "a folder", repr(root))
    files = {
        "mnist": f"{'t10k' if split == 'test' else 'train'}-images-idx3-ubyte.gz",
        "cifar10": f"cifar10_{split}*.npz",
    }
    places = (folder, folder / known)
    local = known in files and any(any(place.glob(files[known])) for place in places)
    available = download or known == "digits" or local or _ships(name, root, split, download, limit)
    if split not in ("train", "test") or not available:
        open_dataset(name, root, split, download, limit)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes (the format of MNIST).

    Raises:
        InputError: the file has another format or is truncated.
    """
    try:
        with gzip.open(require_file(path)) as file:
            head = file.read(4)
            sizes = file.read(4 * head[3]) if head[:3] == b"\x00\x00\x08" and len(head) == 4 else b""
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            content = file.read(prod(shape) + 1) if sizes else b""  # no more: a small file may hold gigabytes
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(str(path), "a gzipped idx file", str(error)) from error
    if not sizes or len(sizes) < 4 * head[3]:
        raise InputError(str(path), "an idx file of bytes", f"one that starts with {head + sizes[:12]!r}")
    if len(content) != prod(shape):
        raise InputError(
            str(path), f"{prod(shape)} values", "more" if len(content) > prod(shape) else f"{len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


class _ItemParts:
    """The images (0) or the labels (1) of a torchvision data set."""

    def __init__(self, dataset: Any, part: int) -> None:
        self.dataset, self.part = dataset, part

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.part]


def names() -> list[str]:
    """Return the names of the data sets that `open_dataset` reads."""
    from torchvision import datasets

    return ["digits", *sorted(name for name in datasets.__all__ if name[0].isupper())]


def _split_of(kind: Any, arguments: Mapping[str, Any], options: dict[str, Any], split: str) -> Any:
    """Open the part of a torchvision data set, whatever it calls its parts."""
    if kind.__name__ == "EMNIST":
        return kind(**options, split="balanced", train=split == "train")
    for name in ("train", "background"):  # the latter of Omniglot
        if name in arguments:
            return kind(**options, **{name: split == "train"})
    if "split" not in arguments:
        from torch.utils.data import Subset

        dataset = kind(**options)
        return Subset(dataset, [i for i in range(len(dataset)) if is_in_part(i, split)])
    *others, last = SPLITS[split]
    for name in others:
        with suppress(ValueError):  # it has none of this name
            return kind(**options, split=name)
    return kind(**options, split=last)


def _torchvision(part: Part, name: str, root: Path, split: str, download: bool) -> _ItemParts:
    from torchvision import datasets

    kinds = {known.lower(): getattr(datasets, known) for known in names()[1:]}
    if name.lower() not in kinds:
        raise InputError("data set", "digits, a torchvision data set, or a folder", with_nearest(name, names()))
    kind = kinds[name.lower()]
    arguments = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {"root": str(root)} if "root" in arguments else {}
    if download and "download" in arguments:
        options["download"] = True
        if part == "images":
            print(f"latentopt: data set {name}: downloaded to {root} where it is not there", file=sys.stderr)
    try:
        return _ItemParts(_split_of(kind, arguments, options, split), 1 if part == "labels" else 0)
    except Exception as error:  # whatever a broken file does
        reason = in_one_line(error)[:200]
        where = f"its files under {root}, or --download true"
        where += f" (--limit {SHIPPED} or less needs neither)" if name.lower() == "mnist" and split == "test" else ""
        raise InputError(f"data set {name}", where, reason.split(". You can use download")[0]) from error
