"""Checks that a network calls only functions of torch that are affine in values that depend on its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from latentopt.errors import InputError

PRODUCTS = frozenset(
    """
    addbmm addcmul addmm addmv baddbmm bmm chain_matmul conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d div divide dot einsum imul inner itruediv kron linear matmul mm mul multiply mv outer rmatmul
    rmul tensordot true_divide truediv vdot
    """.split()  # noqa: SIM905
)
"""Affine where at most one factor depends on the input."""
QUOTIENTS = frozenset(("div", "divide", "truediv", "true_divide", "itruediv"))
"""The products whose second argument may not depend on the input."""
SUMS = frozenset(
    """
    add cat column_stack concat concatenate cumsum diff dstack hstack iadd isub mean neg negative positive radd rsub
    stack sub subtract sum trace vstack
    """.split()  # noqa: SIM905
)
MOVES = frozenset(
    """
    broadcast_to channel_shuffle chunk clone contiguous copy detach diag diag_embed diagonal expand expand_as
    flatten flip fold gather getitem index_add index_copy index_select iter masked_fill masked_select moveaxis
    movedim narrow pad permute pixel_shuffle pixel_unshuffle ravel repeat repeat_interleave reshape reshape_as roll
    rot90 scatter scatter_add select setitem split split_with_sizes squeeze swapaxes swapdims t take take_along_dim
    tensor_split tile transpose tril triu unbind unflatten unfold unsafe_chunk unsafe_split unsqueeze view view_as
    where
    """.split()  # noqa: SIM905
)
AVERAGES = frozenset(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d batch_norm dropout
    dropout1d dropout2d dropout3d feature_dropout interpolate upsample
    """.split()  # noqa: SIM905
)
"""Affine in eval mode, which the comparison of network and chain checks."""
CASTS = frozenset(("bfloat16", "cpu", "cuda", "double", "float", "half", "to", "type", "type_as"))
"""Affine where they return a tensor; ``float(x)`` returns a number."""
QUERIES = frozenset(
    """
    dim element_size empty_like full_like get_device is_complex is_contiguous is_floating_point len ndimension
    nelement new_empty new_full new_ones new_tensor new_zeros numel ones_like register_hook requires_grad
    retain_grad size storage_offset stride zeros_like
    """.split()  # noqa: SIM905
)
"""Their result depends on their first argument's shape alone."""
PROPERTIES = frozenset(
    """
    device dtype is_cpu is_cuda is_leaf is_meta is_mps is_nested is_quantized is_sparse itemsize layout nbytes ndim
    requires_grad shape
    """.split()  # noqa: SIM905
)
VIEWS = frozenset(("H", "T", "data", "mH", "mT"))
"""Properties that are tensors of the same values."""


class AffineCheck(TorchFunctionMode):
    """A mode that refuses every function of input-dependent values that may have a kink or be curved.

    A chain's activations are handled by an `OnGates` inside this mode. Scripted functions and
    `torch.autograd.Function` stay unseen, as torch does not report them to a mode.

    Args:
        x: the input.
        expected: the message's description of a valid network.
    """

    def __init__(self, x: Tensor, expected: str) -> None:
        super().__init__()
        self.dependent, self.expected = {id(x): x}, expected  # holds the tensors, so that no other gets their id

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result, name, arguments = func(*args, **kwargs), _name(func), [*args, *kwargs.values()]
        counts = [sum(id(tensor) in self.dependent for tensor in _tensors(argument)) for argument in arguments]
        if any(counts):
            output = args[0] if name == "setitem" else result
            if not _is_affine(name, counts, output):
                raise InputError("network", self.expected, f"one that calls {name} on what depends on its input")
            if name not in QUERIES | PROPERTIES:
                self.dependent |= {id(tensor): tensor for tensor in _tensors(output)}
        return result


def _name(func: Any) -> str:
    """Return a function's name, or the property's that a getter reads."""
    name = getattr(func, "__name__", repr(func))
    return getattr(func.__self__, "__name__", name) if name == "__get__" else name.split(".")[0].strip("_")


def _is_affine(name: str, counts: list[int], result: Any) -> bool:
    """Return whether a function is affine; ``counts`` has each argument's number of input-dependent tensors."""
    if name in QUERIES | PROPERTIES:
        return not any(counts[1:])
    if not all(tensor.is_floating_point() for tensor in _tensors(result)):
        return False  # a cast to integers
    if name in PRODUCTS:
        factors = counts[1:] if name.startswith(("add", "baddbmm")) else counts  # the first is a summand
        return sum(factors) <= 1 and not (name in QUOTIENTS and any(counts[1:]))
    if name in AVERAGES:
        return not any(counts[1:])
    return name in SUMS | MOVES | VIEWS or (name in CASTS and isinstance(result, Tensor))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
