"""Modules of cards and recipes, built from their class paths."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentopt.components.trust import only_trusted, refusal
from latentopt.errors import InputError
from latentopt.files import read_tensors
from latentopt.zoo.parse_errors import error_line
from latentopt.zoo.state_dicts import load_checkpoint


def build_module(spec: Mapping[str, Any], folder: Path = Path()) -> nn.Module:
    """Build the module that a ``{class_path, init_args, weights}`` names, in eval mode.

    Args:
        spec: its class and arguments, and its weights, a file of a folder; without any they are random, of seed 0.
        folder: the folder.

    Raises:
        InputError: as `build`, or the weights are missing or belong to another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build({key: value for key, value in spec.items() if key != "weights"})
    if (weights := spec.get("weights")) is not None:
        if not isinstance(weights, str):
            raise InputError("weights", "a file with a state dict", repr(weights))
        load_checkpoint(module, read_tensors(folder / weights), folder / weights, str(spec["class_path"]))
    return module.eval()


def build(spec: Mapping[str, Any]) -> nn.Module:
    """Build the module that a ``{class_path, init_args}`` names, of a trusted class derived from `torch.nn.Module`.

    Raises:
        InputError: it names another object or one that is not trusted (`latentopt.trust`), or cannot be built.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "module", fail_untyped=False, required=True)
    try:
        with only_trusted():
            return parser.instantiate(parser.parse_object({"module": dict(spec)})).module
    except Exception as error:
        raise refusal(error) or _not_built(spec, error) from error


def _not_built(spec: Mapping[str, Any], error: Exception) -> InputError:
    owner = str(spec.get("class_path", "")).split(".")[0]
    if owner and find_spec(owner) is None:
        got = f"{spec['class_path']}: no module named {owner} (install it, or put its folder on PYTHONPATH)"
        return InputError("architecture", "a class that can be imported", got)
    return InputError("architecture", "the class_path and init_args of a module", error_line(error))
