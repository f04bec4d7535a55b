"""The part of a generator that makes its gradients fit into memory."""

from __future__ import annotations

import copy
from typing import Literal, Self

import torch
from torch import nn

from latentopt.arguments import checked
from latentopt.errors import InputError, first_line, positive
from latentopt.networks.checkpointing import checkpointed
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.generator_checks import GeneratorChecks
from latentopt.networks.memory import SHARE, VARIABLE, available_memory, in_words
from latentopt.networks.tiles import Tiled


class GeneratorMemory(GeneratorChecks):
    """The part of a `latentopt.Generator` that makes its gradients fit into memory."""

    @checked
    def economical(
        self,
        precision: Literal["float32", "bfloat16", "float16"] | None = None,
        checkpoint: bool = False,
        tile: int | None = None,
    ) -> Self:
        """Return the generator in a form whose gradients take less memory.

        Args:
            precision: of the module's arithmetic (`torch.autocast`); latents and images, and so the methods, keep
                theirs. Half of the memory; images differ by about 1e-2 (bfloat16) or 1e-3 (float16, not on the CPU).
            checkpoint: activations within the module's blocks are computed again in the backward pass, at the cost of
                another forward. Images and gradients are equal, also with gates.
            tile: greatest height and width in pixels of the tiles, with their overlap, in which a decoder of any size
                computes its images, each checkpointed. Images are equal to rounding; gates act tile by tile.

        Returns:
            A generator that shares the weights.

        Raises:
            InputError: the tile is not larger than the receptive field, the module is no `torch.nn.Module`, or no
                decoder of any size, or the device lacks the precision.
        """
        if not isinstance(self.module, nn.Module):
            raise InputError("generator", "one whose module is a torch.nn.Module", type(self.module).__name__)
        economical = self
        if tile is not None:
            positive("tile", tile, integer=True)
            if not self.takes_any_size:
                raise InputError("tile", "None, as the generator makes images of one size", tile)
            image, whole = self.output_shape(), self.row_bytes[0]
            economical = self.with_module(Tiled(self.module, tile, self.probe().latents(1, seed=0)))
            part = min(1.0, tile / image[1]) * min(1.0, tile / image[2])
            economical.row_bytes = (int(part * whole), int(part * whole))
        elif checkpoint:
            self.output_shape()
            economical = self.with_module(checkpointed(self.module))
            economical.row_bytes = (self.row_bytes[1], self.row_bytes[1])
        device = empty_like_parameters(self).device
        if precision == "float16" and device.type == "cpu":  # emulated, a hundred times slower
            raise InputError("precision", "float32 or bfloat16 on the CPU", precision)
        if precision is not None:
            economical = copy.copy(economical)
            economical.precision = None if precision == "float32" else getattr(torch, precision)
            try:
                probe = economical.probe()
                z = probe.latents(1, seed=0).requires_grad_()
                torch.autograd.grad(probe(z).sum(), z)
            except RuntimeError as error:
                raise InputError("precision", f"one that {device} has", f"{precision} ({first_line(error)})") from error
        return economical

    def within_memory(self) -> Self:
        """Return the generator in a form whose gradients fit into the memory that is available.

        What they take is known once `output_shape` was called, as `fused` does; before, nothing changes. As many rows
        are evaluated at once as fit. If one row does not fit, blocks are checkpointed; if that is not enough, a decoder
        of any size computes tiles. The environment variable LATENTOPT_MEMORY sets the memory.

        Raises:
            InputError: no form fits.
        """
        available = available_memory(empty_like_parameters(self).device)
        whole, fewer = self.row_bytes
        if available is None or not isinstance(self.module, nn.Module) or not whole:
            return self
        limit, fitting = SHARE * available, self
        if fewer <= limit < whole:
            fitting = self.economical(checkpoint=True)
        elif limit < whole:
            image = self.output_shape()
            need = f"{in_words(whole)} for the gradient of one image of shape {image}, {in_words(fewer)} checkpointed"
            error = InputError("memory", f"{need} (precision= halves it; {VARIABLE} sets the limit)", in_words(limit))
            if not self.takes_any_size or isinstance(self.module, Tiled):
                raise error
            try:
                fitting = self.economical(tile=int((limit * image[1] * image[2] / whole) ** 0.5))
            except InputError:
                raise error from None
        fitting = copy.copy(fitting)
        fitting.rows_at_once = max(1, int(limit // max(fitting.row_bytes[0], 1)))
        return fitting
