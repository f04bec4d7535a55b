from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from files import QUICK, ROOT, blobs, call, contents, own_images, table, write_classifier, write_mnist, write_png
from nets import near
from safetensors.torch import load_file

import latentopt as lo
from latentopt import operators
from latentopt.zoo import cards

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def recipes_of(job: str) -> list[str]:
    return [name for name in RECIPES if f"\njob: {job}\n" in (ROOT / "recipes" / f"{name}.yaml").read_text()]


def recipe_of(folder) -> dict:
    return yaml.safe_load((folder / "recipe.yaml").read_text())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_command(capsys, words):
    said = call(capsys, *words)
    assert (said.code, said.err) == (0, "")
    assert all(name in said.out for name in ("reconstruct", "attack", "run", "train", "recipes", "models"))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["reconstruct", "--help"], ("--targets", "--operator", "--optimizer", "--steps", "--wandb")),
        (["attack", "--help"], ("--data", "--eps", "--norm", "--targeted", "--targets", "--optimizer", "--limit")),
        (["run", "digits", "--help"], ("--model", "--restarts", "--seed", "--out", "--device")),
        (["train", "train-mnist-vae", "-h"], ("--epochs", "--seed", "--out")),
    ],
)
def test_a_commands_help_names_its_options(capsys, words, options):
    said = call(capsys, *words)
    assert said.code == 0
    assert all(option in said.out for option in options)


def test_the_version_is_the_packages(capsys):
    assert call(capsys, "--version") == (0, f"{lo.__version__}\n", "")


def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "latentopt", "recipes", "lost"], capture_output=True, text=True)
    assert done.returncode == 2
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("latentopt: error: recipes: ")


def test_models_are_listed_and_shown(capsys):
    listed = call(capsys, "models", "list")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == cards.names()
    for name in cards.names():
        said = call(capsys, "models", "show", name)
        assert (said.code, said.err) == (0, "")
        assert yaml.safe_load(said.out)["name"] == name


def test_recipes_are_listed_and_shown(capsys):
    listed = call(capsys, "recipes", "list")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == RECIPES
    assert all(len(line.split()) > 3 for line in listed.out.splitlines())
    for name in RECIPES:
        assert call(capsys, "recipes", "show", name) == (0, (ROOT / "recipes" / f"{name}.yaml").read_text(), "")


def test_a_recipe_is_copied_but_never_over_a_file(capsys, tmp_path):
    copied = call(capsys, "recipes", "copy", "digits", tmp_path / "mine.yaml")
    assert copied == (0, f"{tmp_path / 'mine.yaml'}\n", "")
    assert (tmp_path / "mine.yaml").read_text() == (ROOT / "recipes" / "digits.yaml").read_text()
    (tmp_path / "mine.yaml").write_text("edited")
    for target in ("mine.yaml", "nowhere/mine.yaml", "."):
        said = call(capsys, "recipes", "copy", "digits", tmp_path / target)
        assert (said.code, said.err.count("\n")) == (2, 1)
    assert contents(tmp_path) == {"mine.yaml": b"edited"}


def test_the_demo_recipe_runs_and_reports(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call(capsys, "run", "digits", *QUICK, "--limit", "3")
    assert said.code == 0
    assert "measurements compared" in said.out
    assert [row["name"] for row in table(tmp_path / "runs" / "digits")] == ["digits-0000", "digits-0001", "digits-0002"]
    printed = [line.split()[0] for line in said.out.splitlines() if line.startswith("digits-")]
    assert printed == ["digits-0000", "digits-0001", "digits-0002"]
    assert "3 done, 0 skipped" in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # nothing is written anywhere else


@pytest.mark.parametrize("name", [name for name in recipes_of("reconstruct") if name != "reconstruct-photo"])
def test_every_shipped_recipe_of_a_reconstruction_runs(capsys, tmp_path, name):
    write_mnist(tmp_path, test=3)
    root = [] if name == "digits" else ["--root", tmp_path]
    said = call(capsys, "run", name, *QUICK, "--limit", "2", *root, "--out", tmp_path / "o")
    assert said.code == 0
    assert len(table(tmp_path / "o")) == 2


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("classifier") / "m", hidden=20))


def quick_attack(classifier: str, out) -> list[str]:
    words = ["--model", classifier, "--data", "digits", "--eps", "0.02", "--limit", "3", "--out", str(out)]
    return [*words, "--wandb", "disabled", "--device", "cpu"]


