"""Recipes and command lines of the release before: old class paths, arguments, fields and options are still read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from files import ROOT, call

from latentopt._deprecated import TOLD, current_path, current_spec
from latentopt.cli.options import parse_job
from latentopt.cli.run import choose_job
from latentopt.components import build
from latentopt.inverse import initializers, priors
from latentopt.jobs.compare import CompareSettings
from latentopt.jobs.reconstruct import ReconstructSettings
from latentopt.optimizers import ADRGD, LBFGS, PGD, FreeGates, RowNorms, SoftGates, TwoPhase


@pytest.fixture(autouse=True)
def nothing_told():
    """A command tells each old name once."""
    TOLD.clear()


IDENTITY = {"job": "reconstruct", "model": "mnist-vae", "targets": ["digits"], "resize": True, "limit": 1}
SPHERE, REGRESSION = priors.SpherePrior(), initializers.Regression()


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, **({"init_args": arguments} if arguments else {})}


EARLY = spec("latentopt.EarlyGates", tau=0.5, steps=9, share=0.5)
SPECS = {
    "prior": [
        (spec("latentopt.priors.Gaussian", weight=0.1), priors.GaussianPrior(0.1)),
        (spec("latentopt.priors.Box", width=2.0), priors.BoxPrior(2.0)),
        ("latentopt.priors.Sphere", SPHERE),
        (spec("latentopt.priors.Anywhere"), priors.Unconstrained()),
        ("anywhere", priors.Unconstrained()),
    ],
    "start": [
        (spec("latentopt.tasks.starts.Nearest"), initializers.Nearest()),
        ("latentopt.tasks.starts.Regression", REGRESSION),
        (spec("latentopt.tasks.starts.pools.Regression"), REGRESSION),
        (spec("latentopt.tasks.starts.Random", scale=0.5), initializers.Random(0.5)),
        (spec("latentopt.tasks.starts.Encoder"), initializers.Encoder()),
    ],
    "optimizer": [
        (
            spec("latentopt.Opening", first=spec("latentopt.PGD"), steps=7, then=spec("latentopt.LBFGS", memory=20)),
            TwoPhase(PGD(), 7, LBFGS()),
        ),
        (spec("latentopt.optimizers.Opening", steps=7), TwoPhase(steps=7)),
        (spec("latentopt.optimizers.opening.Opening", steps=7), TwoPhase(steps=7)),
        (
            spec("latentopt.ADRGD", gates=EARLY, descent=spec("latentopt.PGD")),
            ADRGD(SoftGates(0.5, steps=9, share=0.5), PGD()),
        ),
        (
            spec("latentopt.ADRGD", gates=spec("latentopt.optimizers.early_gates.EarlyGates")),
            ADRGD(SoftGates(1.0, steps=15, share=2 / 3)),
        ),
        (
            spec("latentopt.ADRGD", gates=spec("latentopt.FreeGates", distances={"kind": "exact", "floor": 1.0})),
            ADRGD(FreeGates(row_norms=RowNorms("exact", floor=1.0))),
        ),
        (
            spec(
                "latentopt.optimizers.adr_gd.ADRGD",
                gates=spec(
                    "latentopt.optimizers.free_gates.FreeGates",
                    distances=spec("latentopt.optimizers.distances.Distances", kind="exact"),
                ),
            ),
            ADRGD(FreeGates(row_norms=RowNorms("exact"))),
        ),
        (spec("adr-gd-paper", gates={"init_args": {"distances": {"kind": "exact"}}}), None),
    ],
}
ROWS = [(field, old, new) for field, pairs in SPECS.items() for old, new in pairs]


@pytest.mark.parametrize(("field", "old", "new"), ROWS, ids=[str(old)[:70] for _, old, _ in ROWS])
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_recipe_with_old_class_paths_and_arguments_gives_the_new_objects(field, old, new, tmp_path, capsys):
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({**IDENTITY, field: old}))
    job, words, recipe = choose_job(["run", str(tmp_path / "old.yaml")])
    settings = parse_job(job, words, recipe).settings
    capsys.readouterr()
    said = call(capsys, "run", tmp_path / "old.yaml", "--dry-run", "--out", tmp_path / "out")
    assert said.code == 0
    made = getattr(settings.build(), field)
    if new is None:
        assert made.gates.row_norms == RowNorms("exact")
    else:
        assert made == new
    assert ("is deprecated" in said.err) == (old != "anywhere" and "latentopt.EarlyGates" not in str(old))


def test_every_old_class_path_tells_its_new_one(capsys):
    assert current_path("latentopt.priors.Box") == "latentopt.inverse.priors.BoxPrior"
    assert current_path("latentopt.tasks.starts.Nearest") == "latentopt.inverse.initializers.Nearest"
    assert current_path("latentopt.Portfolio") == "latentopt.Portfolio"
    assert current_path("mine.priors.Box") == "mine.priors.Box"
    mine = spec("mine.Method", distances=3)
    assert current_spec(mine) == mine
    assert capsys.readouterr().err == ""


OPTIONS = [
    ("reconstruct", ["--keep", "[[20, 2]]"], "halving", [[20, 2]]),
    ("reconstruct", ["--keep", "[]"], "halving", []),
    ("reconstruct", ["--keep=[]"], "halving", []),
    ("reconstruct", ["--rounds", "3"], "retries", 2),
    ("reconstruct", ["--rounds=1"], "retries", 0),
    ("refine", ["--box", "0.5"], "radius", 0.5),
    ("train-rl", ["--box", "0.5"], "radius", 0.5),
    ("analyze-certify", ["--method", "split"], "method", "branch-and-bound"),
]
NEEDED = {
    "reconstruct": {"model": "mnist-vae", "targets": ["digits"]},
    "refine": {"agent": "agent.zip", "env": "Pendulum-v1"},
    "train-rl": {"env": "Pendulum-v1"},
    "analyze-certify": {"model": "random-A"},
}


@pytest.mark.parametrize("place", ["option", "recipe", "config"])
@pytest.mark.parametrize(("name", "words", "field", "value"), OPTIONS)
def test_an_old_option_is_the_new_one(name, words, field, value, place, tmp_path, capsys):
    old, text = (words[0].split("=") if "=" in words[0] else words)[:2]
    fields = {old.removeprefix("--"): yaml.safe_load(text)}
    recipe = {"job": name, **NEEDED[name], **(fields if place == "recipe" else {})}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(fields))
    more = {"option": words, "recipe": [], "config": ["--config", str(tmp_path / "c.yaml")]}[place]
    parsed = parse_job(*_chosen(tmp_path, more))
    assert parsed.resolved()[field] == value
    said = capsys.readouterr().err
    assert said.startswith(f"latentopt: warning: {old.removeprefix('--')} ")
    assert f" of {name} is deprecated: use {value if name == 'analyze-certify' else field}\n" in said


def _chosen(folder, more):
    return choose_job(["run", str(folder / "r.yaml"), *more])


@pytest.mark.parametrize("at", ["run", "compare"])
def test_a_comparison_reads_an_old_recipe(at, tmp_path, capsys):
    old = {**IDENTITY, "keep": [[20, 2]], "rounds": 2, "prior": spec("latentopt.priors.Box", width=2.0)}
    compare = {"job": "compare", "problem": old, "methods": ["adam"], "evaluations": 10}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(compare if at == "run" else old))
    words = ["--methods", "adam", "--evaluations", "10"] if at == "compare" else []
    parsed = parse_job(*choose_job([at, str(tmp_path / "r.yaml"), *words]))
    assert isinstance(parsed.settings, CompareSettings)
    problem = parsed.settings.problem_settings()
    assert isinstance(problem, ReconstructSettings)
    assert (problem.halving, problem.retries) == ([[20, 2]], 1)
    assert build("prior", "prior", problem.prior) == priors.BoxPrior(2.0)
    assert capsys.readouterr().err.count("is deprecated") == 3


@pytest.mark.filterwarnings("ignore:multi-start is deprecated:DeprecationWarning")
def test_multi_start_is_adam_with_eight_restarts(tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"job": "refine", **NEEDED["refine"]}))
    recipe = parse_job(*_chosen(tmp_path, ["--optimizer", "multi-start"])).resolved()
    assert (recipe["optimizer"], recipe["restarts"]) == ("adam-critic", 8)


def test_the_names_that_recipes_of_old_used_are_no_longer_in_those_that_ship():
    for path in (ROOT / "recipes").rglob("*.yaml"):
        recipe = yaml.safe_load(path.read_text())
        assert current_spec(recipe) == recipe
        assert not {"keep", "rounds", "box"} & set(recipe)
