"""One module in several hands at once: frozen as long as anybody needs it so, and afterwards as it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from loops import same_results
from nets import fitting, randn
from torch import Tensor, nn

import latentopt as lo
from latentopt.gates import mode, preactivations, sites
from latentopt.networks.freezing import frozen


def states(module: nn.Module) -> list[bool]:
    return [m.training for m in module.modules()] + [p.requires_grad for p in module.parameters()]


def dropping() -> nn.Sequential:
    """In training mode but for one layer, one of its parameters without gradients."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2)).double()
    network[1].eval()
    network[0].requires_grad_(False)
    return network


def test_the_last_one_out_brings_back_what_was():
    network = dropping()
    before = states(network)
    first, second = frozen(network), frozen(network)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not the last one in
    assert not any(states(network))
    second.__exit__(None, None, None)
    assert states(network) == before


def test_a_part_that_others_hold_stays_frozen():
    network = dropping()
    whole, before = nn.Sequential(network, nn.Dropout()), states(network)
    with frozen(whole):
        with frozen(network[3]):
            pass
        assert not any(states(whole))
    assert states(network) == before
    with frozen(network[2]):
        with frozen(whole):
            assert not any(states(whole))
        assert not network[2].training
        assert [whole.training, whole[1].training, network[3].training] == [True] * 3
    assert states(network) == before


def test_one_that_fails_holds_nothing():
    class Stubborn(nn.Linear):
        def train(self, mode: bool = True):
            raise RuntimeError("no")

    network = nn.Sequential(nn.Linear(1, 1), Stubborn(1, 1))
    before = states(network)
    with pytest.raises(RuntimeError, match="no"), frozen(network):
        pass
    with pytest.raises(KeyError), frozen(network[0]):
        raise KeyError
    assert states(network) == before


@pytest.mark.parametrize("method", ["adam", "adr-gd-soft"])
def test_a_solve_goes_on_as_it_would_alone_when_an_earlier_one_on_its_module_ends(method):
    network, before = dropping(), states(dropping())
    first_runs, second_runs = threading.Event(), threading.Event()

    def call(*callbacks, steps: int = 10) -> lo.Result:
        return lo.solve(fitting(network, (3,), randn(4, 2)), method, steps=steps, callbacks=callbacks)

    def first(progress) -> None:
        first_runs.set()
        assert second_runs.wait(60)

    def second(progress) -> None:
        second_runs.set()
        if progress.t == 3:
            earlier.result()

    alone = call()
    with ThreadPoolExecutor(1) as pool:
        earlier = pool.submit(call, first, steps=2)
        assert first_runs.wait(60)
        assert same_results(call(second), alone)
    assert states(network) == before


def test_many_threads_at_once_find_what_one_finds():
    network, target = dropping(), randn(4, 2)
    before = states(network)

    def call(seed: int) -> Tensor:
        return lo.solve(fitting(network, (3,), target), "adam", steps=8, restarts=2, seed=seed).x

    expected = [call(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert all(map(torch.equal, pool.map(call, range(8)), expected))
    assert states(network) == before


def test_the_compiler_s_stance_comes_back_with_the_last_one_out(monkeypatch):
    stances = ["default"]

    class Stance:
        def __init__(self, stance: str) -> None:
            self.before = stances[-1]
            stances.append(stance)

        def __exit__(self, *error: object) -> None:
            stances.append(self.before)

    monkeypatch.setattr(torch.compiler, "set_stance", Stance)
    monkeypatch.setitem(mode.sys.modules, "torch._dynamo", torch)
    mode._EAGER.__enter__()
    mode._EAGER.__enter__()
    mode._EAGER.__exit__(None, None, None)
    assert stances[-1] == "force_eager"
    preactivations(nn.ReLU(), torch.zeros(1, 2))
    mode._EAGER.__exit__(None, None, None)
    assert stances == ["default", "force_eager", "default"]


class Meddled(nn.Module):
    """Whenever the first thread has called its inner layer, another calls it with something else."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.first = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), threading.get_ident()

    def forward(self, x: Tensor) -> Tensor:
        features = self.inner[0](x)
        if threading.get_ident() == self.first:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(self.inner[0], torch.full((1, 3), 9.0)).result()
        return self.inner[1](features)


def test_what_another_thread_calls_meanwhile_is_not_taken_for_the_own():
    module = Meddled().eval()
    one, two = torch.rand(4, 3), torch.rand(4, 3)
    expected = (module.inner[0](one) - module.inner[0](two)).square().mean(1)
    assert torch.equal(lo.objectives.Features(module, "inner.0")(one, two), expected)
    assert [site.module for site in sites(module, one)] == ["inner.1"]


def test_another_thread_s_pass_may_end_while_sites_are_listed():
    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.get_ident() != own:
                begun.set()
                assert hooked.wait(60)
            else:
                hooked.set()
                other.result()
            return x.relu()

    own, begun, hooked, module = threading.get_ident(), threading.Event(), threading.Event(), Late()
    whole = nn.Sequential(module)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(whole, torch.zeros(1, 2))
        assert begun.wait(60)
        assert [site.module for site in sites(whole, torch.zeros(1, 2))] == ["0"]
