"""Evaluation of a module with other weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def call_with_weights(network: nn.Module, weights: Mapping[str, Tensor], *inputs: Tensor) -> Any:
    """Evaluate a module with other values of some parameters; the module stays as it is.

    Modules and parameters may have several names. (Of a module with several, `functional_call` alone would not restore
    the parameters.)

    Args:
        network: the module.
        weights: values by a name of the parameter.
        inputs: of the module.

    Returns:
        The module's output.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    values = {id(parameters[name]): value for name, value in weights.items()}
    places = {
        f"{owner}.{name}" if owner else name: values[id(parameter)]
        for owner, module in network.named_modules()  # each once
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if id(parameter) in values
    }
    return functional_call(network, places, inputs, tie_weights=False)
