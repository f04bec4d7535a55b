"""`latentopt attack-policy` on an agent that stable-baselines3 saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from files import each_once, refused, table

from latentopt.cli import main

sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "cartpole.zip"
    sb3.PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu", policy_kwargs={"net_arch": [8]}).save(path)
    return path


def words(saved: Path, out: Path) -> list[str]:
    agent = ["--model", str(saved), "--algorithm", "PPO", "--env", "CartPole-v1", "--wandb", "disabled"]
    return ["attack-policy", *agent, "--eps", "0.5", "--episodes", "3", "--steps", "5", "--out", str(out)]


def test_episodes_are_played_attacked_and_not(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o"
    assert main(words(saved, out)) == 0
    assert "the action changed in" in capsys.readouterr().out
    written = {"results.csv", "metrics.jsonl", "recipe.yaml", "returns.png", "returns.safetensors"}
    written |= {"job.json", "summary.json"}
    assert {path.name for path in out.iterdir()} == {*written, "shards"}
    rows = table(out)
    assert [int(row["episode"]) for row in rows] == [0, 1, 2]
    for row in rows:
        assert float(row["attacked_return"]) == int(row["attacked_steps"])  # CartPole pays 1 a step
        assert 0 < float(row["changed"]) <= 1
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(3))
    assert [line["attacked_return"] for line in lines] == [float(row["attacked_return"]) for row in rows]
    assert yaml.safe_load((out / "recipe.yaml").read_text())["eps"] == 0.5
    assert main(each_once([*words(saved, out), "--eps", "0.4"])) == 2  # another job's results are there


@pytest.mark.slow
def test_a_stopped_job_goes_on(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentopt.jobs.policy_attacker.BATCH", 2)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert main(words(saved, whole)) == 0
    assert main(words(saved, parted)) == 0
    last = parted / "shards" / "000000002.safetensors"
    last.unlink()
    (parted / "results.csv").unlink()
    before = (parted / "shards" / "000000000.safetensors").stat().st_mtime_ns
    assert main(words(saved, parted)) == 0
    assert last.is_file()
    assert (parted / "shards" / "000000000.safetensors").stat().st_mtime_ns == before
    assert table(parted) == table(whole)


def test_without_an_attack_episodes_are_the_same_whichever_are_played_together(saved: Path, tmp_path: Path) -> None:
    assert main(each_once([*words(saved, tmp_path / "three"), "--eps", "0"])) == 0
    assert main(each_once([*words(saved, tmp_path / "one"), "--eps", "0", "--episodes", "1"])) == 0
    assert table(tmp_path / "one") == table(tmp_path / "three")[:1]
    for row in table(tmp_path / "three"):
        assert row["attacked_return"] == row["unattacked_return"]
        assert float(row["changed"]) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--eps", "-1"], "eps: expected a finite number >= 0"),
        (["--algorithm", "REINFORCE"], "algorithm: expected one of PPO"),
        (["--env", "NoSuchGame-v0"], "env: expected the name of a gymnasium environment"),
        (["--env", "Pendulum-v1"], "observations: expected shape (B, 4)"),
        (["--model", "missing.zip"], "model: expected a file"),
        (["--model", "mnist-cnn"], "model: expected a policy, got the classifier 'mnist-cnn'"),
        (["--optimizer", "newton"], "optimizer: expected one of"),
        (["--episodes", "0"], "episodes: expected"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: list[str], message: str
) -> None:
    assert refused(capsys, *words(saved, tmp_path / "o"), *changed).startswith(f"latentopt: error: {message}")
    assert not (tmp_path / "o").exists()
