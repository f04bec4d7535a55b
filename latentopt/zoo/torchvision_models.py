"""Torchvision's classifiers by name, trained on ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentopt.errors import InputError
from latentopt.networks.classifier import Classifier
from latentopt.zoo.card import error_line
from latentopt.zoo.state_dicts import load_into, read_state_dict

PREFIX = "torchvision/"

_AS_TRAINED: dict[str, dict[str, Any]] = {  # what their builders set with the official weights only
    name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def classifier(name: str, weights: str | Path | None = None) -> Classifier:
    """Build a classifier of torchvision for pixels in [0, 1], normalised for its official weights.

    Args:
        name: as in ``torchvision.models.list_models(torchvision.models)``: ``resnet18``, ``squeezenet1_0``, ...
        weights: a file with its state dict, ``.safetensors`` or what ``torch.save`` writes. Default: the official ones
            (torchvision's ``DEFAULT``), which torch downloads once and keeps.

    Raises:
        InputError: there is no such network, or the weights are not available or belong to another network.
    """
    from torchvision import models

    if name not in models.list_models(models):
        raise InputError("model", f"{PREFIX}NAME of torchvision.models, like {PREFIX}resnet18", repr(PREFIX + name))
    official = models.get_model_weights(name)["DEFAULT"]
    if weights is None:
        try:
            module = models.get_model(name, weights=official)
        except (OSError, RuntimeError) as error:
            expected = "the official ones from the network, or a file: load_classifier(..., weights=FILE)"
            raise InputError("weights", expected, f"{error_line(error)} ({official.url})") from error
    else:
        module = models.get_model(name, weights=None, **_AS_TRAINED.get(name, {}))
        load_into(module, read_state_dict(Path(weights)), Path(weights), name)
    transforms = official.transforms()
    return Classifier(
        module,
        mean=transforms.mean,
        std=transforms.std,
        input_shape=(3, transforms.crop_size[0], transforms.crop_size[0]),
        classes=official.meta["categories"],
    )
