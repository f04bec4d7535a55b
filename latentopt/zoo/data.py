"""LightningDataModules of the training recipes."""

from __future__ import annotations

from functools import cached_property
from typing import get_args

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from latentopt.errors import InputError, nonnegative, positive
from latentopt.zoo.datasets import as_images, load_labelled, open_dataset
from latentopt.zoo.fitting import Fit


class ImageData(lightning.LightningDataModule):
    """All images of a data set in memory, in [0, 1], in shuffled batches (B, C, H, W).

    Args:
        dataset, root, download: ``name``, ``root`` and ``download`` of `latentopt.zoo.datasets.open_dataset`: a named
            data set, or a folder of images.
        batch_size: images a batch; an incomplete last batch is dropped.
        shape: (C, H, W) that each image is fitted to; None: all images have one shape.
        fit: of images of another aspect: ``crop``, ``pad`` or ``stretch``.
    """

    def __init__(
        self,
        dataset: str = "mnist",
        root: str | None = None,
        batch_size: int = 128,
        download: bool = False,
        shape: list[int] | None = None,
        fit: Fit = "crop",
    ) -> None:
        super().__init__()
        positive("batch_size", batch_size, integer=True)
        for side in shape or ():
            positive("shape", side, integer=True)
        if shape is not None and len(shape) != 3:
            raise InputError("shape", "three numbers, channels, height and width", shape)
        if fit not in get_args(Fit):
            raise InputError("fit", f"one of {', '.join(get_args(Fit))}", repr(fit))
        self.dataset, self.root, self.batch_size, self.download = dataset, root, batch_size, download
        self.shape: list[int] | None = shape
        self.fit: Fit = fit

    def images(self, split: str, limit: int | None = None) -> Tensor:
        """Read the first ``limit`` images of a split (N, C, H, W), float32 in [0, 1]."""
        return as_images(open_dataset(self.dataset, self.root, split, self.download), limit, self.shape, self.fit)

    def training(self) -> tuple[Tensor, ...]:
        """Return the tensors (N, ...) that batches are drawn from."""
        return (self.images("train"),)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        dataset = TensorDataset(*self.training())
        batches = BatchSampler(RandomSampler(dataset), self.batch_size, drop_last=True)
        return DataLoader(dataset, sampler=batches, batch_size=None)  # one index of many rows: no copy per image


class LabelledData(ImageData):
    """Images with their classes: batches of (B, C, H, W) in [0, 1] and (B,) long.

    Args:
        dataset, root, download, batch_size, shape, fit: as in `ImageData`.
        validation: how many images at the end of the training split are kept for validation, >= 1. In a folder the
            classes take turns, so that all are among them.
        flip: mirror each image of a batch, left and right, with probability 1/2.
        shift: move each image of a batch by up to so many pixels down or up and right or left, over black.
    """

    def __init__(
        self,
        dataset: str = "mnist",
        root: str | None = None,
        batch_size: int = 128,
        download: bool = False,
        validation: int = 1000,
        flip: bool = False,
        shift: int = 0,
        shape: list[int] | None = None,
        fit: Fit = "crop",
    ) -> None:
        super().__init__(dataset, root, batch_size, download, shape, fit)
        positive("validation", validation, integer=True)
        nonnegative("shift", shift, integer=True)
        self.validation, self.flip, self.shift = validation, flip, shift

    def load(self, split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Read the first ``limit`` images of a split (N, C, H, W), float32 in [0, 1], and their classes (N,)."""
        return load_labelled(self.dataset, self.root, split, limit, self.download, self.shape, self.fit)

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor]:
        return self.load("train")

    def training(self) -> tuple[Tensor, ...]:
        images, labels = self._known
        count = len(images) - self.validation
        if count < 1:
            raise InputError("validation", f"fewer than the {len(images)} images of training", self.validation)
        if count < self.batch_size:
            raise InputError("batch_size", f"at most the {count} images that validation leaves", self.batch_size)
        return images[:count], labels[:count]

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        held_out = (tensor[len(tensor) - self.validation :] for tensor in self._known)
        return DataLoader(TensorDataset(*held_out), self.batch_size)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        if self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        return [augment(images, self.flip, self.shift), labels]


def augment(images: Tensor, flip: bool, shift: int) -> Tensor:
    """Mirror and move images (B, C, H, W), each at random, as `LabelledData` describes."""
    if flip:
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
    if shift:
        height, width = images.shape[-2:]
        padded = F.pad(images, (shift,) * 4)
        moves = torch.randint(2 * shift + 1, (len(images), 2)).tolist()
        pairs = zip(padded, moves, strict=True)
        images = torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in pairs])
    return images
