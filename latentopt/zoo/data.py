"""LightningDataModules that the training recipes name."""

from __future__ import annotations

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from latentopt.errors import positive
from latentopt.zoo.datasets import open_dataset


class ImageData(lightning.LightningDataModule):
    """All images of a named data set in memory, in [0, 1], in shuffled batches (B, C, H, W).

    Args:
        dataset, root, download: ``name``, ``root`` and ``download`` of `latentopt.zoo.datasets.open_dataset`.
        batch_size: images a batch; what does not fill the last one is left for another epoch.
    """

    def __init__(
        self, dataset: str = "mnist", root: str | None = None, batch_size: int = 128, download: bool = False
    ) -> None:
        super().__init__()
        positive("batch_size", batch_size, integer=True)
        self.dataset, self.root, self.batch_size, self.download = dataset, root, batch_size, download

    def images(self, split: str, limit: int | None = None) -> Tensor:
        """The first ``limit`` images of a split (N, C, H, W), float32 in [0, 1]."""
        source = open_dataset(self.dataset, self.root, split, self.download)
        array = source if isinstance(source, np.ndarray) else np.stack([np.asarray(image) for image in source])
        images = torch.tensor(array[:limit])
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return images / 255 if images.dtype == torch.uint8 else images

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        dataset = TensorDataset(self.images("train"))
        batches = BatchSampler(RandomSampler(dataset), self.batch_size, drop_last=True)
        return DataLoader(dataset, sampler=batches, batch_size=None)  # one index of many rows: no copy per image
