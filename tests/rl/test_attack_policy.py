"""Attacks on policies: linear ones have an exact answer; agents of stable-baselines3 are attacked as they act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import randn, refill, refuses
from torch import Tensor, nn

from latentopt.networks.classifier import Classifier
from latentopt.optimizers import ADRGD, PGD, SoftGates
from latentopt.rl.attack_policy import attack_policy
from latentopt.rl.policy_network import PolicyNetwork
from latentopt.sets import Norm

sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")
gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (the extra rl)")


def linear(outputs: int, inputs: int = 6, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs).double()
    refill(layer, seed)
    return layer


def dual(norm: Norm) -> int:
    """The order of the dual norm."""
    return 1 if norm == "linf" else 2


def least_eps(policy: nn.Linear, x: Tensor, norm: Norm) -> Tensor:
    """The radius (B,) from which on a linear policy can be made to leave its action: Hölder's inequality."""
    logits = policy(x)
    action = logits.argmax(1)
    gap = logits.gather(1, action[:, None]) - logits
    slope = policy.weight[action][:, None] - policy.weight
    return (gap / slope.norm(p=dual(norm), dim=2)).scatter(1, action[:, None], torch.inf).amin(1).detach()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_policy_leaves_its_action_just_beyond_the_exact_radius(norm: Norm) -> None:
    policy, x = linear(2), randn(20, 6, seed=1)
    eps = least_eps(policy, x, norm)
    assert attack_policy(policy, x, 1.001 * eps, norm=norm, steps=20).success.all()
    assert not attack_policy(policy, x, 0.999 * eps, norm=norm, steps=20).success.any()
    policy, x = linear(4), randn(10, 6, seed=5)
    aimed = attack_policy(policy, x, 3.0, norm="linf", targets="least-likely", steps=50)
    assert torch.equal(aimed.actions[1], policy(x).argmin(1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_mean_of_a_linear_policy_moves_as_far_as_it_can(norm: Norm) -> None:
    policy, x = linear(1), randn(9, 6, seed=1)
    found = attack_policy(policy, x, 0.3, norm=norm, kind="continuous", steps=30)
    farthest = 0.3 * policy.weight.norm(p=dual(norm))
    torch.testing.assert_close(found.moved, farthest.detach().expand(9), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.moved, (policy(found.observations) - policy(x)).abs()[:, 0].detach())


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 2), st.sampled_from(["linf", "l2"]), st.sampled_from(["discrete", "continuous"]))
def test_observations_stay_in_the_ball_and_the_figures_are_theirs(eps: float, norm: Norm, kind) -> None:
    policy, x = refill(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), 0), randn(5, 6, seed=2)
    found = attack_policy(policy, x, eps, norm=norm, kind=kind, steps=5)
    change = found.observations - x
    lengths = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (lengths <= eps + 1e-6).all()
    torch.testing.assert_close(found.distance, lengths)
    torch.testing.assert_close(found.after, policy(found.observations).detach())
    if eps == 0:
        assert torch.equal(found.observations, x)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("optimizer", ["pgd", "apgd", "adr-gd", "adr-gd-paper", "adr-gd-reference", "portfolio"])
def test_a_batch_gives_what_its_observations_give_alone(kind, optimizer: str) -> None:
    policy, x = refill(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), 0), randn(3, 6, seed=3)
    settings: dict[str, Any] = {} if optimizer == "portfolio" else {"steps": 6, "restarts": 2}
    # Within 1.5 some gates flip; where none does, opposite corners are as far and rounding chooses between them.
    settings |= {"kind": kind, "optimizer": optimizer, "seed": 4}
    whole = attack_policy(policy, x, 1.5, **settings)
    for at in range(3):
        alone = attack_policy(policy, x[at : at + 1], 1.5, **settings)
        torch.testing.assert_close(alone.observations[0], whole.observations[at])
        assert alone.forwards[0] == whole.forwards[at]
        assert alone.backwards[0] == whole.backwards[at]


