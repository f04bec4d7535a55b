"""`latentopt analyze certify`, end to end on small networks, and what it refuses."""

from __future__ import annotations

import yaml
from files import table
from nets import refuses

from latentopt.cli import main
from latentopt.jobs.analyze.certify import certify, parse_numbers


def test_a_random_network_is_bounded_and_every_optimiser_priced(tmp_path, capsys):
    out = tmp_path / "certify"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"job": "analyze-certify", "model": "random-A", "seeds": "0-1", "seconds": 0.5}))
    words = ["--optimizers", "pgd,random-shooting", "--evaluations", "640", "--out", str(out), "--wandb", "disabled"]
    assert main(["run", str(recipe), *words]) == 0
    assert "Optimisers" in capsys.readouterr().out
    for row, seed in zip(table(out), range(2), strict=True):
        assert row["case"] == f"A seed {seed}"
        assert float(row["bound"]) >= float(row["value"]) >= float(row["value_pgd"]) - 1e-3
        assert float(row["gap_random-shooting"]) >= float(row["gap_pgd"]) > 0
        assert row["status"] == "TIME"
    assert {"table.md", "plot.png", "recipe.yaml"} <= {file.name for file in out.iterdir()}
    assert main(["run", str(recipe), *words]) == 2  # what is there is kept


def test_a_small_classifier_is_told_robust_or_not(tmp_path):
    certify("digits", eps=0.02, limit=2, optimizers="pgd", evaluations=640, out=str(tmp_path / "out"), wandb="disabled")
    for row in table(tmp_path / "out"):
        assert row["status"] == "OPTIMAL"
        assert row["verdict"] == ("robust" if float(row["bound"]) <= 0 else "not robust")


def test_seeds_are_numbers_and_ranges():
    assert parse_numbers("seeds", "0-2,7") == [0, 1, 2, 7]
    for text in ("", "a", "1-2-3", "-1", "3-1"):
        with refuses("seeds"):
            parse_numbers("seeds", text)
