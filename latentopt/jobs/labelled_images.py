"""Images with labels: a data set by name, an array file, a folder with a subfolder for each class, or a list."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from latentopt.errors import InputError, positive, printable
from latentopt.files import is_file, is_folder, read_array, require_file
from latentopt.jobs.sources import LABELS, is_dataset, list_images, numbered, open_paths
from latentopt.jobs.targets import Fit, Fitted, fit_images, to_tensor
from latentopt.networks.checks import empty_like_parameters, output_shape
from latentopt.zoo import datasets
from latentopt.zoo.image_folders import in_turn, part_folder


class LabelledImages(NamedTuple):
    """Images with their classes."""

    images: Tensor  # (N, C, H, W), float32 in [0, 1]
    labels: Tensor  # (N,) long
    names: list[str]  # what a person calls each image


@dataclass(frozen=True)
class Classes:
    """The classes of a network, as far as they are known."""

    count: int | None = None
    names: Sequence[str] = ()


def open_labelled(
    data: str,
    root: str | None = None,
    split: str = "test",
    limit: int | None = None,
    download: bool = False,
    classifier: nn.Module | None = None,
    resize: bool = False,
    convert: bool = False,
    fit: Fit = "crop",
) -> LabelledImages:
    """Read images with their labels.

    Args:
        data: a data set's name; an array file with ``images`` and ``labels``; a folder with a subfolder for each class,
            or with a ``labels.csv``; or such a list, of files (relative to its folder) and labels. Of a folder that is
            divided into ``train`` and ``test``, the part is read.
        root, split, download: of a named data set (`latentopt.zoo.datasets.load_labelled`).
        limit: number of images, the first ones; of subfolders, from each in turn. None reads all.
        classifier: whose ``classes`` subfolders and labels name. Where it has none of these names, but as many classes
            as there are subfolders, these are the classes in alphabetical order, as in torchvision's ``ImageFolder``.
        resize, convert, fit: as in `Fitted`, for the classifier's ``input_shape``.

    Raises:
        InputError: the data are missing or have another form, or a label is none of the classes.
    """
    if limit is not None:
        positive("limit", limit, integer=True)
    shape = getattr(classifier, "input_shape", None)
    if (resize or convert) and (shape is None or len(shape) != 3):
        raise InputError("resize", "a model whose input_shape is an image's", str(shape))
    fitted = Fitted(shape, shape, resize, convert, fit) if shape is not None and len(shape) == 3 else None
    if is_dataset(data):
        wanted = fitted.image if fitted is not None and resize and convert else None
        images, labels = datasets.load_labelled(data, root, split, limit, download, wanted, fit)
        return LabelledImages(_fit(images, fitted), labels, [f"{data.lower()}-{i}" for i in range(len(labels))])
    path = Path(data)
    if not is_folder(path) and path.suffix.lower() != ".csv":
        return _read_arrays(path, limit, fitted)
    if part_folder(path, "train") and (part := part_folder(path, split)):
        path = part
    listed = path / LABELS if is_file(path / LABELS) else path
    files, named = (_read_folders if is_folder(listed) else _read_list)(listed)
    source = open_paths(files[:limit])
    images = fit_images(source, fitted, "data", "--resize and --convert")
    classes = _classes_of(classifier, images[:1])
    indices = (_folder_classes if is_folder(listed) else _listed_classes)(listed, sorted(set(named)), classes)
    return LabelledImages(images, torch.tensor([indices[name] for name in named[:limit]]), list(source.names))


def _classes_of(classifier: nn.Module | None, image: Tensor) -> Classes:
    if classifier is None:
        return Classes()
    shape = output_shape(classifier, image.to(empty_like_parameters(classifier)), "data")
    return Classes(shape[0] if len(shape) == 1 else None, getattr(classifier, "classes", None) or ())


def _fit(images: Tensor, fitted: Fitted | None) -> Tensor:
    if fitted is None or not (fitted.resize or fitted.convert) or tuple(images.shape[1:]) == fitted.image:
        return images
    return torch.stack([fitted(image) for image in images])


def _read_arrays(path: Path, limit: int | None, fitted: Fitted | None) -> LabelledImages:
    images, labels = (read_array(path, name, strict=True) for name in ("images", "labels"))
    if images.ndim not in (3, 4) or not len(images):
        raise InputError(f"{path}: images", "(N, H, W), (N, H, W, C) or (N, C, H, W)", f"shape {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        got = f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"{path}: labels", f"{len(images)} whole numbers >= 0", got)
    tensors = torch.stack([to_tensor(image) for image in images[:limit]])
    classes = torch.from_numpy(labels[:limit].astype(np.int64))
    return LabelledImages(_fit(tensors, fitted), classes, numbered(path, len(tensors)))


def _read_folders(path: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """The images of subfolders, one of each in turn, and the name of the subfolder of each."""
    of_class: dict[str, list[tuple[Path, str]]] = {}
    for file, name in list_images(path):
        folder, slash, _ = name.partition("/")
        if not slash:
            raise InputError("data", f"a folder with a subfolder for each class, or a {LABELS} in it", str(path))
        of_class.setdefault(folder, []).append((file, name))
    images = in_turn(of_class)
    return [file for _, file in images], [name for name, _ in images]


def _read_list(path: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """The files of a list and their labels; a first line without a file is a heading."""
    try:
        with require_file(path).open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), "lines of a file and its label, with a comma between them", error) from error
    lines = lines[1:] if lines and not Path(lines[0][0]).suffix else lines
    if not lines or any(len(line) != 2 for line in lines):
        wrong = next((line for line in lines if len(line) != 2), "nothing")
        raise InputError(str(path), "lines of a file and its label, with a comma between them", wrong)
    return [(path.parent / name, name) for name, _ in lines], [label for _, label in lines]


def _folder_classes(path: Path, folders: list[str], classes: Classes) -> dict[str, int]:
    """The class of each subfolder."""
    known = _known(classes)
    if any(_plain(name) in known for name in folders):
        return _by_name(path, folders, classes)
    in_order = {name: index for index, name in enumerate(folders)}
    complete = classes.count in (None, len(folders))
    if not all(name.isdecimal() for name in folders):
        return in_order if complete else _by_name(path, folders, classes)
    numbers = {name: int(name) for name in folders}
    if complete and numbers != in_order:
        raise InputError("data", "numbered folders in the order of their names, as 00, 01", ", ".join(folders))
    return numbers


def _listed_classes(path: Path, labels: list[str], classes: Classes) -> dict[str, int]:
    """The class of each label of a list: its number, or its name."""
    numbers = {label: int(label) for label in labels if label.isdecimal()}
    return numbers | _by_name(path, [label for label in labels if label not in numbers], classes)


def _by_name(path: Path, names: Sequence[str], classes: Classes) -> dict[str, int]:
    known = _known(classes)
    if missing := sorted(printable(name) for name in names if _plain(name) not in known):
        count = f"{classes.count} classes" if classes.count else "classes"
        own = f" ({', '.join(classes.names[:3])}, ...)" if classes.names else ", which have no names"
        raise InputError("data", f"labels of the model's {count}{own}", f"{', '.join(missing[:5])} in {path}")
    return {name: known[_plain(name)] for name in names}


def _known(classes: Classes) -> dict[str, int]:
    """The classes that have a name of their own, by their name."""
    plain = [_plain(name) for name in classes.names]
    return {name: index for index, name in enumerate(plain) if plain.count(name) == 1}


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
