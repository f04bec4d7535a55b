from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nets import refuses
from studies import call_study
from torch import nn

from benchmarks.attack import AttackRuns, AttackStudyPlan, others
from benchmarks.attack_methods import CONTROL, METHODS, ablations
from benchmarks.attack_references import REFERENCES
from benchmarks.attack_runs import BARE, NETWORKS, AttackCase, ReturnedImages, cases_of, run_attack
from benchmarks.statistics import signs
from benchmarks.tuned import TUNED

LAST = nn.Linear(4, 2)
LAST.load_state_dict({"weight": torch.tensor([[1.0, 1, 1, 1], [0.0, 0, 0, 0]]), "bias": torch.tensor([0.0, 1.0])})
LINEAR = nn.Sequential(nn.ReLU(), LAST).requires_grad_(False)  # images are >= 0


def linear() -> AttackCase:
    """The classes are divided by sum x = 1; all four images are of class 0, at sums 1.2, 1.6, .9 (wrong) and 3.2."""
    sums = torch.tensor([1.2, 1.6, 0.9, 3.2])
    x = (sums / 4)[:, None].expand(4, 4).contiguous()
    return AttackCase("linear", LINEAR, x, torch.zeros(4, dtype=torch.long), 0.1, "random")


def bare(count: int = 2) -> AttackCase:
    (case,) = cases_of("bare", BARE, (0.01,), range(count), 0)
    return case


def test_an_attack_is_judged_by_the_images_it_returns():
    case = linear()
    judged = run_attack(case, lambda model, case, n: ReturnedImages(case.x - case.eps), 1)
    assert judged.success.tolist() == [True, False, True, False]
    assert judged.margin.tolist() == pytest.approx([0.2, -0.2, 0.1, -1.8], abs=1e-6)
    assert judged.inside.all()
    assert (judged.forwards, judged.backwards, judged.told) == (0, 0, None)
    assert run_attack(case, lambda model, case, n: ReturnedImages(case.x + case.eps), 1).success.tolist() == [
        False,
        False,
        True,
        False,
    ]
    outside = run_attack(case, lambda model, case, n: ReturnedImages(case.x - 1.1 * case.eps), 1)
    assert outside.success.tolist() == outside.inside.tolist() == case.errors.tolist() == [False, False, True, False]
    left = replace(case, x=torch.zeros_like(case.x), y=torch.ones_like(case.y))
    assert not run_attack(left, lambda model, case, n: ReturnedImages(case.x - case.eps), 1).inside.any()
    assert run_attack(left.unboxed(), lambda model, case, n: ReturnedImages(case.x - case.eps), 1).inside.all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "portfolio-ungated" else []) for name in METHODS],
)
def test_every_method_takes_what_it_may_and_stays_in_its_set(name):
    case, method = bare(), METHODS[name]
    judged = run_attack(case, method.at(case), method.evaluations or 30)
    assert judged.told is not None
    assert judged.told.sum() == judged.backwards * len(case.x)
    assert judged.told.max() <= (method.evaluations or 30)
    assert judged.inside.all()


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"adr-gd-paper", "adr-gd-reference"}))
def test_every_method_solves_what_is_linear(name):
    judged = run_attack(linear(), METHODS[name].at(linear()), 40)
    assert judged.success.tolist() == [True, False, True, False]


def test_parts_left_out_are_as_many_in_the_box_and_out_of_it():
    case = bare()
    for form, variants in ablations(case).items():
        assert len(variants) == 8, form
        for attack in variants.values():
            judged = run_attack(case.unboxed(), attack, 4)
            assert judged.inside.all()
            assert judged.backwards <= 4
    assert case.unboxed().input_range == (-math.inf, math.inf)


def test_a_package_that_is_missing_is_a_row_with_the_reason():
    gone = replace(REFERENCES["torchattacks PGD"], package="no_such_package")
    ((table, cells),) = others(AttackRuns(linear()), AttackStudyPlan({}, {"theirs": gone}, [2], 2))
    assert {cell.name for cell in cells} == {CONTROL, "portfolio", "portfolio-ungated", "pgd-constant"}
    assert table.rows[-1][:2] == ["theirs", "skipped: No module named 'no_such_package'"]


def test_a_run_is_made_once():
    runs = AttackRuns(linear())
    first, again = (runs.cell(part, "pgd", METHODS["pgd"], 3) for part in ("table", "curve"))
    assert first.judged is again.judged
    assert (first.part, again.part) == ("table", "curve")


def test_signs_are_those_of_the_formula():
    assert signs([True] * 6 + [False, True], [False] * 5 + [True] * 3) == (5, 1, pytest.approx(2 * 7 / 64))
    assert signs([True], [True]).p == 1
    with refuses("theirs"):
        signs([True], [])


def test_names_are_those_of_methods_and_networks():
    assert all(METHODS[name].sizes for sizes in TUNED["attack"].values() for name in sizes)
    assert {reference.ours for reference in REFERENCES.values()} <= set(METHODS)
    assert {"mnist-pgd", "squeezenet", "vgg19", "wide-resnet"} <= set(NETWORKS)


def test_without_data_nothing_is_done(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path))
    said = call_study(capsys, "attack", "--networks", "mnist-pgd", "--out", tmp_path / "o")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("benchmarks: error: LATENTOPT_DATA: ")
    assert not list(tmp_path.iterdir())


def test_without_data_a_quick_run_attacks_random_weights(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path))
    said = call_study(capsys, "attack", "--quick", "--methods", "pgd", "--part", "table", "--out", tmp_path / "o")
    assert said.code == 0
    assert "random weights and images, eps 0.1" in said.out
