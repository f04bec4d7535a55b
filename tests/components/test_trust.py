"""A stranger's card or recipe may name the classes of a few packages; nothing else is imported, however it is asked."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
import torch
import yaml
from files import QUICK, change_card, contents, refused, write_classifier, write_model
from nets import refuses
from torch import nn

import latentopt as lo
from latentopt.components import trust
from latentopt.rl.rollout import make_environment
from latentopt.zoo import cards
from latentopt.zoo.strict_yaml import read_yaml

EVIL = "from pathlib import Path\nfrom torch import nn\nPath('PWNED').touch()\nclass Net(nn.Linear): pass\n"
CODE = {
    "class_path": "torch.fx.graph_module.reduce_graph_module",
    "init_args": {
        "body": {"_code": "forward=lambda self,x:x"},
        "import_block": "import pathlib\npathlib.Path('PWNED').touch()\n",
    },
}
LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 2}}


def inside(spec: Any) -> dict[str, Any]:
    """The spec, as a module within one that is allowed."""
    return {"class_path": "latentopt.zoo.capped.Capped", "init_args": {"module": spec, "beta": 1.0}}


HOSTILE = {
    "function that compiles code": CODE,
    "the same within a module": inside(CODE),
    "the same within two": inside(inside(CODE)),
    "class that is compiled from code": {"class_path": "torch.fx.GraphModule", "init_args": {"root": {}, "graph": {}}},
    "a class of ours that derives from it": {"class_path": "torchvision.models.feature_extraction.DualGraphModule"},
    "by its name alone": {"class_path": "GraphModule"},
    "compiled module": {"class_path": "torch.jit.ScriptModule"},
    "traced module": {"class_path": "torch.jit.TopLevelTracedModule"},
    "function that returns a module": {"class_path": "torchvision.models.resnet18"},
    "function of an allowed package": {"class_path": "torch.nn.utils.fusion.fuse_linear_bn_eval"},
    "class beside the modules": {"class_path": "torch.nn.parallel.DistributedDataParallel"},
    "module in the current folder": {"class_path": "evil.Net", "init_args": {"in_features": 2, "out_features": 2}},
    "the same within a module, a bare string": inside("evil.Net"),
    "what a module imports": {"class_path": "torch.nn.modules.module.warnings.sys"},
    "a package below an allowed one": {"class_path": "torch.nn.modules.evil.Net"},
    "the command line": {"class_path": "latentopt.__main__.main"},
    "a program of the standard library": {"class_path": "this.Net"},
    "a name like an allowed one": {"class_path": "torch.nn_evil.Net"},
    "a relative name": {"class_path": "..evil.Net"},
    "keyword arguments": {**LINEAR, "dict_kwargs": {"evil": CODE}},
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder from which Python imports, with a module in it that tells when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LATENTOPT_TRUST", raising=False)
    monkeypatch.setattr(trust, "_added", set[str]())
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    (tmp_path / "evil.py").write_text(EVIL)
    return tmp_path


def nothing_ran(here: Path) -> bool:
    return not (here / "PWNED").exists() and "evil" not in sys.modules


@pytest.mark.parametrize("spec", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_card_names_only_classes_of_trusted_packages(here, spec):
    change_card(write_model(here / "model"), architecture={"generator": spec})
    with pytest.raises(lo.InputError):
        lo.load("model")
    assert nothing_ran(here)


@pytest.mark.parametrize("spec", [spec for spec in HOSTILE.values() if isinstance(spec, dict)], ids=list(HOSTILE))
def test_a_recipe_names_only_classes_of_trusted_packages(here, capsys, spec):
    recipe = {"job": "reconstruct", "model": "mnist-vae", "targets": ["digits"], "resize": True, "limit": 1}
    loss = {"class_path": "latentopt.objectives.Features", "init_args": {"classifier": spec}}
    (here / "r.yaml").write_text(yaml.safe_dump({**recipe, "loss": loss}))
    before = contents(here)
    for words in (["--dry-run"], [], ["--optimizer", "adam"]):
        refused(capsys, "run", "r.yaml", *QUICK, *words)
    assert nothing_ran(here)
    assert contents(here) == before


@pytest.mark.parametrize("field", ["training", "quality"])
def test_what_a_card_says_of_its_training_builds_nothing(here, field):
    said = {"evil": {"class_path": "evil.Net", "init_args": {"in_features": 1, "out_features": 1}}, "code": CODE}
    changes: dict[str, Any] = {field: said}
    card = cards.read_card(write_model(here / "model", **changes))
    assert getattr(card, field) == said
    assert isinstance(lo.load("model"), lo.Generator)
    assert nothing_ran(here)


@pytest.mark.parametrize("field", ["architecture", "training", "quality"])
def test_what_a_card_says_freely_is_a_mapping(tmp_path, field):
    change_card(write_model(tmp_path), **{field: {3: {}}})
    with refuses(str(tmp_path / "card.yaml"), "a model card"):
        cards.read_card(tmp_path)


def physics(spec: Any) -> str:
    return json.dumps({"class_path": "latentopt.operators.Physics", "init_args": {"physics": spec}})


FEATURES = json.dumps({"class_path": "latentopt.objectives.Features", "init_args": {"classifier": CODE}})
OPTIONS = {
    "an option": ("--loss", "evil.Net"),
    "an option's JSON": ("--loss", FEATURES),
    "a setting of an option": ("--loss", "features", "--loss.classifier", "evil.Net"),
    "a setting's class": ("--loss", "features", "--loss.classifier.class_path", "evil.Net"),
    "a file of options": ("--config", "options.yaml"),
    "a file of an option": ("--loss", "loss.yaml"),
    "a file of a setting": ("--loss", "features", "--loss.classifier", "module.yaml"),
    "another kind": ("--operator", physics("evil.Net")),
    "anything": ("--operator", physics({"class_path": "evil.Net", "init_args": {"in_features": 1, "out_features": 1}})),
    "help": ("--loss.help", "evil.Net"),
}


@pytest.mark.parametrize("words", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("dry", [True, False])
def test_options_name_only_classes_of_trusted_packages(here, capsys, words, dry):
    loss = json.loads(FEATURES)
    for name, content in (("options", {"loss": loss}), ("loss", loss), ("module", {"class_path": "evil.Net"})):
        (here / f"{name}.yaml").write_text(yaml.safe_dump(content))
    before = contents(here)
    command = ["reconstruct", "--model", "mnist-vae", "--targets", "digits", "--resize", "--limit", "1", *QUICK]
    refused(capsys, *command, *words, *(["--dry-run"] if dry else []))
    assert nothing_ran(here)
    assert contents(here) == before


@pytest.mark.parametrize("loss", ["os.system", "evil.Net", "evil.loss", "torch.nn.functional.cross_entropy"])
def test_the_loss_of_an_attack_is_no_function_of_a_package_that_is_not_trusted(here, capsys, loss):
    write_classifier(here / "net")
    before = contents(here)
    words = ["--model", "net", "--data", "digits", "--eps", "0.1", "--limit", "2", "--optimizer", "pgd", *QUICK[:2]]
    message = refused(capsys, "attack", *words, "--loss", loss)
    assert "LATENTOPT_TRUST" in message
    assert loss in message
    assert nothing_ran(here)
    assert contents(here) == before


def test_a_sweep_and_a_training_name_only_classes_of_trusted_packages(here, capsys):
    words = ["latentopt", "reconstruct", "--model", "mnist-vae", "--targets", "digits", "--resize", "--limit", "1"]
    sweep = {"command": [*words, "${args}"], "method": "grid", "metric": {"name": "best/mean_mse"}}
    for number, value in enumerate(("evil.Net", FEATURES)):
        (here / f"{number}.yaml").write_text(yaml.safe_dump({**sweep, "parameters": {"loss": {"values": [value]}}}))
        refused(capsys, "sweep", f"{number}.yaml", "--wandb", "disabled")
    recipe = yaml.safe_load((Path(cards.__file__).parents[2] / "recipes/train-mnist-vae.yaml").read_text())
    for spec in (CODE, {"class_path": "evil.Net"}):
        for place in ("module", "data"):
            (here / "t.yaml").write_text(yaml.safe_dump({**recipe, place: spec}))
            refused(capsys, "train", "t.yaml", "--dry-run")
        recipe["module"]["init_args"]["decoder"] = spec
        (here / "t.yaml").write_text(yaml.safe_dump(recipe))
        refused(capsys, "train", "t.yaml", "--dry-run")
    assert nothing_ran(here)


def test_an_environment_of_a_module_is_made_only_where_it_is_trusted(here, capsys):
    with refuses("env"):
        make_environment("evil:Pendulum-v1")
    (here / "agent.zip").write_bytes(b"")
    before, policy = contents(here), ("--model", "agent.zip", "--algorithm", "ppo", "--eps", "0.1")
    for words in (("refine", "--agent", "agent.zip"), ("train-rl", "pendulum-ddpg"), ("attack-policy", *policy)):
        for dry in ([], ["--dry-run"]):
            assert "LATENTOPT_TRUST" in refused(capsys, *words, "--env", "evil:Pendulum-v1", "--out", "out", *dry)
            assert contents(here) == before
    assert nothing_ran(here)


OWN = {"class_path": "own_parts_for_trust.Net", "init_args": {"in_features": 2, "out_features": 3}}
NETS = "import os\nfrom torch import nn\nclass Net(nn.Linear): pass\nlinear = nn.Linear\nready = Net(1, 1)\n"


@pytest.fixture
def own(here) -> Path:
    (here / "own_parts_for_trust.py").write_text(NETS)
    sys.modules.pop("own_parts_for_trust", None)
    return here


def test_ones_own_package_is_trusted_by_the_environment_or_by_a_call(own, monkeypatch):
    with refuses("class_path"):
        cards.build(OWN)
    assert "own_parts_for_trust" not in sys.modules
    monkeypatch.setenv("LATENTOPT_TRUST", "os.path, own_parts_for_trust")
    assert cards.build(OWN).weight.shape == (3, 2)
    assert isinstance(cards.build(inside(OWN)), lo.Capped)
    monkeypatch.delenv("LATENTOPT_TRUST")
    with refuses("class_path"):
        cards.build(OWN)
    lo.trust("own_parts_for_trust")
    assert cards.build(OWN).weight.shape == (3, 2)


@pytest.mark.parametrize("name", ["os.system", "os", "ready"])
def test_what_a_trusted_package_imports_is_not_trusted_with_it(own, name):
    lo.trust("own_parts_for_trust")
    with pytest.raises(lo.InputError):
        cards.build({"class_path": f"own_parts_for_trust.{name}"})


def test_a_trusted_name_is_a_package_not_the_beginning_of_a_word(own):
    lo.trust("own_parts")
    with refuses("class_path"):
        cards.build(OWN)
    for wrong in ("", "*", "own parts", "../own"):
        with refuses("packages"):
            lo.trust(wrong)


def test_what_ships_and_what_torch_and_torchvision_define_is_allowed():
    assert isinstance(cards.build(LINEAR), nn.Linear)
    resnet = {"block": "torchvision.models.resnet.BasicBlock", "layers": [1, 1, 1, 1], "num_classes": 3}
    net = cards.build({"class_path": "torchvision.models.ResNet", "init_args": resnet}).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    for name in cards.names():
        assert lo.load(name) is not None


def test_other_users_of_jsonargparse_are_left_alone(own):
    """The guard is in force only while this package parses, and only in its thread."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--module", type=nn.Module)
    cards.build(LINEAR)
    assert type(parser.instantiate(parser.parse_object({"module": OWN})).module).__name__ == "Net"
    made = list[Any]()
    with trust.only_trusted():
        thread = threading.Thread(target=lambda: made.append(parser.parse_object({"module": OWN})))
        thread.start()
        thread.join()
    assert made[0].module.class_path == OWN["class_path"]


