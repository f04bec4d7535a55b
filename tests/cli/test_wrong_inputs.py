"""Wrong inputs made from the signatures of all jobs and public functions: each is one line, and nothing is done.

The command line ends with exit code 2 and writes nothing; Python raises `InputError` before it works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from agents import write_agent
from files import call, contents, each_once, write_classifier, write_mnist, write_model
from torch import nn

import latentopt as lo
from latentopt.cli.registry import JOBS
from latentopt.errors import InputError

pytestmark = pytest.mark.slow

RIGHT = {
    "reconstruct": "reconstruct --model tiny --targets t.npy --limit 1 --steps 1 --restarts 1 --start random",
    "diagnose": "diagnose --model tiny --samples 2 --steps 1 --restarts 1 --start random",
    "attack": "attack --model net --data digits --eps 0.1 --limit 2 --optimizer pgd --steps 1",
    "attack-policy": "attack-policy --model agent.zip --algorithm PPO --env CartPole-v1 --eps 0.1 --episodes 1",
    "refine": "refine --agent agent.safetensors --env Pendulum-v1 --episodes 1 --refine-steps 1 --gif false",
    "train": "train train-mnist-cnn --data.root data --epochs 1 --name new",
    "train-rl": "train-rl pendulum-ddpg --seeds 1 --steps 10",
    "compare": "compare digits --methods adam --evaluations 4 --limit 1 --seeds 1",
    "analyze-dynamics": "analyze dynamics --model net --data digits --limit 2 --steps 1",
    "analyze-capped": "analyze capped --data mnist --root data --betas 0.1 --seeds 1 --epochs 1 --limit 2 --steps 1",
    "analyze-regions": "analyze regions --model random-2d --steps 1 --resolution 2",
    "analyze-certify": "analyze certify --model random-A --seeds 0 --seconds 1 --evaluations 64",
}
"""A right command of every job but `train-policy`, which needs Procgen."""
FOLDERS = ("out", "log")
WRONG_FOLDERS = ("", "taken", "taken/below")
WRONG = {
    int: ("x", "1.5", "nan", "-7", "99999999999999999999"),
    float: ("x", "nan", "inf", "-1", "1/0"),
    bool: ("perhaps", "2"),
    str: ("no-such", "../no-such", ""),
    dict: ("3", "[1]"),
    list: ("x", "[x]"),
    tuple: ("x", "[[1]]", "[[0, 4]]"),
}
COMPONENTS = ("nothing", "os.system", "no_such_package.Thing", "[1]", "3")
ALLOWED = {
    ("seed", "-7"): "a seed is any integer",
    ("name", "no-such"): "the name of a new model",
    ("noise", "3"): "a standard deviation",
    ("optimizers", ""): "certificates alone",
    **{("summary", text): "any text" for text in WRONG[str]},
}
"""What looks wrong and is right, with the reason."""


def kinds(hint: Any) -> list[Any]:
    """The types of a union, or the type."""
    return [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)] if str(hint).count("|") else [hint]


def wrong_values(name: str, hint: Any, component: bool) -> Iterator[str]:
    """Yield values that an option cannot have."""
    if component:
        yield from COMPONENTS
        return
    if name in FOLDERS:
        yield from WRONG_FOLDERS
        return
    found = list[str]()
    types = kinds(hint)
    for kind in types:
        origin = get_origin(kind) or kind
        if origin is Literal:
            found += [f"{get_args(kind)[0]}x", "-", "3.5"]
        else:
            found += WRONG.get(origin, ())
    if str in types:
        found = list(WRONG[str])
    yield from dict.fromkeys(found)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield a name and the words of each wrong command."""
    for job, right in RIGHT.items():
        words, cls = right.split(), JOBS[job].settings_class()
        components = cls.kinds()
        for name, hint in get_type_hints(cls).items():
            if name == "job" or name in JOBS[job].skip:
                continue
            for value in wrong_values(name, hint, name in components):
                if (name, value) not in ALLOWED:
                    yield f"{job} --{name} {value!r}", each_once([*words, f"--{name}", value])
            option = f"--{name[:-1]}{'y' if name[-1] == 'x' else 'x'}"
            yield f"{job} {option}", [*words, option, "1"]
        last = [word for word in words if word.startswith("--")][-1]
        yield f"{job} {last} twice", [*words, last, "1"]


