from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import torch
from loops import same
from nets import randn
from torch import Tensor

from latentopt.pytree import decode, encode, set_rows, take


class Inner(NamedTuple):
    t: int
    mean: Tensor


class Outer(NamedTuple):
    t: int
    inner: Inner
    gates: tuple[Tensor, ...]
    fresh: Tensor
    scale: float


def state(gates: int = 2, batch: int = 4) -> Outer:
    return Outer(3, Inner(5, randn(batch, 2)), tuple(randn(batch, g + 1) for g in range(gates)), torch.ones(batch), 0.1)


def test_rows_are_taken_of_tensors_and_the_rest_is_shared():
    whole, mask = state(), torch.tensor([True, False, True, False])
    part = take(whole, mask)
    assert (part.t, part.inner.t, part.scale) == (3, 5, 0.1)
    assert torch.equal(part.inner.mean, whole.inner.mean[[0, 2]])
    assert [torch.equal(a, b[[0, 2]]) for a, b in zip(part.gates, whole.gates, strict=True)] == [True, True]
    assert isinstance(part.inner, Inner)


def test_rows_are_replaced_in_tensors_and_the_rest_is_shared():
    whole, mask = state(), torch.tensor([False, True, True, False])
    before = whole.inner.mean.clone()
    fresh = Outer(0, Inner(0, torch.zeros(2, 2).double()), (), torch.zeros(2), 9.0)
    merged = set_rows(whole, fresh, mask)
    assert (merged.t, merged.inner.t, merged.scale) == (3, 5, 0.1)
    assert torch.equal(merged.inner.mean[1:3], fresh.inner.mean)
    assert torch.equal(merged.inner.mean[[0, 3]], whole.inner.mean[[0, 3]])
    assert merged.gates is whole.gates  # the fresh state does not know them yet
    assert merged.fresh.tolist() == [1, 0, 0, 1]
    assert torch.equal(whole.inner.mean, before)


@pytest.mark.parametrize("template_gates", [0, 2])
def test_what_is_read_back_is_what_was_written(template_gates):
    whole, tensors = state(), {}
    code = json.loads(json.dumps(encode(whole, tensors)))
    again = decode(code, tensors, state(template_gates, batch=1), torch.device("cpu"))
    assert type(again) is Outer
    assert type(again.inner) is Inner
    assert (again.t, again.inner.t, again.scale) == (3, 5, 0.1)
    assert type(again.t) is int
    assert same(again.inner.mean, whole.inner.mean)
    assert all(same(a, b) for a, b in zip(again.gates, whole.gates, strict=True))


@pytest.mark.parametrize("number", [0, -7, True, None, 0.1 + 0.2, 5e-324, float("inf"), -float("inf")])
def test_numbers_stay_numbers(number):
    again = decode(json.loads(json.dumps(encode(number, {}))), {}, 0, torch.device("cpu"))
    assert type(again) is type(number)
    assert again == number


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.long, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4, 5)])
def test_tensors_keep_type_layout_and_every_bit(dtype, shape):
    tensors: dict[str, Tensor] = {}
    value = (10 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    if len(shape) == 4:
        value = value.to(memory_format=torch.channels_last)
    again = decode(encode({"a": (value, value)}, tensors), tensors, {}, torch.device("cpu"))["a"]
    assert len(tensors) == 2
    for tensor in again:
        assert (tensor.dtype, tensor.stride()) == (dtype, value.stride())
        assert torch.equal(tensor, value)


def test_nan_keeps_its_bits_and_what_shares_memory_is_written_apart():
    nan = torch.tensor([1.0, torch.nan]).expand(3, 2)
    tensors: dict[str, Tensor] = {}
    assert same(decode(encode(nan, tensors), tensors, nan, torch.device("cpu")), nan.contiguous())
    assert all(tensor.untyped_storage().nbytes() == 24 for tensor in tensors.values())
