"""LPIPS, a learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924), by its authors' package ``lpips``."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.errors import InputError, warn
from latentopt.files import is_file
from latentopt.objectives.base import Loss


class Backbone(NamedTuple):
    """A network of which LPIPS compares the features."""

    name: str  # torchvision's
    file: str  # of the weights that torchvision downloads
    smallest: int  # side of an image, in pixels


BACKBONES = {
    "alex": Backbone("alexnet", "alexnet-owt-7be5be79.pth", 31),
    "vgg": Backbone("vgg16", "vgg16-397923af.pth", 16),
    "squeeze": Backbone("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", 17),
}


class PerceptualWarning(UserWarning):
    """LPIPS is evaluated on images of a kind that it was not calibrated on."""


@checked
@dataclass(frozen=True)
class LPIPS(Loss):
    """LPIPS 0.1 (B,) of images (B, C, H, W) in [0, 1].

    It was calibrated on 64 x 64 pixels in colour, so it warns once (`PerceptualWarning`) about smaller images and about
    grey ones, which are repeated to 3 channels. The network is frozen, built at the first call, and follows the images'
    device and dtype.

    Args:
        net: "alex", "vgg" or "squeeze"; the smallest images they take have 31, 16 and 17 pixels a side.
        weights: file with the state dict of torchvision's alexnet, vgg16 or squeezenet1_1 (safetensors, or pickled by
            torch and read with ``weights_only``). None: torchvision's ImageNet weights, downloaded into torch hub's
            folder at the first call. The calibration comes with the package ``lpips``.

    Raises:
        InputError: there is no such net or file; at a call, the weights are not available or not of that net, or the
            images are not of one shape, of 1 or 3 channels and large enough.
    """

    net: str = "alex"
    weights: str | Path | None = None

    def __post_init__(self) -> None:
        if self.net not in BACKBONES:
            raise InputError("LPIPS.net", f"one of {', '.join(BACKBONES)}", self.net)
        if self.weights is not None and not is_file(self.weights):
            raise InputError("LPIPS.weights", f"a file such as {BACKBONES[self.net].file}", self.weights)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape != target.shape:
            raise InputError("prediction", f"the target's shape {tuple(target.shape)}", tuple(prediction.shape))
        smallest = BACKBONES[self.net].smallest
        if prediction.ndim != 4 or prediction.shape[1] not in (1, 3) or min(prediction.shape[-2:]) < smallest:
            expected = f"(B, 1 or 3, H, W) of at least {smallest} x {smallest} pixels for LPIPS of {self.net}"
            raise InputError("image", expected, tuple(prediction.shape))
        if min(prediction.shape[-2:]) < 64:
            _warn_once("LPIPS was calibrated on images of 64 x 64 pixels; of smaller ones it says less")
        if prediction.shape[1] == 1:
            _warn_once("LPIPS was made for colour: grey images are repeated to 3 channels")
            prediction, target = prediction.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1)
        weights = None if self.weights is None else str(self.weights)
        network = _network(self.net, weights, prediction.dtype, prediction.device)
        return network(prediction, target, normalize=True).flatten()


@lru_cache
def _warn_once(message: str) -> None:
    warn(message, PerceptualWarning)


@lru_cache(maxsize=4)
def _network(net: str, weights: str | None, dtype: torch.dtype, device: torch.device) -> nn.Module:
    # In a new thread nothing is traced and gradients are on, whatever the caller's context.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_build, net, weights, dtype, device).result()


def _build(net: str, weights: str | None, dtype: torch.dtype, device: torch.device) -> nn.Module:
    import lpips  # imports torchvision

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision in an old way
        try:
            network = lpips.LPIPS(net=net, verbose=False, pnet_rand=weights is not None)
        except (OSError, RuntimeError, HTTPException) as error:
            expected = f"a file such as {BACKBONES[net].file}, as the weights could not be downloaded"
            raise InputError("LPIPS.weights", expected, f"{weights} ({error})") from error
    if weights is not None:
        _fill(network.net, BACKBONES[net].name, weights)
    return network.requires_grad_(False).to(device=device, dtype=dtype)


def _fill(backbone: nn.Module, name: str, weights: str) -> None:
    """Load weights into a backbone that is cut into slices; its modules have the numbers of torchvision's."""
    state_dict = _read(weights)
    for key, parameter in backbone.named_parameters():
        theirs = f"features.{key.split('.', 1)[1]}"  # slice1.0.weight is features.0.weight
        tensor = state_dict.get(theirs)
        if not isinstance(tensor, Tensor) or tensor.shape != parameter.shape:
            expected = f"a state dict of torchvision's {name}, with {theirs} of shape {tuple(parameter.shape)}"
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else None
            raise InputError("LPIPS.weights", expected, f"{got} in {weights}")
        with torch.no_grad():
            parameter.copy_(tensor)


def _read(weights: str) -> dict[str, Any]:
    try:
        if weights.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(weights)
        state_dict = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises anything
        got = f"{weights} ({type(error).__name__})"
        raise InputError("LPIPS.weights", "a state dict as safetensors or of torch.save", got) from error
    return state_dict if isinstance(state_dict, dict) else {}
