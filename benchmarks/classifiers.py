"""Pretrained classifiers of `python -m benchmarks attack`, with weights from LATENTOPT_DATA."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.errors import InputError
from latentopt.networks.classifier import Classifier
from latentopt.zoo import cards
from latentopt.zoo.datasets import open_dataset, read_idx
from latentopt.zoo.paths import data_root

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Images = tuple[Tensor, Tensor]
"""Images (N, C, H, W) in [0, 1] and labels (N,) long."""


class MNISTNet(nn.Module):
    """The network of the paper's MNIST experiments (arXiv 2406.00494)."""

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(1, 8, 10), nn.ReLU(), nn.Conv2d(8, 32, 8), nn.ReLU(), nn.Conv2d(32, 32, 8), nn.ReLU()]
        self.ConvLayers = nn.Sequential(*convs)
        self.fc_layer = nn.Sequential(nn.Linear(800, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_layer(self.ConvLayers(x).flatten(1))


def small_cnn(channels: Sequence[int], padding: int, hidden: Sequence[int]) -> nn.Sequential:
    """Two 4 x 4 convolutions of stride 2 on 3 x 32 x 32 images, then layers of the sizes ``hidden``."""
    first, second = channels
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, first, 4, 2, padding), nn.ReLU(), nn.Conv2d(first, second, 4, 2, padding), nn.ReLU()),
        nn.Flatten(),
    ]
    for width, following in zip(hidden, [*hidden[1:], 10], strict=True):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ResidualBlock(nn.Module):
    """A basic block; ``norm`` of its channels after each convolution."""

    def __init__(self, entering: int, width: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, width, 3, stride, 1, bias=not norm)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=not norm)
        self.bn1, self.bn2 = (nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(2))
        self.stride, self.grown = stride, width - entering
        changes = not norm and (stride > 1 or width != entering)
        self.shortcut = nn.Sequential(nn.Conv2d(entering, width, 1, stride)) if changes else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if len(self.shortcut) or not (self.stride > 1 or self.grown):
            return F.relu(h + self.shortcut(x))
        half = self.grown // 2
        return F.relu(h + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.grown - half)))


class CIFARResNet(nn.Module):
    """CIFARResNet for CIFAR10 with 16, 32, 64 channels, zero-padded shortcuts (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for index, (entering, width) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            first = ResidualBlock(entering, width, 1 if index == 1 else 2, norm=True)
            rest = [ResidualBlock(width, width, 1, norm=True) for _ in range(blocks - 1)]
            setattr(self, f"layer{index}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        for index in (1, 2, 3):
            h = getattr(self, f"layer{index}")(h)
        return self.linear(h.mean((2, 3)))


class ResNet2B(nn.Module):
    """Two basic blocks without BatchNorm, of the robustness verification literature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(ResidualBlock(8, 16, 2, norm=False), ResidualBlock(16, 16, 1, norm=False))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer1(F.relu(self.conv1(x))).flatten(1)
        return self.linear2(F.relu(self.linear1(h)))


def _squeezenet() -> nn.Module:
    from torchvision.models import squeezenet1_0

    return squeezenet1_0()


def _shipped(name: str) -> nn.Module:
    return cards.load_classifier(name).module


@dataclass(frozen=True)
class Pretrained:
    """A classifier, its images and the radii of its attacks.

    Args:
        build: the module.
        weights: file under LATENTOPT_DATA; None: as built.
        images: ``mnist``, ``cifar10`` or ``imagenet``.
        eps: radii.
        mean, std: of `Classifier`.
        last: sites of ADR-GD's gates, counted from the last; None: all.
        trained: else its weights are random, and what it says itself stands for the labels.
    """

    build: Callable[[], nn.Module]
    weights: str | None
    images: str
    eps: tuple[float, ...]
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    last: int | None = None
    trained: bool = True

    def load(self) -> Classifier:
        """Return the classifier, frozen and in eval mode.

        Raises:
            InputError: the weights are not there.
        """
        module = self.build()
        if self.weights is not None:
            from safetensors.torch import load_file

            path = data_root() / self.weights
            if not path.is_file():
                raise InputError("LATENTOPT_DATA", f"a folder with {self.weights}", str(data_root()))
            module.load_state_dict(load_file(path))
        return Classifier(module, mean=self.mean, std=self.std).eval().requires_grad_(False)