TWICE = "job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\nsteps: 3\nsteps: 4\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 10)}]\n" for name in "bcdefghij"
)
TEXTS = {
    "a key twice": (TWICE, "'steps' twice"),
    "a key twice within": ("job: reconstruct\noptimizer: {init_args: {lr: 1, lr: 2}}\n", "'lr' twice"),
    "aliases without end": (BOMB, "more than 100000 values"),
    "a list that holds itself": ("job: &a [*a]\n", "more than 100000 values"),
    "a call": ("job: !!python/object/apply:os.system [touch PWNED]\n", "python/object"),
    "brackets": ("[" * 1000, "YAML"),
}


@pytest.mark.parametrize(("text", "hint"), TEXTS.values(), ids=TEXTS.keys())
def test_yaml_that_says_more_or_other_than_is_seen_is_refused(here, capsys, text, hint):
    (here / "r.yaml").write_text(text)
    for words in (["run", "r.yaml"], ["sweep", "r.yaml"], ["reconstruct", "--config", "r.yaml"]):
        assert hint in refused(capsys, *words)
    (write_model(here / "model") / "card.yaml").write_text(text)
    with refuses(str(Path("model/card.yaml")), "a model card"):
        lo.load("model")
    assert nothing_ran(here)


def test_aliases_and_merges_of_a_few_values_stay(tmp_path):
    recipe = "base: &b {steps: 3, restarts: 2}\nmore: {<<: *b, steps: 4}\nagain: {<<: *b}\n"
    (tmp_path / "r.yaml").write_text(recipe)
    held = read_yaml(tmp_path / "r.yaml")
    assert held["more"] == {"steps": 4, "restarts": 2}
    assert held["again"] == held["base"] == {"steps": 3, "restarts": 2}
