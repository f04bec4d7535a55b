"""Folders of images with a subfolder for each class, and their training and test parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from latentopt.errors import InputError
from latentopt.files import images_below, is_folder, is_image_name, read_image, scaled

T = TypeVar("T", bound=Any)
PARTS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}
"""Names of the subfolders of each part."""
TEST_EVERY = 5
"""Of a folder without such subfolders, every fifth image of each class is in the test part."""


@dataclass(frozen=True)
class FolderImages:
    """The images of a part, one of each class in turn."""

    paths: Sequence[Path]
    labels: Sequence[int]  # of the classes in alphabetical order
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        array = read_image(self.paths[index])
        return scaled(array) if array.dtype == np.uint16 else array


def open_folder(folder: Path, split: str) -> FolderImages:
    """Find the images of a part of a folder.

    Args:
        folder: with subfolders ``train`` and ``test`` (or ``val``, ``valid``, ``validation``), each with a subfolder
            for each class; or with a subfolder for each class, of which every fifth image is in the test part. Images
            without such subfolders are of one class.
        split: ``train`` or ``test``.

    Raises:
        InputError: a part or a class is missing, or has no images.
    """
    train, part = (part_folder(folder, name) for name in ("train", split))
    if train is None:
        whole = _of_classes(folder)
        classes = list(whole)
        of_class = {
            name: [paths[i] for i in range(len(paths)) if is_in_part(i, split)] for name, paths in whole.items()
        }
    elif part is None:
        raise InputError(f"data set {folder}", f"a folder {' or '.join(PARTS[split])} beside {train.name}", "none")
    else:
        classes, of_class = list(_of_classes(train)), _of_classes(part)
        if further := sorted(set(of_class) - set(classes)):
            raise InputError(
                f"data set {part}", f"the classes of {train.name}: {', '.join(classes)}", ", ".join(further)
            )
    label_of = {name: label for label, name in enumerate(classes)}
    images = in_turn(of_class)
    if not images:
        raise InputError(f"data set {folder}", f"at least {TEST_EVERY} images of a class for the {split} part", "fewer")
    return FolderImages([path for _, path in images], [label_of[name] for name, _ in images], classes)


def in_turn(of_class: Mapping[str, Sequence[T]]) -> list[tuple[str, T]]:
    """Return the items of classes with their class, one of each in turn, classes and items in rising order.

    >>> in_turn({"a": [1, 2], "b": [3]})
    [('a', 1), ('b', 3), ('a', 2)]
    """
    turns = sorted((turn, name, item) for name, items in of_class.items() for turn, item in enumerate(items))
    return [(name, item) for _, name, item in turns]


def is_in_part(index: int, split: str) -> bool:
    """Return whether an image of a class that is not divided is in a part."""
    return (index % TEST_EVERY == TEST_EVERY - 1) == (split == "test")


def part_folder(folder: Path, split: str) -> Path | None:
    """Return the subfolder of a part, ``train`` or ``test``; None if there is none."""
    return next((folder / name for name in PARTS[split] if is_folder(folder / name)), None)


def _of_classes(folder: Path) -> dict[str, list[Path]]:
    """The images of each subfolder, and of those below it; without subfolders all are of one class, ""."""
    below = sorted(path for path in folder.iterdir() if is_folder(path) and path.name[0] not in "._")
    of_class = {path.name: images_below(path) for path in below}
    of_class = of_class or {"": sorted(file for file in folder.iterdir() if is_image_name(file))}
    if empty := [name for name, files in of_class.items() if not files]:
        raise InputError(f"data set {folder / empty[0]}", "a folder with images", "none in it")
    return of_class
