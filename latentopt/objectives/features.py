"""The distance between two images as a classifier sees them."""

import threading
from dataclasses import dataclass

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.objectives.base import Loss, take


@dataclass(frozen=True, eq=False)
class Features(Loss):
    """The squared distance between a classifier's features of two images, divided by the number of features.

    Args:
        classifier: a module in eval mode, on the images' device and in their dtype; it takes the images as they are.
        layer: the name of a module of it (``named_modules``), whose output, a tensor (B, ...), are the features; of its
            last call, if there are several. The classifier's own output, the logits, where none is given.

    Raises:
        InputError: if the classifier is in training mode, has no such layer, does not call it, or it gives no tensor.

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
        seen: list[object] = []
        own = threading.get_ident()

        def see(module: nn.Module, inputs: object, output: object) -> None:
            if threading.get_ident() == own:  # another thread's passes meet the same hook
                seen.append(output.clone() if isinstance(output, Tensor) else output)  # what follows may work in place

        layer = self.classifier if self.layer is None else self.classifier.get_submodule(self.layer)
        handle = layer.register_forward_hook(see)
        try:
            self.classifier(image)
        finally:
            handle.remove()
        if not seen or not isinstance(seen[-1], Tensor):
            came = f"{self.layer}, which gives {type(seen[-1]).__name__}" if seen else f"{self.layer}, not called"
            raise InputError("Features.layer", "a layer that the classifier calls and that gives a tensor", came)
        return seen[-1]
