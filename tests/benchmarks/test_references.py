"""Our attacks against those of other packages on the same 200 images; requirements-references.txt."""

from __future__ import annotations

import functools

import pytest
from local_data import local_data

from benchmarks.attack_methods import METHODS
from benchmarks.attack_references import REFERENCES
from benchmarks.attack_runs import NETWORKS, AttackOutcome, cases_of, run_attack
from latentopt import attack

pytestmark = pytest.mark.slow
STEPS = 20
MNIST = "adrgd_mnist_classifiers/mnist_clean_epochs_20.safetensors"


@functools.cache
def judged(name: str, images: int = 200) -> AttackOutcome:
    (case,) = cases_of("mnist-clean", NETWORKS["mnist-clean"], (0.1,), range(images), 0)
    method = METHODS[name] if name in METHODS else REFERENCES[name].method()
    return run_attack(case, method.at(case), method.evaluations or STEPS)


@pytest.fixture(autouse=True)
def data():
    local_data(MNIST)


def rates(theirs: str) -> tuple[float, float]:
    """Success of our method and of theirs."""
    reference = REFERENCES[theirs]
    pytest.importorskip(reference.package, exc_type=ImportError)
    ours, others = judged(reference.ours), judged(theirs)
    assert others.inside.all()
    assert others.backwards == (reference.evaluations or STEPS)
    return ours.success.float().mean().item(), others.success.float().mean().item()


@pytest.mark.parametrize("theirs", ["torchattacks FGSM", "foolbox FGSM", "torchattacks PGD", "foolbox PGD"])
def test_the_same_steps_give_the_same_success(theirs):
    ours, others = rates(theirs)
    assert ours == pytest.approx(others, abs=0.01)


@pytest.mark.parametrize("theirs", [name for name in REFERENCES if "APGD" in name])
def test_apgd_is_as_strong(theirs):
    ours, others = rates(theirs)
    assert ours >= others - 0.01


@pytest.mark.parametrize("queries", [300, 1000])
def test_square_is_as_strong(queries):
    torchattacks = pytest.importorskip("torchattacks", exc_type=ImportError)
    (case,) = cases_of("mnist-clean", NETWORKS["mnist-clean"], (0.1,), range(200), 0)
    ours = attack(case.model, case.x, case.y, case.eps, optimizer="square", loss="margin", steps=queries).success
    theirs = torchattacks.Square(case.model, eps=case.eps, n_queries=queries, loss="margin", resc_schedule=True)
    fooled = case.model(theirs(case.x, case.y)).argmax(1) != case.y
    assert abs(ours.float().mean() - fooled.float().mean()) <= 0.05  # other random numbers
