"""Agents from safetensors files are the modules that their tensors are of, or they are refused."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from codes import CleanRLActor, CleanRLCritic, TD3Actor, TD3Critic, named
from nets import randn, refuses
from safetensors.torch import save_file
from torch import Tensor, nn

from latentopt.rl.actor_critic import load_actor_critic
from latentopt.rl.agent_tensors import ACTIVATIONS
from latentopt.rl.agents import load_agent
from latentopt.rl.fast.chains import chains_of
from latentopt.rl.refine import Refiner
from latentopt.rl.rollout import make_environment

sb3 = pytest.importorskip("stable_baselines3")
LOW, HIGH = torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 0.5])


class Uneven(gymnasium.Env):
    """Three numbers, and two actions with ranges of their own."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(LOW.numpy(), HIGH.numpy())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        return self.np_random.normal(size=3).astype(np.float32), float(np.sum(action)), False, True, {}


@pytest.fixture
def saved(tmp_path):
    """Writes tensors to a file, and says which."""

    def save(tensors: dict[str, Tensor], **metadata: str):
        whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        save_file(whole, tmp_path / "a.safetensors", metadata)
        return tmp_path / "a.safetensors"

    return save


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def same(mine: Tensor, theirs: Tensor, tolerance: float = 1e-6) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() <= tolerance * (1 + theirs.abs().max())


def policy_of(kind: str, **settings) -> Any:
    settings = {"net_arch": [16, 12], **settings}
    return getattr(sb3, kind)("MlpPolicy", "Pendulum-v1", policy_kwargs=settings, seed=0, device="cpu").policy


def agree(agent, actor, critics, factor: float | Tensor = 1.0, offset: float | Tensor = 0.0) -> None:
    """The agent's actor and critics give what others give, whose critics take actions ``offset + factor u``."""
    s, u = 3 * randn(9, agent.sizes[0]).float(), randn(9, agent.sizes[1]).float().clamp(-1, 1)
    with torch.no_grad():
        same(agent.actor(s), actor(s))
        same(torch.cat(agent.critics(s, u), 1), torch.cat(critics(s, offset + factor * u), 1))


def actor_of(policy) -> Any:
    return lambda s: policy.actor(s, deterministic=True) if hasattr(policy.actor, "log_std") else policy.actor(s)