_ROBUST = "cifar10_robust_small"
_CIFAR_EPS = (2 / 255, 8 / 255)
CLASSIFIERS: dict[str, Pretrained] = {
    "mnist-pgd": Pretrained(
        MNISTNet,
        "adrgd_mnist_classifiers/mnist_pgd_epsilon_0.25_steps_20_epochs_20.safetensors",
        "mnist",
        (0.1, 0.2, 0.25),
    ),
    "mnist-clean": Pretrained(
        MNISTNet, "adrgd_mnist_classifiers/mnist_clean_epochs_20.safetensors", "mnist", (0.1, 0.2, 0.25)
    ),
    "cnn-a-adv": Pretrained(
        partial(small_cnn, (16, 32), 1, (2048, 100)),
        f"{_ROBUST}/cifar_cnn_a_adv.safetensors",
        "cifar10",
        _CIFAR_EPS,
        *CIFAR,
    ),
    "resnet2b": Pretrained(
        ResNet2B, f"{_ROBUST}/resnet2b.safetensors", "cifar10", _CIFAR_EPS, CIFAR[0], (0.2471, 0.2435, 0.2616)
    ),
    "cifar-base": Pretrained(
        partial(small_cnn, (8, 16), 1, (1024, 100)),
        f"{_ROBUST}/cifar_base.safetensors",
        "cifar10",
        _CIFAR_EPS,
        IMAGENET[0],
        (0.225, 0.225, 0.225),
    ),
    "marabou-large": Pretrained(
        partial(small_cnn, (32, 64), 0, (2304, 128, 64)),
        "cifar10_std_small/cifar_marabou_large.safetensors",
        "cifar10",
        _CIFAR_EPS,
    ),
    "resnet20": Pretrained(
        partial(CIFARResNet, 3), "cifar10_resnets/resnet20-12fca82f.safetensors", "cifar10", _CIFAR_EPS, *IMAGENET
    ),
    "mnist-mlp-capped": Pretrained(partial(_shipped, "mnist-mlp-capped"), None, "mnist", (0.1,)),
    "squeezenet": Pretrained(
        _squeezenet,
        "imagenet_squeezenet1_0_dc/squeezenet1_0_deepcompression_torchvision_norm.safetensors",
        "imagenet",
        (1 / 255, 2 / 255, 4 / 255),
        *IMAGENET,
        last=3,
    ),
}


def test_images(name: str, count: int) -> Images:
    """Return the first ``count`` test images of ``mnist``, ``cifar10`` or ``imagenet`` (224 x 224 from the middle).

    Raises:
        InputError: they are not there.
    """
    root = data_root()
    if name == "mnist":
        images = torch.tensor(open_dataset("mnist", None, limit=count)[:count])[:, None] / 255
        return images, torch.tensor(read_idx(root / "mnist/t10k-labels-idx1-ubyte.gz")[:count].astype(np.int64))
    file = root / (
        "cifar10/cifar10_test_first500.npz" if name == "cifar10" else "imagenet_samples/imagenet_even_classes_256.zip"
    )
    if not file.is_file():
        raise InputError("LATENTOPT_DATA", f"a folder with {file.relative_to(root)}", str(root))
    if name == "cifar10":
        arrays = np.load(file)
        pixels = torch.tensor(arrays["images"][:count]).permute(0, 3, 1, 2).contiguous() / 255
        return pixels, torch.tensor(arrays["labels"][:count].astype(np.int64))
    return _imagenet(file, count)


def _imagenet(file: Path, count: int) -> Images:
    from PIL import Image, ImageOps

    with zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))[:count]
        opened = (Image.open(io.BytesIO(archive.read(name))) for name in names)
        images = [np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[16:240, 16:240] for image in opened]
    labels = [int("".join(ch for ch in Path(name).name.split("_")[0] if ch.isdigit())) for name in names]
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2).contiguous() / 255, torch.tensor(labels)
