from __future__ import annotations

import subprocess
import sys

import latentopt as lo

HEAVY = {"wandb", "lightning", "pytorch_lightning", "matplotlib", "sklearn", "torchvision", "jsonargparse", "PIL"}


def test_importing_latentopt_imports_nothing_heavier_than_torch(tmp_path):
    names = "[getattr(latentopt, name) for name in latentopt.__all__ if name not in ('RefinedDDPG', 'RefinedTD3')]"
    script = f"import sys, latentopt; {names}; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    modules = set(done.stdout.splitlines())
    assert {"latentopt", "torch"} <= modules
    assert not HEAVY & modules


def test_importing_latentopt_alone_imports_no_torch_and_a_name_beats_a_module(tmp_path):
    script = (
        "import sys, latentopt; print('torch' in sys.modules); import latentopt.solver.loop, latentopt.attacks.attack; "
    )
    script += "print(latentopt.solver.loop.__name__, type(latentopt.solver.loop).__name__, latentopt.metrics.__name__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["False", "solve function latentopt.metrics"]


def test_a_name_that_is_not_there_is_no_attribute():
    assert not hasattr(lo, "nothing_of_this_name")
    assert set(lo.__all__) <= set(dir(lo))
    assert {name for names in lo._HOMES.values() for name in names} <= set(lo.__all__)


def test_every_public_name_is_there():
    assert all(hasattr(lo, name) for name in lo.__all__)
    promised = {
        "load",
        "Generator",
        "Reconstruction",
        "solve",
        "maximize",
        "GD",
        "Adam",
        "ADRGD",
        "Result",
        "InputError",
    }
    assert promised <= set(lo.__all__)