def images(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(("norm", "eps", "reach"), [("linf", 3.9 / 255, 3), ("linf", 3 / 255, 3), ("l2", 0.5, 127.5)])
def test_images_change_by_whole_bytes_within_the_ball(norm: Norm, eps: float, reach: float) -> None:
    policy = Classifier(nn.Sequential(nn.Flatten(), linear(4, 192).float()), input_shape=(3, 8, 8))
    clean = images()
    found = attack_policy(policy, clean, eps, norm=norm, steps=20)
    assert found.observations.dtype == np.uint8
    assert found.observations.shape == clean.shape
    change = (found.observations.astype(float) - clean).reshape(4, -1)
    lengths = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert (lengths <= reach + 1e-9).all()
    assert (lengths > 0).any()
    np.testing.assert_allclose(found.distance, lengths / 255, rtol=1e-5)
    own = policy(torch.from_numpy(found.observations).permute(0, 3, 1, 2) / 255).detach()
    torch.testing.assert_close(found.after, own)
    assert torch.equal(found.success, own.argmax(1) != found.before.argmax(1))


def test_a_linear_policy_of_bytes_is_attacked_to_the_last_byte() -> None:
    layer = linear(2, 192).float()
    policy = Classifier(nn.Sequential(nn.Flatten(), layer), input_shape=(3, 8, 8))
    clean = images(8).clip(10, 245)
    found = attack_policy(policy, clean, 3 / 255, steps=20, optimizer=PGD(), loss="margin")
    slope = (layer.weight[0] - layer.weight[1]).abs().sum() * 3 / 255
    gap = (found.before[:, 0] - found.before[:, 1]).abs()
    clear = (gap / slope - 1).abs() > 1e-4
    assert torch.equal(found.success[clear], (gap < slope)[clear])


def agent(kind: str, env: str, activation: type[nn.Module] = nn.ReLU):
    settings = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [16], "activation_fn": activation}}
    return getattr(sb3, kind)("MlpPolicy", gymnasium.make(env), **settings)


@pytest.mark.parametrize(
    ("kind", "env"),
    [(kind, "CartPole-v1") for kind in ("PPO", "A2C", "DQN")]
    + [(kind, "Pendulum-v1") for kind in ("PPO", "TD3", "DDPG", "SAC")],
)
def test_agents_act_on_what_is_returned_as_it_says(kind: str, env: str) -> None:
    model = agent(kind, env)
    x = np.random.default_rng(0).normal(size=(6, *model.observation_space.shape)).astype(np.float32) * 0.1
    state = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    trained = [parameter.requires_grad for parameter in model.policy.parameters()]
    found = attack_policy(model, x, 0.05, steps=10)
    network = PolicyNetwork(model)
    for observations, output in ((x, found.before), (found.observations, found.after)):
        acted = model.predict(observations, deterministic=True)[0]
        np.testing.assert_allclose(network.actions(output, model.action_space), acted, rtol=1e-5, atol=1e-6)
    assert np.abs(found.observations - x).max() <= 0.05 + 1e-6
    assert (found.moved > 0).all() or found.discrete
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.policy.state_dict().items())
    assert trained == [parameter.requires_grad for parameter in model.policy.parameters()]


def test_a_bad_observation_or_policy_is_refused() -> None:
    policy, x = linear(3).float(), torch.zeros(2, 6)
    cases: list[tuple[tuple[str, ...], Any, Any, Any, dict[str, Any]]] = [
        (("observations", "NaN"), policy, x * torch.nan, 0.1, {}),
        (("observations", "uint8 or floating"), policy, x.long(), 0.1, {}),
        (("observations", "what the policy takes"), policy, torch.zeros(2, 5), 0.1, {}),
        (("observations", "B >= 1"), policy, torch.zeros(0, 6), 0.1, {}),
        (("observations", "values in the"), policy, x - 1, 0.1, {"input_range": (0, 1)}),
        (("eps", "from 0"), policy, x, -0.1, {}),
        (("eps", "from 0"), policy, x, float("nan"), {}),
        (("norm",), policy, x, 0.1, {"norm": "l1"}),
        (("kind",), policy, x, 0.1, {"kind": "both"}),
        (("policy", "K >= 2"), linear(1).float(), x, 0.1, {}),
        (("policy", "a module or a function"), object(), x, 0.1, {}),
        (("policy", "finite"), lambda x: x / 0, x + 1, 0.1, {}),
        (("optimizer",), policy, x, 0.1, {"optimizer": "newton"}),
        (("loss", "continuous"), policy, x, 0.1, {"kind": "continuous", "loss": "ce"}),
        (("targets", "continuous"), policy, x, 0.1, {"kind": "continuous", "targets": "random"}),
    ]
    model, vectors = agent("PPO", "CartPole-v1"), np.zeros((2, 4), np.float32)
    cases += [
        (("observations", "(B, 4)"), model, vectors[:, 1:], 0.1, {}),
        (("observations", "float32"), model, vectors.astype(np.uint8), 0.1, {}),
        (("kind", "Discrete(2)"), model, vectors, 0.1, {"kind": "continuous"}),
    ]
    for words, attacked, observations, eps, options in cases:
        with refuses(*words):
            attack_policy(attacked, observations, eps, **options)
    smooth, x = agent("PPO", "Pendulum-v1", nn.Tanh), np.zeros((1, 3), np.float32)
    with refuses("network"):
        attack_policy(smooth, x, 0.1, optimizer=ADRGD(SoftGates(), PGD()), steps=2)
    assert attack_policy(smooth, x, 0.1, optimizer="portfolio").moved[0] > 0  # which does without gates