@pytest.mark.parametrize("kind", ["SAC", "TD3", "DDPG"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("by", ["argument", "metadata"])
def test_stable_baselines3_with_any_activation(kind, activation, by, saved):
    policy = policy_of(kind, activation_fn=ACTIVATIONS[activation])
    path = saved(policy.state_dict(), **({"activation": activation} if by == "metadata" else {}))
    agree(load_agent(path, activation=activation if by == "argument" else None), actor_of(policy), policy.critic)


def test_without_a_named_activation_it_is_relu(saved):
    policy, s = policy_of("TD3", activation_fn=nn.Tanh), randn(9, 3).float()
    with torch.no_grad():
        off = (load_agent(saved(policy.state_dict())).actor(s) - policy.actor(s)).abs().max()
    assert off > 1e-3


@pytest.mark.parametrize("layers", [5, 6, 11])
def test_layers_are_taken_in_the_order_of_their_numbers(layers, saved):
    policy = policy_of("SAC", net_arch=[6] * layers)
    agree(load_agent(saved(policy.state_dict())), actor_of(policy), policy.critic)
    actor, critic = TD3Actor((3, *[6] * layers, 1)), TD3Critic((4, *[6] * layers, 1))
    agree(load_agent(saved(named(actor=actor, critic=critic))), actor, critic)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_every_critic_is_there_in_order(count, saved):
    policy = policy_of("TD3", n_critics=count)
    agent = load_agent(saved(policy.state_dict()))
    agree(agent, policy.actor, policy.critic)
    assert len(agent.critics.networks) == count


@pytest.mark.parametrize("twins", [1, 2])
def test_the_names_of_the_authors_of_td3(twins, saved):
    actor, critic = TD3Actor((3, 8, 6, 1), reach=2.0), TD3Critic((4, 8, 6, 1), twins)
    half = lambda s: actor(s) / 2  # noqa: E731
    path = saved(named(actor=actor, critic=critic))
    agree(load_agent(path, make_environment("Pendulum-v1")), half, critic, 2.0)  # whose actions reach 2
    agree(load_agent(path), half, critic)  # nothing gives their range
    agree(load_agent(saved(named(actor=actor, critic=critic), action_scale="2.0")), half, critic, 2.0)


def test_critics_in_modules_of_their_own(saved):
    actor, critics = TD3Actor((3, 8, 1)), {f"critic_{at}": TD3Critic((4, 8, 1), 1) for at in (1, 2, 10)}
    agent = load_agent(saved(named(actor=actor, **critics)))
    agree(agent, actor, lambda s, a: [critic(s, a)[0] for critic in critics.values()])


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_names_and_the_scale_of_cleanrl(stochastic, saved):
    actor = CleanRLActor(3, LOW, HIGH, stochastic)
    critics = [CleanRLCritic(3, 2), CleanRLCritic(3, 2)]
    targets = {"target_actor": actor, "qf1_target": critics[0], "qf2_target": critics[1]}
    path = saved(named(actor=actor, qf1=critics[0], qf2=critics[1], **targets))
    agent, s = load_agent(path), 3 * randn(9, 3).float()
    normed = lambda s: (actor(s) - actor.action_bias) / actor.action_scale  # noqa: E731
    agree(agent, normed, lambda s, a: [critic(s, a) for critic in critics], actor.action_scale, actor.action_bias)
    player = load_actor_critic(path, Uneven())
    with torch.no_grad():
        same(torch.from_numpy(player.unscale(player.actor(s.numpy()))), actor(s))
        if stochastic:
            assert agent.actor.log_std is not None
            same(agent.actor.log_std(agent.actor.body(s)), actor.log_std(s))
    assert chains_of(agent.critics)
    found = Refiner(player.critic, -1.0, 1.0, 0.5, "gd-critic", 10)(s.numpy(), player.actor(s.numpy()))
    with torch.no_grad():
        own = torch.from_numpy(player.unscale(found.action.numpy()))
        value = torch.stack([critic(s, own)[:, 0] for critic in critics]).min(0).values
    same(found.after, value, 1e-5)
    assert found.gain.max() > 0
    with refuses("Pendulum-v1"):
        load_agent(path, make_environment("Pendulum-v1"))
    elsewhere = saved(named(actor=CleanRLActor(3, LOW[:1], HIGH[:1]), qf1=CleanRLCritic(3, 1)))
    with refuses("Pendulum-v1", "scale and bias [1.5] and [-0.5]"):
        load_agent(elsewhere, make_environment("Pendulum-v1"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_other_precision(dtype, saved):
    actor, critic = TD3Actor((3, 8, 1)).to(dtype), TD3Critic((4, 8, 1)).to(dtype)
    path = saved(named(actor=actor, critic=critic))
    player, wide = load_actor_critic(path, make_environment("Pendulum-v1")), torch.float64
    s = randn(5, 3)
    with torch.no_grad():
        same(torch.from_numpy(player.actor(s.numpy())).double(), actor.to(wide)(s), 1e-6)
    both = load_agent(saved(named(actor=TD3Actor((3, 8, 1)), critic=TD3Critic((4, 8, 1)).double())))
    assert {each.dtype for each in (*both.actor.parameters(), *both.critics.parameters())} == {wide}
    found = Refiner(player.critic, -1.0, 1.0, 0.5, "adam-critic", 5)(s.numpy(), player.actor(s.numpy()))
    with torch.no_grad():
        same(found.after.double(), torch.cat(critic.to(wide)(s, 2 * found.action.to(wide)), 1).min(1).values, 1e-5)


def test_an_example_in_the_file_is_held_to(saved):
    policy, s = policy_of("TD3", activation_fn=nn.ELU), randn(4, 3).float()
    with torch.no_grad():
        a = policy.actor(s)
        example = {"example.observations": s, "example.actions": a, "example.values": torch.cat(policy.critic(s, a), 1)}
    tensors = {**policy.state_dict(), **example}
    load_agent(saved(tensors), activation="elu")
    with refuses(str(saved(tensors)), "is activation or action_scale another?"):
        load_agent(saved(tensors))
    cleanrl = CleanRLActor(3, LOW, HIGH)
    tensors = named(actor=cleanrl, qf1=CleanRLCritic(3, 2)) | {"example.observations": s}
    with torch.no_grad():
        load_agent(saved(tensors | {"example.actions": cleanrl(s)}))
        with refuses(str(saved(tensors)), "others, by up to"):
            load_agent(saved(tensors | {"example.actions": torch.tanh(cleanrl(s))}))
    with refuses(str(saved(tensors)), "example.rewards"):
        load_agent(saved(tensors | {"example.rewards": s}))


def good() -> dict[str, Tensor]:
    return policy_of("SAC").state_dict()


class Extractor(nn.Module):
    """Leaves as many numbers as come in, so that sizes fit without it."""

    def __init__(self, space) -> None:
        super().__init__()
        self.features_dim, self.layer = 3, nn.Linear(3, 3)

    def forward(self, s: Tensor) -> Tensor:
        return self.layer(s)


def layer(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(outputs, inputs), f"{name}.bias": torch.ones(outputs)}


def gsde() -> dict[str, Tensor]:
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs={"net_arch": [8]}, device="cpu")
    return model.policy.state_dict()


def renamed(**names: str) -> dict[str, Tensor]:
    """A good agent, with parts of its names replaced."""
    tensors = good()
    for old, new in names.items():
        tensors = {name.replace(old.replace("__", "."), new): tensor for name, tensor in tensors.items()}
    return tensors


def td3() -> dict[str, Tensor]:
    return named(actor=TD3Actor((3, 8, 1)), critic=TD3Critic((4, 8, 1)))


REFUSED = {
    "an extractor of both": (lambda: policy_of("SAC", features_extractor_class=Extractor).state_dict(), "extractor"),
    "an extractor of the critic": (
        lambda: good() | layer("critic.features_extractor.0", 4, 4),
        "critic.features_extractor.0",
    ),
    "an extractor of the actor": (
        lambda: good() | layer("actor.features_extractor.0", 3, 3),
        "actor.features_extractor.0.weight",
    ),
    "gSDE": (gsde, "log_std"),
    "layer norm": (
        lambda: td3() | {"actor.ln1.weight": torch.ones(8), "actor.ln1.bias": torch.zeros(8)},
        "ln1",
    ),
    "something between the layers": (lambda: renamed(qf0__2="qf0.3", qf0__4="qf0.6"), "layers 0, 2, 4 of critic.qf0"),
    "a missing layer": (lambda: {k: v for k, v in good().items() if ".qf0.2." not in k}, "layers 0, 2"),
    "a layer without bias": (lambda: {k: v for k, v in good().items() if k != "critic.qf1.2.bias"}, "critic.qf1.2"),
    "names of no code": (lambda: renamed(latent_pi="trunk"), "actor.trunk.0"),
    "two codes": (lambda: good() | named(qf1=CleanRLCritic(3, 1)), "critics that are named alike"),
    "a scale without its code": (lambda: good() | {"actor.action_scale": torch.ones(1)}, "actor.action_scale"),
    "anything else": (lambda: good() | {"log_ent_coef": torch.zeros(1)}, "log_ent_coef"),
    "whole numbers": (lambda: good() | {"actor.mu.weight": torch.ones(1, 12, dtype=torch.long)}, "actor.mu.weight"),
    "NaN": (lambda: good() | {"actor.mu.bias": torch.full((1,), torch.nan)}, "actor.mu.bias"),
    "an actor alone": (lambda: {k: v for k, v in good().items() if k.startswith("actor")}, "an actor and its critics"),
    "a policy without such a critic": (
        lambda: sb3.PPO("MlpPolicy", "Pendulum-v1", device="cpu").policy.state_dict(),
        "an actor and its critics",
    ),
    "quantiles": (lambda: good() | layer("critic.qf0.4", 12, 25), "4 to 25"),
    "critics of other sizes": (
        lambda: named(actor=TD3Actor((3, 8, 1)), critic_1=TD3Critic((5, 8, 1), 1)),
        "critics of 4 numbers to one",
    ),
    "layers that do not fit": (lambda: good() | {"critic.qf0.4.weight": torch.zeros(1, 7)}, "of 12 inputs"),
    "a convolution": (lambda: good() | {"critic.qf0.0.weight": torch.zeros(16, 4, 1)}, "a linear layer"),
    "a critic that takes actions later": (
        lambda: named(actor=TD3Actor((3, 8, 1))) | layer("critic.l1", 3, 8) | layer("critic.l2", 9, 1),
        "critic.l2 of 8 inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_exactly_is_refused_by_name(case, saved):
    tensors, words = REFUSED[case]
    path = saved(tensors())
    with refuses(str(path), words):
        load_agent(path)


def test_activations_are_asked_for_once(saved):
    for named_there, named_here, words in (
        ({"activation": "tanh"}, "elu", "tanh, as"),
        ({"activation": "tanh"}, "mish", "one of relu"),
        ({"activation": "swish"}, None, "one of relu"),
    ):
        path = saved(good(), **named_there)
        with refuses("activation", words):
            load_agent(path, activation=named_here)
    with refuses(str(path), "a number or a list of numbers"):
        load_agent(saved(good(), action_scale="wide"))
