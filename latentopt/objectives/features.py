"""Distances between features of a classifier."""

import threading
from dataclasses import dataclass

from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.errors import InputError
from latentopt.objectives.base import Loss, take


@checked
@dataclass(frozen=True, eq=False)
class Features(Loss):
    """The mean squared difference between a classifier's features of two images.

    Args:
        classifier: a module in eval mode, on the images' device and in their dtype; it takes the images as they are.
        layer: name of a module in it (``named_modules``) whose output (B, ...), in its last call, are the features.
            None: the logits.

    Raises:
        InputError: the classifier is in training mode, has no such layer or does not call it, or the layer's output is
            no tensor.

    >>> import torch
    >>> from torch import nn
    >>> Features(nn.Flatten().eval())(torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)).tolist()
    [1.0, 1.0]
    """

    classifier: nn.Module
    layer: str | None = None

    def __post_init__(self) -> None:
        if any(module.training for module in self.classifier.modules()):
            raise InputError("Features.classifier", "a module in eval mode: call .eval() first", "one in training mode")
        names = [name for name, _ in self.classifier.named_modules()]
        if self.layer is not None and self.layer not in names:
            raise InputError("Features.layer", f"one of {', '.join(filter(None, names))}", self.layer)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape != target.shape:
            raise InputError("prediction", f"the target's shape {tuple(target.shape)}", tuple(prediction.shape))
        return (self._features(prediction) - self._features(target)).square().flatten(1).mean(1)

    def take(self, rows: Tensor) -> "Features":
        classifier = take(self.classifier, rows)
        return self if classifier is self.classifier else Features(classifier, self.layer)

    def _features(self, image: Tensor) -> Tensor:
        outputs: list[object] = []
        thread = threading.get_ident()

        def record(module: nn.Module, inputs: object, output: object) -> None:
            if threading.get_ident() == thread:  # passes of other threads call the same hook
                outputs.append(output.clone() if isinstance(output, Tensor) else output)  # later layers may be in place

        layer = self.classifier if self.layer is None else self.classifier.get_submodule(self.layer)
        handle = layer.register_forward_hook(record)
        try:
            self.classifier(image)
        finally:
            handle.remove()
        if not outputs or not isinstance(outputs[-1], Tensor):
            got = f"{self.layer}, which gives {type(outputs[-1]).__name__}" if outputs else f"{self.layer}, not called"
            raise InputError("Features.layer", "a layer that the classifier calls and that gives a tensor", got)
        return outputs[-1]
