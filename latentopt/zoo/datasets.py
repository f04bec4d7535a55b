"""Named image data sets: scikit-learn's digits, and every image data set of torchvision."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.errors import InputError
from latentopt.zoo.content import data_root


def open_dataset(name: str, root: str | None = None, split: str = "test", download: bool = False) -> Any:
    """A data set by name: something with a length, whose items are arrays or PIL images.

    Args:
        name: ``digits`` (8x8 handwriting that scikit-learn ships, (N, 8, 8) float32 in [0, 1]), or the name of a
            torchvision data set, in any case (``mnist``, ``FashionMNIST``, ``CIFAR10``).
        root: torchvision's ``root``. MNIST is also read from a folder that holds the four gzipped idx files. Default:
            the environment variable LATENTOPT_DATA.
        split: ``train`` or ``test``.
        download: fetch what is not there, where torchvision can.

    Raises:
        InputError: unknown name or split, or the data are not there.
    """
    if split not in ("train", "test"):
        raise InputError("split", "train or test", repr(split))
    if name.lower() == "digits":
        from sklearn.datasets import load_digits

        pixels, _ = load_digits(return_X_y=True)
        return pixels.reshape(-1, 8, 8).astype(np.float32) / 16
    folder = Path(root) if root else data_root()
    if name.lower() == "mnist":
        for place in (folder, folder / "mnist"):
            idx = place / f"{'t10k' if split == 'test' else 'train'}-images-idx3-ubyte.gz"
            if idx.is_file():
                return read_idx(idx)
    return _torchvision(name, folder, split, download)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in a gzipped idx file of bytes (the format of MNIST).

    Raises:
        InputError: not such a file, or a truncated one.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(str(path), "a gzipped idx file", str(error)) from error
    dimensions = content[3] if len(content) > 3 else 0
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * dimensions:
        raise InputError(str(path), "an idx file of bytes", f"one that starts with {content[:16]!r}")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4))
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if values.size != np.prod(shape):
        raise InputError(str(path), f"{np.prod(shape)} values", f"{values.size}")
    return values.reshape(shape)


class _Images:
    """The images of a torchvision data set, without the labels."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][0]


def names() -> list[str]:
    """Names of the data sets that `open_dataset` knows."""
    from torchvision import datasets

    return ["digits", *sorted(name for name in datasets.__all__ if name[0].isupper())]


def _torchvision(name: str, root: Path, split: str, download: bool) -> _Images:
    from torchvision import datasets

    kinds = {known.lower(): getattr(datasets, known) for known in names()[1:]}
    if name.lower() not in kinds:
        raise InputError("data set", "digits, or the name of a torchvision data set", repr(name))
    kind = kinds[name.lower()]
    wanted = kind.__init__.__code__.co_varnames
    options: dict[str, Any] = {"train": split == "train"} if "train" in wanted else {"split": split}
    if download and "download" in wanted:
        options["download"] = True
    try:
        return _Images(kind(str(root), **options))
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"data set {name}", f"its files under {root}", reason) from error
