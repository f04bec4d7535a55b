"""Torchvision's classifiers by name, trained on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from latentopt.errors import InputError, with_nearest
from latentopt.files import read_tensors, require_file
from latentopt.networks.classifier import Classifier
from latentopt.zoo.parse_errors import error_line
from latentopt.zoo.state_dicts import load_checkpoint, state_dicts

PREFIX = "torchvision/"

_AS_TRAINED: dict[str, dict[str, Any]] = {  # what their builders set with the official weights only
    name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def classifier(name: str, weights: str | Path | None = None) -> Classifier:
    """Build a classifier of torchvision for pixels in [0, 1], normalised for its official weights.

    Args:
        name: as in ``torchvision.models.list_models(torchvision.models)``: ``resnet18``, ``squeezenet1_0``, ...
        weights: a file with its state dict, ``.safetensors`` or what ``torch.save`` writes, as it is or in a checkpoint
            (`load_checkpoint`), for any number of classes. A checkpoint may name them: ``classes`` or ``class_to_idx``.
            Default: the official ones (torchvision's ``DEFAULT``), which torch downloads once and keeps.

    Raises:
        InputError: there is no such network, or the weights are not available or belong to another network.
    """
    from torchvision import models

    if name not in (known := models.list_models(models)):
        got = with_nearest(PREFIX + name, [PREFIX + model for model in known])
        raise InputError("model", f"{PREFIX}NAME of torchvision.models, like {PREFIX}resnet18", got)
    official = models.get_model_weights(name)["DEFAULT"]
    classes: Sequence[str] | None = official.meta["categories"]
    if weights is None:
        try:
            module = models.get_model(name, weights=official)
        except (OSError, RuntimeError) as error:
            expected = "the official ones from the network, or a file: load_classifier(..., weights=FILE)"
            raise InputError("weights", expected, f"{error_line(error)} ({official.url})") from error
    else:
        path = require_file(weights, "a file of weights")
        content = read_tensors(path)
        module = models.get_model(name, weights=None, **_AS_TRAINED.get(name, {}))
        count = _class_count(module, content)
        if count not in (None, len(official.meta["categories"])):
            module, classes = models.get_model(name, weights=None, num_classes=count, **_AS_TRAINED.get(name, {})), None
        load_checkpoint(module, content, path, name)
        classes = _class_names(content) or classes
    transforms = official.transforms()
    return Classifier(
        module,
        mean=transforms.mean,
        std=transforms.std,
        input_shape=(3, transforms.crop_size[0], transforms.crop_size[0]),
        classes=classes,
    )


def _class_count(module: nn.Module, content: Any) -> int | None:
    """Return the number of classes of a state dict that differs from a module's in the size of the outputs alone."""
    own = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for _, state in state_dicts(content):
        if own.keys() - state.keys() or state.keys() - own.keys():
            continue
        differing = {name for name, tensor in state.items() if tensor.shape != own[name]}
        sizes = {state[name].shape[0] for name in differing if state[name].shape[1:] == own[name][1:]}
        if len(sizes) == 1:
            return sizes.pop()
    return None


def _class_names(content: Any) -> list[str] | None:
    """Return the names of classes that a checkpoint holds beside its weights."""
    for key in ("classes", "class_names", "class_to_idx"):
        names = content.get(key) if isinstance(content, dict) else None
        if isinstance(names, dict):
            names = sorted(names, key=names.__getitem__)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return list(names)
    return None
