"""The public names: what importing them costs, where they live, what the old ones do, and how they are documented."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import latentopt as lo
from latentopt import _deprecated

HEAVY = {"wandb", "lightning", "pytorch_lightning", "matplotlib", "sklearn", "torchvision", "jsonargparse", "PIL"}
PACKAGE = Path(lo.__file__).parent
OPTIONAL = {"latentopt.rl.algorithms"}  # modules that need an extra


def run(script: str, cwd: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_importing_every_name_imports_nothing_heavier_than_torch(tmp_path):
    names = "[getattr(latentopt, name) for name in latentopt.__all__ if name not in ('RefinedDDPG', 'RefinedTD3')]"
    modules = set(run(f"import sys, latentopt; {names}; print('\\n'.join(sys.modules))", tmp_path))
    assert {"latentopt", "torch"} <= modules
    assert not HEAVY & modules


def test_importing_latentopt_alone_imports_no_torch(tmp_path):
    assert run("import sys, latentopt; print('torch' in sys.modules)", tmp_path) == ["False"]


def test_names():
    assert not hasattr(lo, "nothing_of_this_name")
    assert set(lo.__all__) <= set(dir(lo))
    assert all(hasattr(lo, name) for name in lo.__all__)
    assert {"load", "Generator", "Problem", "solve", "maximize", "attack", "reconstruct", "Result"} <= set(lo.__all__)


def test_no_module_is_shadowed_by_a_function():
    """`import latentopt.x as m` gives a module, whatever names the package has."""
    shadowed = []
    for module in pkgutil.walk_packages(lo.__path__, "latentopt."):
        if module.name.endswith("__main__"):
            continue
        parent, _, name = module.name.rpartition(".")
        importlib.import_module(module.name)
        if not inspect.ismodule(getattr(sys.modules[parent], name)):
            shadowed.append(module.name)
    assert shadowed == []


def test_a_class_name_answers_a_grep_with_one_class():
    homes = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("old", _deprecated.NAMES)
@pytest.mark.filterwarnings("default:latentopt.* is deprecated")  # its module may be an old one
def test_an_old_name_gives_the_new_one_with_a_warning(old):
    home, _, name = old.rpartition(".")
    new_home, _, new_name = _deprecated.NAMES[old].rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated: use {_deprecated.NAMES[old]}"):
        value = getattr(importlib.import_module(home), name)
    assert value is getattr(importlib.import_module(new_home), new_name)


@pytest.mark.parametrize("old", _deprecated.MODULES)
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_an_old_module_is_the_new_one_with_a_warning(old, monkeypatch):
    for name in _deprecated.MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(_deprecated.MODULES[old])


def test_an_old_value_of_a_keyword_is_taken_with_a_warning_at_the_caller():
    @_deprecated.renamed_keywords(seen="callback", method={"split": "branch-and-bound"})
    def certify(method: str = "auto", callback: object = None) -> str:
        return method

    assert certify(method="milp") == "milp"
    with pytest.warns(DeprecationWarning, match=r"certify\(method='split'\) is deprecated: use 'branch-and") as warned:
        assert certify(method="split") == "branch-and-bound"
    assert warned[0].filename == __file__


def test_a_renamed_keyword_is_taken_with_a_warning():
    @_deprecated.renamed_keywords(rounds=("retries", lambda rounds: rounds - 1), keep="halving")
    def renamed(retries: int = 0, halving: tuple = ()) -> tuple:
        return retries, halving

    reconstruct: Any = renamed

    assert reconstruct(2, halving=(1,)) == (2, (1,))
    with pytest.warns(DeprecationWarning, match=r"renamed\(rounds=\) is deprecated: use retries="):
        assert reconstruct(rounds=3) == (2, ())
    with pytest.warns(DeprecationWarning, match="use halving="):
        assert reconstruct(keep=(4,)) == (0, (4,))


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("solve", "keep", "halving"),
        ("solve", "improvement", "min_delta"),
        ("reconstruct", "keep", "halving"),
        ("reconstruct", "improvement", "min_delta"),
        ("reconstruct", "rounds", "retries"),
        ("carlini_wagner", "rounds", "binary_search_steps"),
        ("minimum_norm", "rounds", "search_steps"),
        ("refine_action", "box", "radius"),
        ("certify", "seen", "callback"),
        ("FreeGates", "distances", "row_norms"),
        ("RefinedPolicy", "box", "radius"),
        ("RefinementSettings", "box", "radius"),
        ("Step", "here", "evaluation"),
    ],
)
def test_old_keywords_of_the_changelog_are_taken(function, old, new):
    from latentopt.optimizers.base import Step

    called: Any = Step if function == "Step" else getattr(lo, function)
    complete = function in ("FreeGates", "RefinementSettings")
    missing = contextlib.nullcontext() if complete else pytest.raises((TypeError, lo.InputError))
    with pytest.warns(DeprecationWarning, match=rf"{function}\({old}=\) is deprecated: use {new}="), missing:
        called(**{old: lo.RowNorms() if function == "FreeGates" else 1})


def test_old_methods_and_fields_are_the_new_ones():
    from latentopt.optimizers.base import Cost, Step
    from latentopt.optimizers.gate_rule import GateRule
    from latentopt.sets import Box

    x = torch.ones(1, 2)
    box, rule, make_step = cast("list[Any]", [Box(-1.0, 2.0), GateRule, Step])
    with pytest.warns(DeprecationWarning, match="extreme is deprecated: use lmo"):
        assert torch.equal(box.extreme(x), box.lmo(x))
    assert rule.look.__deprecated__ == "direction"
    with pytest.warns(DeprecationWarning, match=r"Step\(here=\) is deprecated: use evaluation="):
        step = make_step(x, (), here="seen", cost=Cost(1, 0))
    with pytest.warns(DeprecationWarning, match="Step.here is deprecated: use Step.evaluation"):
        assert step.here == step.evaluation == "seen"
