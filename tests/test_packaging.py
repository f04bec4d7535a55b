from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from files import ROOT

import latentopt as lo
from latentopt.zoo import cards
from latentopt.zoo.paths import shipped_folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not all(importlib.util.find_spec(name) for name in ("build", "hatchling")):
        pytest.skip("needs build and hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return path


def test_the_wheel_holds_the_package_its_models_and_its_recipes_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (head,) = (name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(f"{head}/METADATA").decode()
        entry_points = archive.read(f"{head}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in names} == {"latentopt", head}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "latentopt").rglob("*.py")}
    assert code <= names
    for kind, suffix in (
        ("models", ("weights.safetensors", "card.yaml")),
        ("recipes", (".yaml",)),
        ("data", (".gz", ".md")),
    ):
        shipped = [path for path in (ROOT / kind).rglob("*") if path.name.endswith(suffix)]
        assert shipped
        assert {f"latentopt/_data/{path.relative_to(ROOT)}" for path in shipped} <= names
    assert f"\nVersion: {lo.__version__}\n" in metadata
    assert "latentopt = latentopt.cli:main" in entry_points


def test_the_installed_wheel_works_from_its_own_files(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import latentopt as lo; from latentopt.cli import main; from latentopt.zoo import cards;"
        "print(lo.__file__); print(cards.find('mnist-vae'));"
        "g = lo.load('mnist-vae'); print(tuple(g(g.latents(2, 0)).shape)); main(['recipes', 'list'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    package, model, shape, *recipes = done.stdout.splitlines()
    assert Path(package) == tmp_path / "site" / "latentopt" / "__init__.py"
    assert Path(model) == tmp_path / "site" / "latentopt" / "_data" / "models" / "mnist-vae"
    assert shape == "(2, 1, 28, 28)"
    assert [line.split()[0] for line in recipes] == sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def test_a_checkout_uses_its_own_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Path(lo.__file__).parents[1] == ROOT
    assert (shipped_folder("models"), shipped_folder("recipes")) == (ROOT / "models", ROOT / "recipes")
    assert cards.find("mnist-vae") == ROOT / "models" / "mnist-vae"


def test_the_models_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()) < 13e6
