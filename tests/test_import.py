from __future__ import annotations

import subprocess
import sys

import latentopt as lo

HEAVY = {"wandb", "lightning", "pytorch_lightning", "matplotlib", "sklearn", "torchvision", "jsonargparse", "PIL"}


def test_importing_latentopt_imports_nothing_heavier_than_torch(tmp_path):
    script = "import sys, latentopt; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    modules = set(done.stdout.splitlines())
    assert {"latentopt", "torch"} <= modules
    assert not HEAVY & modules


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
