"""`latentopt doctor` tells what is broken, what is only missing, and what to do; and never a key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from files import call, write_mnist

from latentopt.cli import doctor
from latentopt.cli.doctor import Finding
from latentopt.zoo import card, cards

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """In a folder of its own; packages that take seconds to import are imported once, by the first test."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("LATENTOPT_CACHE", str(tmp_path / "cache"))


def findings(capsys, code: int) -> dict[str, dict[str, str]]:
    said = call(capsys, "doctor", "--json")
    assert (said.code, said.err) == (code, "")
    told = json.loads(said.out)
    assert told["in_order"] == (code == 0)
    return {finding["name"]: finding for finding in told["findings"]}


def test_an_installation_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(write_mnist(tmp_path)))
    before = sorted(tmp_path.glob("*.gz"))
    found = findings(capsys, 0)
    assert {finding["state"] for finding in found.values()} <= {"ok", "missing"}
    wanted = {"python", "torch", "torchvision", "lightning", "wandb", "extra rl", "cpu", "cuda", "mps", "wandb mode"}
    assert wanted | {"wandb key", "data", "data mnist", "runs/"} <= set(found)
    assert {f"model {name}" for name in cards.names()} <= set(found)
    assert found["data mnist"]["detail"].startswith("256 of train, 64 of t10k")
    assert all(finding["todo"] for finding in found.values() if finding["state"] == "broken")
    said = call(capsys, "doctor")
    assert said.code == 0
    assert said.out.endswith("\nin order\n")
    assert len([line for line in said.out.splitlines() if line.startswith(("ok ", "missing "))]) == len(found)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "home") == before  # there packages leave theirs


def test_a_changed_model_and_one_without_weights_are_broken(capsys, tmp_path, monkeypatch):
    shutil.copytree(cards.find("mnist-cnn").parent, tmp_path / "models")
    path = tmp_path / "models" / "mnist-cnn" / cards.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (tmp_path / "models" / "mnist-vae" / cards.WEIGHTS).unlink()
    (tmp_path / "models" / "mnist-dcgan" / cards.CARD).write_text("name: x")
    monkeypatch.setattr(card, "shipped_folder", lambda kind: tmp_path / kind)
    found = findings(capsys, 1)
    broken = {name for name, finding in found.items() if finding["state"] == "broken"}
    assert broken == {"model mnist-cnn", "model mnist-vae", "model mnist-dcgan"}
    assert "expected" in found["model mnist-cnn"]["detail"]
    assert all("install latentopt again" in found[name]["todo"] for name in broken)
    said = call(capsys, "doctor")
    assert said.code == 1
    assert said.out.endswith("3 broken: see above\n")


def test_data_that_are_not_there_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "nowhere"))
    assert [finding.state for finding in doctor.check_data()] == ["broken"]  # it was named, and is not there
    monkeypatch.delenv("LATENTOPT_DATA")
    assert [finding.state for finding in doctor.check_data()] == ["missing"]
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "data"))
    assert [finding.state for finding in doctor.check_data()] == ["ok", "missing", "missing"]
    write_mnist(tmp_path / "data")
    path = tmp_path / "data" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    damaged = {finding.name: finding for finding in doctor.check_data()}["data mnist"]
    assert damaged.state == "broken"
    assert path.name in damaged.detail
    path.unlink()
    part = {finding.name: finding for finding in doctor.check_data()}["data mnist"]
    assert part.state == "missing"
    assert path.name in part.detail


def test_a_package_that_is_not_there_is_broken_and_an_extra_only_missing(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", {"no_such_module": "no-such-package", "yaml": "pyyaml"})
    assert [(finding.state, finding.todo) for finding in doctor.check_packages()] == [
        ("broken", "pip install no-such-package"),
        ("ok", ""),
    ]
    monkeypatch.setattr(doctor, "EXTRAS", {"extra none": (("no_such_module",), "pip install it")})
    assert doctor.check_extras()[0] == Finding("extra none", "missing", "without no_such_module", "pip install it")


def test_a_package_that_cannot_be_imported_is_broken(tmp_path, monkeypatch):
    (tmp_path / "hurt.py").write_text("raise OSError('built for another machine')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", {"hurt": "pyyaml"})
    monkeypatch.setattr(doctor, "IMPORTED", ("hurt",))
    (finding,) = doctor.check_packages()
    assert finding.state == "broken"
    assert "built for another machine" in finding.detail


def test_a_key_is_told_of_and_never_shown(capsys, tmp_path, monkeypatch):
    assert {f.name: f.state for f in doctor.check_wandb()} == {"wandb mode": "ok", "wandb key": "missing"}
    Path("netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {SECRET}\n")
    Path("netrc").chmod(0o600)
    assert {f.name: f.state for f in doctor.check_wandb()}["wandb key"] == "ok"
    Path("netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_MODE", "offline")
    mode, key = doctor.check_wandb()
    assert (key.state, key.detail) == ("ok", "configured")
    assert "WANDB_MODE=offline" in mode.detail
    assert SECRET not in call(capsys, "doctor").out + call(capsys, "doctor", "--json").out


def test_a_folder_for_results_that_cannot_be_written_is_broken(tmp_path):
    Path("runs").write_text("a file")
    runs = doctor.check_folders()[0]
    assert (runs.name, runs.state) == ("runs/", "broken")
    assert "--out" in runs.todo


@pytest.mark.parametrize("words", [["--yaml"], ["--json", "--json"], ["now"]])
def test_other_words_are_refused(capsys, words):
    said = call(capsys, "doctor", *words, once=False)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
