"""The text, table, picture and file of every kind of result."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loops import same
from nets import mlp, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.analysis import regions
from latentopt.analysis.certify import Certificate
from latentopt.results import SavedResult, tensors_of
from latentopt.rl.attack_policy import AttackedObservations


def pictures() -> lo.Generator:
    torch.manual_seed(0)
    return lo.Generator(
        nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Unflatten(1, (1, 4, 4))).eval(),
        latent_shape=(3,),
        output_range=(0, 1),
    )


def inverted() -> lo.Result:
    generator = pictures()
    return lo.reconstruct(generator, generator(generator.latents(2, seed=1)), start="random", restarts=2, steps=3)


def classes() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.rand(3, 1, 4, 4)
    return model, x, model(x).argmax(1)


def fooled(**settings: Any) -> lo.AttackResult:
    return lo.attack(*classes(), 0.3, optimizer="pgd", steps=3, **settings)


def refined() -> lo.RefinementResult:
    def critic(s: Tensor, a: Tensor) -> Tensor:
        return -(a - 0.5).square().sum(1)

    return lo.refine_action(critic, torch.zeros(2, 3), torch.zeros(2, 1), low=-1.0, high=1.0, steps=2)


def compared() -> lo.Comparison:
    problem = lo.Problem(lambda x: x, lambda y: y.square().sum(1), (2,), 2)
    return lo.compare(problem, ["gd", "lm"], evaluations=20, seeds=1)


def diagnosed() -> lo.Diagnosis:
    generator = pictures()
    return lo.diagnose(generator, torch.rand(2, 1, 4, 4), samples=2, start="random", restarts=2, steps=2)


def certified() -> Certificate:
    from latentopt.objectives import Unit

    problem = lo.Problem(mlp(2, 3, 1).float(), Unit(), (2,), 1, lo.sets.Box(-1.0, 1.0))
    return lo.certify(problem, start=torch.zeros(2), seconds=5)


def attacked_policy(numpy: bool) -> AttackedObservations:
    observations: Any = torch.rand(2, 4)
    return lo.attack_policy(nn.Linear(4, 2).eval(), observations.numpy() if numpy else observations, 0.1, steps=2)


def dynamics() -> Any:
    model, x, y = classes()
    return lo.compare_dynamics(model, x, y, 0.01, 2)


RESULTS: dict[str, Callable[[], Any]] = {
    "result": inverted,
    "maximum": lambda: lo.maximize(mlp(3, 4, 1), low=-1, high=1, shape=(3,), steps=2),
    "modes": lambda: inverted().modes(pictures()),
    "attack": fooled,
    "attack on vectors": lambda: lo.attack(mlp(3, 4, 2), torch.rand(2, 3).double(), torch.tensor([0, 1]), 0.1),
    "minimum norm": lambda: lo.minimum_norm(*classes(), search_steps=2, steps=2),
    "carlini-wagner": lambda: lo.carlini_wagner(*classes(), binary_search_steps=1, steps=2),
    "check": lambda: lo.check_attack(*classes(), 0.1, steps=2),
    "robustness": lambda: lo.robustness(*classes(), 0.1, steps=2, queries=2),
    "refinement": refined,
    "policy": lambda: attacked_policy(numpy=False),
    "policy on arrays": lambda: attacked_policy(numpy=True),
    "comparison": compared,
    "diagnosis": diagnosed,
    "certificate": certified,
    "dynamics": dynamics,
    "amplification": lambda: lo.amplification(*classes(), 0.01, 2),
    "eigenpairs": lambda: lo.input_hessian_eigs(*classes(), k=2),
    "boundary": lambda: regions.boundary(mlp(3, 4, 1), randn(2, 3), randn(2, 3, seed=1)),
    "walk": lambda: regions.walk(mlp(3, 4, 1), randn(2, 3), randn(2, 3, seed=1)),
    "trajectory": lambda: regions.trajectory_statistics(mlp(3, 4, 1), randn(3, 2, 3)),
    "landscape": lambda: regions.landscape(
        mlp(2, 4, 1),
        lambda y: y[:, 0],
        torch.zeros(2).double(),
        torch.tensor([1.0, 0]).double(),
        torch.tensor([0.0, 1]).double(),
        resolution=4,
    ),
}


@cache
def built(kind: str) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RESULTS[kind]()


@pytest.mark.parametrize("kind", RESULTS)
def test_the_text_of_a_result_is_short_and_holds_no_tensor(kind):
    text = repr(built(kind))
    assert text.startswith(type(built(kind)).__name__ + "(")
    assert "tensor(" not in text
    assert "array(" not in text
    assert len(text.splitlines()) <= 4
    assert len(text) < 800


def test_progress_and_the_runs_of_a_comparison_have_short_texts():
    texts = []
    lo.maximize(mlp(3, 4, 1), low=-1, high=1, shape=(3,), steps=1, callbacks=[lambda seen: texts.append(repr(seen))])
    texts += map(repr, built("comparison").runs)
    assert len(texts) == 3
    assert all("tensor" not in text and len(text) < 300 for text in texts)


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_has_a_table_and_says_what_pandas_is_needed_for(kind, monkeypatch):
    result = built(kind)
    rows = result.rows
    assert rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert not any(isinstance(value, Tensor | np.generic) for row in rows for value in row.values())
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert str(result.to_pandas()) == str(rows)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(lo.LatentOptError, match="needs pandas: pip install pandas"):
        result.to_pandas()


ALIKE = ("maximum", "attack on vectors", "minimum norm", "carlini-wagner", "policy on arrays", "walk", "trajectory")
"""Kinds that draw themselves as others do."""


@pytest.mark.parametrize("kind", [kind for kind in RESULTS if kind not in ALIKE])
def test_a_notebook_shows_text_and_picture(kind):
    shown = built(kind)._repr_html_()
    assert shown.startswith(f"<pre>{type(built(kind)).__name__}(")
    assert shown.count("<img") == 1


@pytest.mark.parametrize("kind", ["attack", "comparison"])
def test_a_plot_is_a_figure_and_a_file(kind, tmp_path):
    assert built(kind).plot(tmp_path / "a.png").axes
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_fails_does_not_hide_the_result():
    broken = dataclasses.replace(built("result"), history={})
    assert broken._repr_html_().startswith("<pre>Result(")
    assert "<img" not in broken._repr_html_()


@pytest.mark.parametrize("kind", [kind for kind in RESULTS if kind not in ("comparison", "check", "landscape")])
def test_what_is_loaded_is_what_was_saved(kind, tmp_path):
    result = built(kind)
    assert isinstance(result, SavedResult)
    result.save(tmp_path / "a")
    loaded = type(result).load(tmp_path / "a")
    require_same(result, loaded)
    with refuses(str(tmp_path / "a")):
        result.save(tmp_path / "a")
    other: type[SavedResult] = lo.Result if not isinstance(result, lo.Result) else lo.AttackResult
    with pytest.raises(lo.InputError, match=f"a {other.__name__} saved by latentopt, .*of {type(result).__name__}"):
        other.load(tmp_path / "a")


def require_same(a: Any, b: Any) -> None:
    assert tensors_of(a).keys() == tensors_of(b).keys()
    for name, t in tensors_of(a).items():
        other = tensors_of(b)[name]
        assert type(other) is type(t)
        assert same(torch.as_tensor(t), torch.as_tensor(other))
    for field in dataclasses.fields(a):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, SavedResult):
            require_same(one, two)
        elif field.name not in {name.split("/")[0] for name in tensors_of(a)}:
            assert str(one) == str(two)
            assert type(one) is type(two)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "missing/a", "folder"])
def test_what_cannot_be_written_is_refused_and_leaves_nothing(name, tmp_path):
    result = built("result")
    assert isinstance(result, SavedResult)
    (tmp_path / "folder").mkdir()
    with refuses("path"):
        result.plot(tmp_path / name)
    with pytest.raises(lo.InputError):
        result.save(tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
