from __future__ import annotations

import pytest
import torch

from latentopt.noise import Noise

KINDS = ["normal", "uniform"]


def draws(*restart: int, seed: int = 0) -> Noise:
    return Noise(seed, torch.tensor(restart))


def draw(kind: str, source: Noise, *key: int | str, shape: tuple[int, ...] = (5,), dtype=torch.float64):
    return getattr(source, kind)(torch.empty(len(source.restart), *shape, dtype=dtype), *key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_seed_and_key_give_the_same_numbers_in_the_shape_and_dtype_asked(kind, dtype):
    first, second = (draw(kind, draws(0, 1, 2, 3), "start", shape=(2, 3), dtype=dtype) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (4, 2, 3)
    assert first.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_key_or_restart_gives_other_numbers(kind):
    base = draw(kind, draws(0), "eta", 1, 2)
    others = [draw(kind, draws(0, seed=1), "eta", 1, 2), draw(kind, draws(1), "eta", 1, 2)]
    others += [draw(kind, draws(0), *key) for key in [("eta", 2, 1), ("eta", 12), ("eta", "1", 2), ("probe", 1, 2)]]
    assert all((base - other).abs().min() > 1e-6 for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_what_its_restart_gets_whatever_else_is_in_the_batch(kind):
    every = draw(kind, draws(0, 1, 2, 3), "start")
    assert torch.equal(draw(kind, draws(2, 0, 2), "start"), every[[2, 0, 2]])
    assert torch.equal(draw(kind, draws(3), "start"), every[3:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 5, 64])
def test_a_restart_gets_the_same_numbers_however_many_restarts_there_are(kind, size):
    few = draw(kind, draws(0, 1), "start", shape=(size,))
    many = draw(kind, draws(*range(9)), "start", shape=(size,))
    assert torch.equal(few, many[:2])


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw("normal", draws(0), "start")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw("normal", draws(0), "start"), first)


def test_normal_and_uniform_numbers_are_what_they_are_called():
    normal = draw("normal", draws(0), "start", shape=(40_000,))
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.square().mean().item() == pytest.approx(1, abs=0.03)
    assert normal.pow(4).mean().item() == pytest.approx(3, abs=0.15)
    uniform = draw("uniform", draws(0), "start", shape=(40_000,))
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.002)
