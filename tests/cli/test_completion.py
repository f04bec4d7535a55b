"""Shell completion: the script that is printed, read and asked by bash itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from files import ROOT, call

from latentopt.cli.registry import COMMANDS
from latentopt.optimizers import METHODS
from latentopt.zoo import cards

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_latentopt
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    from contextlib import redirect_stdout

    from latentopt.cli import main

    path = tmp_path_factory.mktemp("completion") / "latentopt.bash"
    with path.open("w") as file, redirect_stdout(file):
        assert main(["completion", "bash"]) == 0
    return path


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    command = ["bash", "-c", ASK, "bash", str(script), "latentopt", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_bash_completes_commands_and_names(script):
    assert completed(script, "") == set(COMMANDS)
    assert completed(script, "att") == {"attack", "attack-policy"}
    assert completed(script, "analyze", "") == {"dynamics", "capped", "regions", "certify"}
    assert completed(script, "recipes", "") == {"list", "show", "copy"}
    assert completed(script, "completion", "") == {"bash", "zsh", "tcsh"}


def test_bash_completes_models_recipes_and_sweeps_by_name_and_files_too(script):
    assert set(cards.names()) <= completed(script, "attack", "--model", "")
    assert completed(script, "models", "show", "mnist-c") == {"mnist-cnn", "mnist-cnn-robust"}
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert recipes <= completed(script, "run", "")
    assert completed(script, "run", "READ") == {"README.md"}
    assert completed(script, "train", "train-mnist-v") == {"train-mnist-vae"}
    assert completed(script, "sweep", "rec") == {"reconstruct-digits", "recipes"}


def test_bash_completes_options_and_what_they_may_be(script):
    assert completed(script, "attack", "--no") == {"--norm"}
    assert completed(script, "attack", "--norm", "") == {"linf", "l2"}
    assert completed(script, "run", "digits", "--batch-") == {"--batch-size"}
    assert completed(script, "analyze", "regions", "--dry") == {"--dry-run"}
    assert set(METHODS) <= completed(script, "reconstruct", "--optimizer", "")
    assert completed(script, "reconstruct", "--wandb", "o") == {"online", "offline"}
    assert completed(script, "reconstruct", "--resize", "") == {"true", "false"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_scripts_too(capsys, tmp_path, shell):
    said = call(capsys, "completion", shell)
    assert said.code == 0
    assert all(word in said.out for word in ("mnist-vae", "regions"))
    if shutil.which(shell):
        (tmp_path / "script").write_text(said.out)
        assert subprocess.run([shell, "-n", tmp_path / "script"]).returncode == 0


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_another_shell_is_refused(capsys, words):
    said = call(capsys, "completion", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