@pytest.mark.parametrize("name", recipes_of("attack"))
def test_every_shipped_recipe_of_an_attack_runs(capsys, tmp_path, classifier, name):
    budget = ["--evaluations", "30"] if name == "portfolio" else ["--steps", "1" if name == "fgsm" else "4"]
    said = call(capsys, "run", name, *quick_attack(classifier, tmp_path / "o"), *budget)
    assert said.code == 0
    assert len(table(tmp_path / "o")) == 3
    recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())
    kept = {key: recipe_of(tmp_path / "o")[key] for key in ("norm", "loss", "targets", "start", "restarts", "seed")}
    assert kept == {**dict.fromkeys(kept), **{key: recipe[key] for key in kept if key in recipe}}


@pytest.mark.parametrize("name", ["fgsm", "adr-gd-paper", "latentopt.GD"])  # of the others there are recipes
def test_every_attack_is_taken_by_its_name(capsys, tmp_path, classifier, name):
    words = ["--optimizer", name, *([] if name == "fgsm" else ["--steps", "2"])]
    assert call(capsys, "attack", *quick_attack(classifier, tmp_path / "o"), *words).code == 0
    assert {int(row["backwards"]) <= (1 if name == "fgsm" else 4) for row in table(tmp_path / "o")} == {True}
    again = call(capsys, "run", tmp_path / "o" / "recipe.yaml", "--out", tmp_path / "again")
    assert again.code == 0
    assert table(tmp_path / "again") == table(tmp_path / "o")


def test_options_override_a_recipe_of_an_attack(capsys, tmp_path, classifier):
    words = ["--optimizer.lr", "0.5", "--loss=margin", "--norm", "l2", "--targets", "2", "--steps", "3"]
    assert call(capsys, "run", "pgd", *quick_attack(classifier, tmp_path / "o"), *words).code == 0
    recipe = recipe_of(tmp_path / "o")
    assert recipe["optimizer"]["init_args"]["lr"] == 0.5
    assert [recipe[key] for key in ("loss", "norm", "targets", "eps")] == ["margin", "l2", 2, 0.02]


def test_a_users_own_portfolio_and_loss_by_class_path(capsys, tmp_path, monkeypatch, classifier):
    (tmp_path / "my_own_attack.py").write_text(MY_ATTACK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LATENTOPT_TRUST", "my_own_attack")
    stages = [{"optimizer": "fgsm", "steps": 1}, {"optimizer": "adam", "loss": "my_own_attack.second", "steps": 3}]
    portfolio = {"class_path": "latentopt.attacks.stages.Portfolio", "init_args": {"stages": stages}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"job": "attack", "optimizer": portfolio}))
    said = call(capsys, "run", tmp_path / "mine.yaml", *quick_attack(classifier, tmp_path / "o"))
    assert said.code == 0
    held = recipe_of(tmp_path / "o")["optimizer"]["init_args"]["stages"]
    assert [stage["init_args"]["optimizer"] for stage in held] == ["fgsm", "adam"]
    assert held[1]["init_args"]["loss"] == "my_own_attack.second"
    assert {int(row["backwards"]) for row in table(tmp_path / "o")} <= {0, 1, 2, 3, 4}
    words = ["--optimizer", "pgd", "--steps", "2", "--loss", "my_own_attack.third"]
    assert call(capsys, "attack", *quick_attack(classifier, tmp_path / "p"), *words).code == 0
    assert recipe_of(tmp_path / "p")["loss"] == "my_own_attack.third"
    logits = cards.load_classifier(classifier)(load_file(tmp_path / "p" / "adversarial.safetensors")["adversarial"])
    near(torch.tensor([float(row["loss"]) for row in table(tmp_path / "p")]), logits[:, 2], 1e-5)


def test_options_override_a_recipe(capsys, tmp_path):
    words = ["--limit", "2", "--optimizer", "adam", "--optimizer.lr", "0.7", "--loss=huber", "--loss.delta", "0.3"]
    said = call(capsys, "run", "digits", *QUICK, *words, "--batch-size=1", "--out", tmp_path / "o")
    assert said.code == 0
    recipe = recipe_of(tmp_path / "o")
    assert recipe["optimizer"]["class_path"] == "latentopt.optimizers.adam.Adam"
    assert recipe["optimizer"]["init_args"]["lr"] == 0.7
    assert recipe["loss"] == {"class_path": "latentopt.objectives.Huber", "init_args": {"delta": 0.3}}
    assert (recipe["steps"], recipe["batch_size"], recipe["model"]) == (4, 1, "mnist-vae")
    assert recipe["operator"]["class_path"] == "latentopt.operators.Compose"  # what is not overridden stays


