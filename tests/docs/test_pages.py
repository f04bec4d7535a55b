"""The Python of every page, README's included, runs as it stands: one namespace a page, in an empty folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES, blocks, name_of, run

import latentopt as lo
from latentopt.cli import main

Check = Callable[[dict[str, Any], Path, str], None]
"""Of the page's names, its folder and what it printed, once a block has run."""


def readme_first(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["found"].value.max() < 1e-5
    assert int(names["attacked"].success.sum()) >= 2


def agents(names: dict[str, Any], folder: Path, said: str) -> None:
    assert (names["gain"] >= 0).all()
    assert names["agent"].refinement == lo.RefinementSettings(epsilon=0.5)


def capped(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["robustness"].failure == "masked gradients"
    assert names["capped"](names["x"]).shape == (20, 10)


def certified(names: dict[str, Any], folder: Path, said: str) -> None:
    first, *verdicts = said.splitlines()
    assert first.startswith("OPTIMAL")
    assert set(verdicts) <= {"ABOVE", "BELOW"}
    assert len(verdicts) == 4


def dynamics(names: dict[str, Any], folder: Path, said: str) -> None:
    comparison = names["dynamics"]
    assert comparison.error["region-exact"][comparison.inside].max() <= 1e-10
    assert names["pairs"].values.shape == (4, 9)


def regions(names: dict[str, Any], folder: Path, said: str) -> None:
    assert "regions" in said
    assert (folder / "landscape.png").is_file()


def first_picture(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["found"].value.max() < 1e-5
    assert set(names["found"].status) == {lo.Status.SOLVED}


def tour(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["broken"].success.any()
    assert names["better"].gain.max() > 0.01


def guide_attack(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["found"].success.all()
    assert (names["threes"].predicted[names["threes"].success] == 3).all()
    assert len(names["still"]) == len(list((folder / "adversarial").glob("*.png"))) == 8
    assert names["nearest"].success.all()


def guide_diagnose(names: dict[str, Any], folder: Path, said: str) -> None:
    assert names["found"].verdict == "generator"
    assert names["weak"].verdict == "optimiser"


def guide_certify(names: dict[str, Any], folder: Path, said: str) -> None:
    certificate, best = names["certificate"], -names["best"].value.item()
    assert certificate.value - 1e-5 <= best + certificate.gap
    assert best <= certificate.bound + 1e-6


def guide_tracking(names: dict[str, Any], folder: Path, said: str) -> None:
    assert "20 steps, the best mean loss" in said


def extended(names: dict[str, Any], folder: Path, said: str) -> None:
    assert (folder / "runs/middle/report.html").is_file()
    assert names["mine"].latent_shape == (4,)


CHECKS: dict[str, dict[int, Check]] = {
    "README.md": {0: readme_first},
    "docs/index.md": {0: first_picture, -1: tour},
    "docs/agents.md": {-1: agents},
    "docs/extend.md": {-1: extended},
    "docs/analysis/capped.md": {0: capped},
    "docs/analysis/certify.md": {0: certified},
    "docs/analysis/dynamics.md": {0: dynamics},
    "docs/analysis/regions.md": {0: regions},
    "docs/guides/attack.md": {-1: guide_attack},
    "docs/guides/certify.md": {-1: guide_certify},
    "docs/guides/diagnose.md": {-1: guide_diagnose},
    "docs/guides/tracking.md": {0: guide_tracking},
}
"""By page and number of the block, -1 the last."""
BEFORE = {"docs/guides/tracking.md": "run digits --limit 4 --steps 20 --wandb disabled"}
"""Commands whose results a page reads."""
WARNS = {"docs/analysis/capped.md": "gradients"}
"""Pages whose attacks warn, as they are meant to: of what."""
COUNTS = {name_of(page): sum(block.language == "python" for block in blocks(page)) for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if COUNTS[name_of(page)]], ids=name_of)
def test_the_python_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = name_of(page)
    if name in BEFORE:
        assert main(BEFORE[name].split()) == 0
        capsys.readouterr()
    checks = {number % COUNTS[name]: check for number, check in CHECKS.get(name, {}).items()}
    with warnings.catch_warnings():
        if name in WARNS:
            warnings.filterwarnings("ignore", WARNS[name], lo.AttackWarning)
        for number, names in enumerate(run(page)):
            said = capsys.readouterr().out
            if number in checks:
                checks.pop(number)(names, tmp_path, said)
    assert not checks


def test_every_page_with_a_check_is_there():
    assert set(CHECKS) | set(WARNS) | set(BEFORE) <= {name for name, count in COUNTS.items() if count}
