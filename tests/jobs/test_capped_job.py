from __future__ import annotations

import math

import pytest
import torch
import yaml
from files import call, stopped_in, table
from nets import refuses
from scipy import stats

from latentopt.jobs.analyze.capped import capped
from latentopt.jobs.analyze.capped_report import percent, report
from latentopt.statistics import student

QUICK = {"betas": "0.5", "seeds": 1, "epochs": 1, "limit": 20, "steps": 3, "queries": 5}


def test_the_job_trains_attacks_and_reports_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    settings = {**QUICK, "data": "digits", "training": "plain", "out": str(tmp_path / "o"), "wandb": "disabled"}
    stopped = stopped_in(monkeypatch, "latentopt.jobs.analyze.capped_runner.robustness")
    with stopped, pytest.raises(KeyboardInterrupt):
        capped(**settings)
    written = capped(**settings)
    again = capped(**settings)
    assert written.markdown == again.markdown
    rows = table(tmp_path / "o")
    assert [(row["layer"], row["beta"]) for row in rows] == [
        ("none", "inf"), ("first", "0.5"), ("second", "0.5"), ("all", "0.5")
    ]  # fmt: skip
    assert all(0 <= float(row["worst"]) <= float(row["pgd"]) <= float(row["clean"]) <= 1 for row in rows)
    assert float(rows[0]["clean"]) > 0.2  # one epoch
    assert (tmp_path / "o/plot.png").stat().st_size > 5000
    assert yaml.safe_load((tmp_path / "o/recipe.yaml").read_text())["job"] == "analyze-capped"
    with refuses("out"):
        capped(**{**settings, "epochs": 2})


@pytest.mark.slow
def test_the_same_seed_gives_the_same_classifier_whatever_came_before(tmp_path):
    settings = {**QUICK, "data": "digits", "network": "conv", "training": "plain"}
    both = capped(**settings, out=str(tmp_path / "a"), wandb="offline")
    torch.rand(5)
    assert capped(**settings, out=str(tmp_path / "b"), wandb="disabled").markdown == both.markdown
    assert "second conv" in both.markdown
    assert any((tmp_path / "a/wandb").iterdir())


def test_intervals_are_students_and_claims_follow_from_them():
    interval = student([0.1, 0.2, 0.6])
    low, high = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem([0.1, 0.2, 0.6]))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (percent(student([0.3])), percent(student([0.3, 0.3]))) == ("30.0", "30.0 ± 0.0")

    def row(layer: str, beta: float, seed: int, clean: float, pgd: float, worst: float) -> dict:
        names = ("fgsm", "apgd", "pgd-straight-through", "adr-gd", "square", "cw-l2", "adr-gd-l2", "zero_gradients")
        shares = {"clean": clean, "pgd": pgd, "worst": worst, **dict.fromkeys(names, 0.5)}
        return {"training": "plain", "layer": layer, "beta": beta, "seed": seed, **shares, "failure": ""}

    rows = []
    for seed in range(3):
        rows += [row("none", math.inf, seed, 0.98, 0.1 + 0.01 * seed, 0.1)]
        rows += [row("all", 0.01, seed, 0.2, 0.2, 0.2), row("all", 0.1, seed, 0.95, 0.9, 0.05 + 0.001 * seed)]
    *_, claim = report(rows, "mnist", 100).tables
    ((training, layer, beta, gain, verdict, worst, final),) = claim.rows
    assert (training, layer, beta, verdict, final) == ("plain", "all", "0.1", "yes", "no, less")
    assert gain.startswith("79.0")
    assert worst.startswith("-4.9")


def test_the_command_line_knows_it(capsys):
    refused = call(capsys, "analyze", "capped", "--data", "digits", "--eps", "-1")
    assert (refused.code, refused.err) == (2, "latentopt: error: eps: expected a finite number > 0, got -1.0\n")
    assert "one of dynamics, capped, regions, certify" in call(capsys, "analyze", "cappped").err
