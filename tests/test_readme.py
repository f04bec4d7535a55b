from __future__ import annotations

import re
from pathlib import Path

import torch

import latentopt as lo

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, attack, second, actions = blocks("python")
    names: dict = {}
    exec(first, names)
    assert "[4, 1, 28, 28]" in capsys.readouterr().out
    assert torch.equal(lo.Result.load("four.safetensors").x, names["result"].x)
    assert names["result"].value.max() < 1e-3
    exec(attack, names)
    assert int(names["found"].success.sum()) >= 4
    assert len(list((tmp_path / "adversarial").glob("*.png"))) == 8
    exec(second, names)
    assert names["result"].value.max() < 1e-3
    assert names["result"].forwards.max() + names["result"].backwards.max() <= 600
    assert (tmp_path / "run.safetensors").is_file()
    exec(actions, names)
    assert names["found"].gain.max() > 0.01


def test_the_files_and_pictures_that_the_readme_names_are_there():
    text = README.read_text(encoding="utf-8")
    named = re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r"`(CONTRIBUTING\.md|constraints\.txt)`", text)
    assert "docs/digits.png" in named
    assert [name for name in named if not (README.parent / name).is_file()] == []


def test_every_command_line_of_the_readme_parses():
    """Each option that a README's command names is one that the job has."""
    from latentopt.cli.arguments import parser_of
    from latentopt.jobs.attack import attack
    from latentopt.jobs.attack_policy import attack_policy
    from latentopt.jobs.reconstruct import reconstruct

    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if "bin/latentopt " in line]
    for job in (reconstruct, attack, attack_policy):
        name = job.__name__.replace("_", "-")
        known = {word for action in parser_of(name, job, [])._actions for word in action.option_strings}
        own = [line for line in lines if f"latentopt {name} " in line]
        used = {word for line in own for word in line.split() if word.startswith("--") and "." not in word}
        assert used
        assert used <= known
