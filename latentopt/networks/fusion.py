"""BatchNorm folded into the layers before it."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return a copy with BatchNorm folded into the layers before it."""
    module = copy.deepcopy(module).requires_grad_(False)
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for (before, layer), (name, norm) in pairwise(list(sequence._modules.items())):
            merged = _merged(layer, norm) if layer is not None and isinstance(norm, _BatchNorm) else None
            if merged is not None:  # each layer keeps its name, by which the module's owner may call it
                sequence._modules |= {before: merged, name: nn.Identity()}
    if all(p.dtype == torch.float32 for p in module.parameters()):
        module = module.to(memory_format=torch.channels_last)
    return module


def _merged(layer: nn.Module, norm: _BatchNorm) -> nn.Module | None:
    """Return one layer for both, if there is one."""
    if norm.running_mean is None or layer._forward_hooks or norm._forward_hooks or is_parametrized(layer):
        return None
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.modules.conv._ConvNd) and not (layer.transposed and layer.groups > 1):  # torch cannot
        return fuse_conv_bn_eval(layer, norm, transpose=layer.transposed)
    return None
