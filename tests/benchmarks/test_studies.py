"""Every study: a quick run, its folder, wrong options."""

from __future__ import annotations

import json

import pytest
from files import contents
from nets import refuses
from studies import call_study, result_rows

from benchmarks.norms import norms
from benchmarks.study import STUDIES, chosen, stored

FILES = {"table.md", "results.csv", "plot.png", "environment.json"}


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (["norms"], {"network": {"MNIST conv net", "random net A", "mnist-vae"}}),
        pytest.param(
            ["attack", "--methods", "pgd-dlr,adr-gd-paper,portfolio"],
            {
                "part": {"table", "curve", "references", "ablation"},
                "method": {"pgd", "whole"},
                "box": {"True", "False"},
            },
            marks=pytest.mark.slow,
        ),
        (["attack", "--methods", "adam", "--tune"], {"method": {"adam"}, "size": {"0.3", "1.0"}}),
        (["reconstruct"], {"generator": {"mnist-vae"}, "method": {"reconstruct", "adam", "a hand-written Adam loop"}}),
        pytest.param(
            ["compressed-sensing"],
            {"m": {"25"}, "method": {"reconstruct", "lasso"}, "image": {"0", "3"}},
            marks=pytest.mark.slow,
        ),
        (["poisson"], {"noise": {"counts", "outliers"}, "images": {"own", "real"}, "image": {"0", "3"}}),
        (["learnt-starts"], {"start": {"encoder", "regression"}, "restarts": {"1", "8"}}),
        (["cost"], {"network": {"net A"}, "method": {"pgd", "by hand", "adr-gd paper"}}),
        (
            ["random-nets", "--methods", "adam,adr-gd-soft"],
            {"part": {"table", "ablation", "alpha"}, "method": {"pgd", "adam"}},
        ),
        (
            ["random-nets", "--tune", "--methods", "adam", "--model", "B"],
            {"group": {"one start", "several starts"}, "size": {"0.2"}},
        ),
    ],
)
def test_a_quick_benchmark_writes_all_it_promises_and_replaces_nothing_unasked(capsys, tmp_path, words, groups):
    if "--tune" in words:
        pytest.importorskip("optuna")
    out = tmp_path / "deep" / "o"
    said = call_study(capsys, *words, "--quick", "--out", out)
    assert (said.code, said.err) == (0, "")
    assert {name for name in contents(out) if not name.startswith("outcomes")} == FILES
    assert all(str(out / name) in said.out for name in FILES)
    assert (out / "table.md").read_text() in said.out
    rows = result_rows(out)
    assert all(wanted <= {row[column] for row in rows} for column, wanted in groups.items())
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    ran = json.loads((out / "environment.json").read_text())
    assert {"latentopt", "torch", "python", "numpy"} <= set(ran["versions"])
    assert ran["threads"] == 1
    assert ran["seconds"] > 0
    assert f"python -m benchmarks {words[0]} " in ran["command"]
    before = contents(out)
    again = call_study(capsys, *words, "--quick", "--out", out)
    assert (again.code, again.err.count("\n"), again.out) == (2, 1, "")
    assert contents(out) == before


BAD = [
    (["speed"], "study"),
    (["random-nets", "--model", "F"], "model"),
    (["random-nets", "--part", "figures"], "part"),
    (["random-nets", "--methods", "adam,sgd"], "methods"),
    (["random-nets", "--seeds", "0"], "seeds"),
    (["random-nets", "--steps", "-1"], "steps"),
    (["random-nets", "--first-seed", "-1"], "first_seed"),
    (["random-nets", "--tune", "--first-seed", "3"], "first_seed"),
    (["cost", "--networks", "vgg"], "networks"),
    (["cost", "--seconds", "0"], "seconds"),
    (["cost", "--threads", "0"], "threads"),
    (["norms", "--samples", "none"], "samples"),
    (["attack", "--networks", "vgg"], "networks"),
    (["attack", "--methods", "pgd,sgd"], "methods"),
    (["attack", "--eps", "0.1,0"], "eps"),
    (["attack", "--evaluations", "40,many"], "evaluations"),
    (["attack", "--budget", "0"], "budget"),
    (["attack", "--images", "0"], "images"),
    (["attack", "--part", "figures"], "part"),
    (["norms", "--repeats", "0"], "repeats"),
]


@pytest.mark.parametrize(("words", "name"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_line_before_any_work(capsys, tmp_path, monkeypatch, words, name):
    monkeypatch.chdir(tmp_path)
    said = call_study(capsys, *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"benchmarks: error: {name}: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STUDIES)
def test_help_names_the_options(capsys, name):
    said = call_study(capsys, name, "--help")
    assert said.code == 0
    assert all(option in said.out for option in ("--out", "--overwrite", "--quick", "--threads"))


def test_a_file_is_no_folder_for_results(tmp_path):
    (tmp_path / "o").write_text("mine")
    with refuses("out"):
        norms(quick=True, out=str(tmp_path / "o"))
    assert (tmp_path / "o").read_text() == "mine"


def test_names_are_chosen_in_their_own_order():
    known: dict[str, int] = {"fgsm": 0, "pgd": 1, "adam": 2}
    assert list(chosen("methods", "adam,fgsm", known, always="pgd")) == ["fgsm", "pgd", "adam"]
    assert list(chosen("methods", "all", known)) == list(known)


def test_what_is_stored_is_not_done_again(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"value": 3}

    path = tmp_path / "stored" / "one.json"
    assert stored(path, {"seed": 1}, work) == stored(path, {"seed": 1}, work) == {"value": 3}
    assert len(calls) == 1
    with refuses("out"):
        stored(path, {"seed": 2}, work)
