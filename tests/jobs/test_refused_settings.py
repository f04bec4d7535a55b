"""Settings that analyses and trainings of agents do not take: refused by name, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

import pytest
from agents import PENDULUM, SMALL
from files import write_classifier
from nets import refuses

CAPPED = "latentopt.jobs.analyze.capped.capped"
CERTIFY = "latentopt.jobs.analyze.certify.certify"
DYNAMICS = "latentopt.jobs.analyze.dynamics.dynamics"
REGIONS = "latentopt.jobs.analyze.regions.regions"
TRAIN_RL = "latentopt.jobs.train_rl.train_rl"
TRAIN_POLICY = "latentopt.jobs.train_policy.train_policy"
RIGHT: dict[str, dict[str, Any]] = {
    CAPPED: {"data": "digits", "betas": "0.5", "seeds": 1, "epochs": 1, "limit": 20, "steps": 3, "queries": 5},
    CERTIFY: {},
    DYNAMICS: {"model": "MODEL", "data": "digits", "limit": 12, "steps": 4, "device": "cpu"},
    REGIONS: {"steps": 5, "resolution": 20},
    TRAIN_POLICY: {"name": "mine", "summary": "a test", "game": "coinrun"},
    TRAIN_RL: {**SMALL, "env": PENDULUM, "steps": 60, "seeds": 2},
}


def each(job: str, **values: list[Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """One case for each wrong value of each setting."""
    return ((job, {name: value}, name) for name, wrong in values.items() for value in wrong)


WRONG = [
    *each(CAPPED, betas=["0.1,x", "-1"], training=["pgd", "plain,plain"], network=["rnn"], seeds=[0]),
    *each(CERTIFY, model=["random-Z"], evaluations=[0], limit=[0], seconds=[0.0], tolerance=[-1.0], seeds=["x"]),
    (CERTIFY, {"model": "digits"}, "eps"),
    (CERTIFY, {"model": "digits", "eps": -1.0}, "eps"),
    (CERTIFY, {"model": "no-such-classifier", "eps": 0.1}, "model"),
    (CERTIFY, {"optimizers": "pgd,guess"}, "optimizer"),
    *each(DYNAMICS, steps=[0], batch_size=[0], step=[-1.0], growth=[[0.1, 0.0]], noise=[-0.1]),
    *each(DYNAMICS, device=["nowhere"], wandb=["maybe"]),
    (DYNAMICS, {"step": 0.1, "growth": [0.1]}, "growth"),
    (DYNAMICS, {"data": "mnist", "root": "/nowhere"}, "data set mnist"),
    *each(REGIONS, steps=[0], resolution=[0, 1], max_crossings=[0], seed=[-1], step=[0.0, -1.0], wandb=["maybe"]),
    *each(REGIONS, widths=["2-a-1", "3-4-1", "2-1"], optimizers=["gd,nothing", "gd,gd"]),
    (REGIONS, {"model": "mnist-cnn"}, "data"),
    (REGIONS, {"model": "mnist-cnn", "data": "digits"}, "data"),
    (REGIONS, {"model": "mnist-cnn", "data": "digits", "eps": -1.0}, "eps"),
    *each(TRAIN_RL, env=["CartPole-v1"], steps=[0], optimizer=["gda"], hidden=[[0]], seeds=[0], wandb=["on"]),
    *each(TRAIN_RL, algorithm=["ppo"]),
    (TRAIN_RL, {"env": "NoSuch-v0"}, "env"),
    *each(TRAIN_POLICY, envs=[0], rollout=[1.5], epochs=[0], batch_size=[0], lr=[0.0], gamma=[1.1, -1.0]),
    *each(TRAIN_POLICY, entropy=[-1.0], channels=[(16, 0)], hidden=[0], stop=[0], repeat=[0], game=["pong"]),
    (TRAIN_RL, {"optimizer": "gd-critic", "epsilon": 2.0}, "epsilon"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("model") / "m", hidden=30))


@pytest.mark.parametrize(("job", "changes", "name"), WRONG)
def test_wrong_settings_are_refused_before_anything_is_written(model, tmp_path, job, changes, name):
    if job == TRAIN_RL:
        pytest.importorskip("gymnasium")
        pytest.importorskip("stable_baselines3")
    settings = {"wandb": "disabled", **RIGHT[job], **changes, "out": str(tmp_path / "out")}
    settings |= {"model": model} if settings.get("model") == "MODEL" else {}
    with refuses(name):
        resolve_name(job)(**settings)
    assert not (tmp_path / "out").exists()