COMMANDS = dict(commands())


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with what the right commands need."""
    folder = tmp_path_factory.mktemp("desk")
    write_model(folder / "tiny")
    write_classifier(folder / "net", 12)
    (folder / "data").mkdir()
    write_mnist(folder / "data", 8, 4)
    write_agent(folder / "agent.safetensors")
    np.save(folder / "t.npy", np.random.default_rng(0).random((2, 4, 4)))
    (folder / "taken").write_text("mine")
    with suppress(ImportError):
        from stable_baselines3 import PPO

        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(folder / "agent.zip")
    return folder


def needs_extra(job: str) -> None:
    if job in ("attack-policy", "refine", "train-rl"):
        pytest.importorskip("stable_baselines3")


@pytest.mark.parametrize("job", RIGHT)
def test_the_right_commands_are_right(desk, monkeypatch, capsys, job):
    needs_extra(job)
    monkeypatch.chdir(desk)
    told = call(capsys, *RIGHT[job].split(), "--dry-run")
    assert told.code == 0, told.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_is_one_line_and_writes_nothing(desk, monkeypatch, capsys, name):
    """Where a dry run cannot tell, as it builds nothing, the job tells before it begins."""
    needs_extra(name.split()[0])
    monkeypatch.chdir(desk)
    before, words = contents(desk), COMMANDS[name]
    if call(capsys, *words, "--dry-run", once=False).code != 0:
        line = refused_once(capsys, *words, "--dry-run")
    else:
        line = refused_once(
            capsys, *words, *["--wandb", "disabled"] * ("diagnose" not in words and "--wandb" not in words)
        )
    assert len(line) < 1500
    assert contents(desk) == before


def refused_once(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    told = call(capsys, *words, once=False)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1), told
    assert told.err.startswith("latentopt: error: ")
    return told.err


NET = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval().requires_grad_(False)
DECODER = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 2))).eval()
X, Y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
GENERATOR = lo.Generator(DECODER, latent_shape=(2,))
PROBLEM = lo.Problem(NET, lambda output: output.square().sum(1), shape=(1, 2, 2), batch=2)
CALLS: dict[str, dict[str, Any]] = {
    "attack": {"model": NET, "x": X, "y": Y, "eps": 0.1, "steps": 1, "optimizer": "pgd"},
    "carlini_wagner": {"model": NET, "x": X, "y": Y, "steps": 1, "binary_search_steps": 1},
    "minimum_norm": {"model": NET, "x": X, "y": Y, "search_steps": 1},
    "check_attack": {"model": NET, "x": X, "y": Y, "eps": 0.1, "steps": 1},
    "robustness": {"model": NET, "x": X, "y": Y, "eps": 0.1, "steps": 1, "queries": 1},
    "certify_robustness": {"model": NET, "x": X, "y": Y, "eps": 0.01, "seconds": 1.0},
    "reconstruct": {"generator": GENERATOR, "target": X, "steps": 1, "restarts": 1, "halving": (), "start": "random"},
    "diagnose": {"generator": GENERATOR, "samples": 2},
    "maximize": {"network": NET, "low": 0.0, "high": 1.0, "shape": (1, 2, 2), "steps": 1},
    "solve": {"problem": PROBLEM, "optimizer": "adam", "steps": 1},
    "compare": {"problem": PROBLEM, "methods": ["adam"], "evaluations": 4, "seeds": 1},
    "amplification": {"network": NET, "x": X, "labels": Y, "step": 0.1, "steps": 1},
    "compare_dynamics": {"network": NET, "x": X, "labels": Y, "step": 0.1, "steps": 1},
    "input_hessian_eigs": {"network": NET, "x": X, "labels": Y},
    "predict_perturbation": {"network": NET, "x": X, "labels": Y, "step": 0.1, "steps": 1},
    "load": {"model": "mnist-vae"},
    "Generator": {"module": DECODER, "latent_shape": (2,)},
    "Classifier": {"module": NET},
    "Problem": {"network": NET, "objective": lambda output: output.sum(1), "shape": (1, 2, 2), "batch": 2},
    "Stage": {},
    **{name: {} for name in ("Adam", "GD", "PGD", "APGD", "Momentum", "LBFGS", "CMAES", "CEM", "Square", "RowNorms")},
}
"""Right arguments of public functions and classes."""
WRONG_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "int": (0.5, "x", -3, float("nan"), [1], True),
    "float": ("x", float("nan"), -1.0, [1.0]),
    "Norm": ("l7", 2, None),
    "Tensor": ("x", None, torch.zeros(3, 3, 3), torch.full((2, 1, 2, 2), torch.nan), object()),
    "Optimizer": ("pdg", 3, object(), nn.Linear(1, 1)),
    "Callable": ("x", 3, None),
    "Loss": ("l7", 3),
    "Generator": ("x", 3, None, NET),
    "Problem": ("x", 3, None, NET),
    "Schedule": ("linera", 3),
    "bool": (),
}
RIGHT_ARGUMENTS = {
    ("seed", "-3"): "a seed is any integer",
    ("seeds", "[1]"): "seeds may be listed",
    **{(name, "[1]"): "a shape" for name in ("shape", "latent_shape", "input_shape")},
    **{(name, "[1.0]"): "one number for each channel" for name in ("mean", "std")},
    ("mean", "-1.0"): "a mean may be negative",
    **{("like", repr(value)): "only its dtype and device are used" for value in WRONG_ARGUMENTS["Tensor"]},
}
"""What looks wrong and is right, with the reason."""


def calls() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Yield a name, a function and wrong arguments of it."""
    for function, right in CALLS.items():
        made = getattr(lo, function)
        for name, parameter in inspect.signature(made).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            types = str(parameter.annotation).replace(" ", "").split("|")
            wrong = [value for kind in types for value in WRONG_ARGUMENTS.get(kind.split("[")[0], ())]
            optional = "None" in types
            for value in wrong:
                label = f"{function}({name}={str(value)[:20]!r})".replace("\n", " ")
                allowed = (value is None and optional) or (
                    isinstance(value, str) and "str" in types and name != "optimizer"
                )
                if not allowed and (name, repr(value)) not in RIGHT_ARGUMENTS:
                    yield label, made, {**right, name: value}


PYTHON = {f"{at}-{name}": (made, arguments) for at, (name, made, arguments) in enumerate(calls())}


@pytest.mark.parametrize("name", PYTHON)
def test_a_wrong_argument_is_an_input_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made, arguments = PYTHON[name]
    with pytest.raises(InputError) as caught:
        made(**arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_there_are_enough():
    assert len(COMMANDS) + len(PYTHON) >= 300