@pytest.mark.parametrize("name", ["adr-gd", "adr-gd-paper", "adam", "latentopt.GD"])
def test_every_optimizer_is_taken_by_its_name(capsys, tmp_path, name):
    said = call(capsys, "run", "digits", *QUICK, "--limit", "1", "--optimizer", name, "--out", tmp_path / "o")
    assert said.code == 0
    kind = {"adr-gd": "ADRGD", "adr-gd-soft": "ADRGD", "adr-gd-paper": "ADRGD", "adam": "Adam"}.get(name, "GD")
    recipe = recipe_of(tmp_path / "o")["optimizer"]
    assert recipe["class_path"].endswith(f".{kind}")
    gates = recipe["init_args"].get("gates", {"class_path": ""})["class_path"]
    assert gates.endswith(
        {"adr-gd": ".SoftGates", "adr-gd-soft": ".SoftGates", "adr-gd-paper": ".FreeGates"}.get(name, "")
    )


def test_operators_of_a_command_line_are_used(capsys, tmp_path):
    np.save(tmp_path / "a.npy", own_images(2).numpy())
    words = ["--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--operator", "downsample"]
    said = call(capsys, "reconstruct", *words, "--operator.factor", "7", *QUICK, "--out", tmp_path / "o")
    assert said.code == 0
    generator, true = lo.load("mnist-vae"), torch.tensor(np.load(tmp_path / "a.npy"))
    ours = generator(load_file(tmp_path / "o" / "latents.safetensors")["latents"])
    loss = torch.tensor([float(row["loss"]) for row in table(tmp_path / "o")])
    measure = operators.Downsample(7)
    near(loss, (measure(ours) - measure(true)).square().mean((1, 2, 3)), 1e-6)


@pytest.mark.parametrize("flags", [["--resize", "--convert"], ["--resize=true", "--convert", "true"]])
def test_flags_need_no_value(capsys, tmp_path, flags):
    write_png(tmp_path / "a.png", blobs(1, seed=0, side=40)[0, ..., None] // np.array([1, 2, 3], np.uint8))
    words = ["--model", "mnist-vae", "--targets", tmp_path / "a.png", *flags, *QUICK, "--out", tmp_path / "o"]
    assert call(capsys, "reconstruct", *words).code == 0
    assert recipe_of(tmp_path / "o")["resize"] is True
    assert recipe_of(tmp_path / "o")["convert"] is True


MY_ATTACK = """
from torch import Tensor

def second(logits: Tensor, labels: Tensor) -> Tensor:
    return logits[:, 1]

def third(logits, labels):
    return logits[:, 2]
"""

MINE = """
import torch
from latentopt.objectives import Loss
from latentopt.operators import Operator

class Fourth(Loss):
    def __init__(self, weight: float = 1.0):
        self.weight = weight
    def __call__(self, prediction, target):
        return self.weight * (prediction - target).pow(4).flatten(1).mean(1)

class Rows(Operator):
    def __init__(self, every: int):
        self.every = every
    def __call__(self, image):
        return image[..., :: self.every, :].flatten(1)
"""


def test_a_recipe_takes_a_users_own_loss_and_operator_by_class_path(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_own_parts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LATENTOPT_TRUST", "another, my_own_parts")
    np.save(tmp_path / "a.npy", own_images(2).numpy())
    recipe = {
        "job": "reconstruct",
        "model": "mnist-vae",
        "targets": [str(tmp_path / "a.npy")],
        "loss": {"class_path": "my_own_parts.Fourth", "init_args": {"weight": 3.0}},
        "operator": {"class_path": "my_own_parts.Rows", "init_args": {"every": 4}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert call(capsys, "run", tmp_path / "mine.yaml", *QUICK, "--out", tmp_path / "o").code == 0
    assert {key: recipe_of(tmp_path / "o")[key] for key in ("loss", "operator")} == {
        "loss": recipe["loss"],
        "operator": recipe["operator"],
    }
    ours = lo.load("mnist-vae")(load_file(tmp_path / "o" / "latents.safetensors")["latents"])
    error = (ours - torch.tensor(np.load(tmp_path / "a.npy")))[:, :, ::4]
    loss = torch.tensor([float(row["loss"]) for row in table(tmp_path / "o")])
    near(loss, 3 * error.pow(4).mean((1, 2, 3)), 1e-6)
