from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from files import VIDEO, blobs, call, contents, own_images, table
from nets import near
from PIL import Image
from safetensors.torch import load_file

import latentopt as lo
from latentopt import metrics
from latentopt.components import describe
from latentopt.jobs.reconstruct import ReconstructJobResult, reconstruct
from latentopt.objectives import L1
from latentopt.operators import Downsample, Hole
from latentopt.optimizers import method
from latentopt.zoo import cards

COUNT, STEPS, RESTARTS = 6, 12, 3


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("targets") / "own.npy"
    np.save(path, own_images(COUNT).numpy())
    return path


def run(targets: Path, out: Path, **changes: Any) -> ReconstructJobResult:
    settings = {"operator": Downsample(4), "steps": STEPS, "restarts": RESTARTS, "batch_size": 4, **changes}
    return reconstruct("mnist-vae", [str(targets)], out=str(out), wandb="disabled", device="cpu", **settings)


@pytest.fixture(scope="module")
def done(targets, tmp_path_factory) -> tuple[Path, ReconstructJobResult]:
    out = tmp_path_factory.mktemp("job") / "out"
    return out, run(targets, out)


def latents(folder: Path) -> torch.Tensor:
    return load_file(folder / "latents.safetensors")["latents"]


def figures(folder: Path, *names: str) -> torch.Tensor:
    """(N, names) of a job's results."""
    return torch.tensor([[float(row[name]) for name in names] for row in table(folder)])


def test_every_target_has_a_row_in_order(done):
    out, report = done
    assert [row["name"] for row in table(out)] == [f"own-{at:06d}" for at in range(COUNT)]
    assert [row["name"] for row in report.rows] == [row["name"] for row in table(out)]
    assert report.skipped == []
    assert report.compared == "image"
    assert {row["status"] for row in table(out)} == {"BUDGET"}
    bears = [2000 // COUNT + (at < 2000 % COUNT) for at in range(COUNT)]  # of the samples that the start learns from
    own, back = RESTARTS * (STEPS + 1) + 1, RESTARTS * STEPS
    assert figures(out, "forwards", "backwards").tolist() == [[own + share, back] for share in bears]


def test_the_rows_are_what_the_saved_latents_give(done, targets):
    out, _ = done
    true = torch.tensor(np.load(targets))
    ours = lo.load("mnist-vae")(latents(out))
    expected = [metrics.mse(*map(Downsample(4), (ours, true)))]
    expected += [metric(ours, true) for metric in (metrics.mse, metrics.psnr, metrics.ssim)]
    near(figures(out, "loss", "mse", "psnr", "ssim"), torch.stack(expected, 1), 1e-5)


def test_the_search_is_the_one_that_reconstruct_makes(done, targets):
    generator, images = cards.load_generator("mnist-vae"), torch.tensor(np.load(targets))
    settings = {"operator": Downsample(4), "steps": STEPS, "restarts": RESTARTS, "patience": None}
    near(latents(done[0]), lo.reconstruct(generator, images, **settings).x, 1e-4)


def test_everything_promised_is_written_and_opens(done):
    out, report = done
    names = {"results.csv", "latents.safetensors", "metrics.jsonl", "recipe.yaml"}
    names |= {"grid.png", "trajectory.gif", "convergence.png", "report.html", *VIDEO}
    assert {path.name for path in report.files} == names
    assert {path.name for path in out.iterdir()} == {*names, "job.json", "summary.json", "shards"}
    assert yaml.safe_load((out / "recipe.yaml").read_text())["steps"] == STEPS
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2 * STEPS))  # two batches
    with Image.open(out / "convergence.png") as image:
        image.verify()


def test_the_grid_shows_target_measurement_and_reconstruction(done, targets):
    out, _ = done
    with Image.open(out / "grid.png") as image:
        grid = np.asarray(image)[22:]  # below the titles
    assert grid.shape == (3 * 130, 2 * (8 + 4 * 116), 3)  # two samples a row, four columns of 112 pixels framed by 2
    true = (255 * np.load(targets)[1, 0]).round().astype(np.uint8)
    ours = (255 * lo.load("mnist-vae")(latents(out))[1, 0].numpy()).round().astype(int)
    left = 8 + 4 * 116 + 8 + 2  # of the second sample
    assert np.array_equal(grid[2:114:4, left : left + 112 : 4, 0], true)
    assert np.abs(grid[2:114:4, left + 232 : left + 344 : 4, 0] - ours).max() <= 1


def test_the_trajectory_starts_and_ends_where_the_search_does(done):
    with Image.open(done[0] / "trajectory.gif") as animation:
        count = getattr(animation, "n_frames", 1)
        frames = []
        for at in range(count):
            animation.seek(at)
            frames.append(np.asarray(animation.convert("RGB"))[2:114:4, 242:354:4, 0].astype(int))  # the third column
    ours = (255 * lo.load("mnist-vae")(latents(done[0]))[0, 0].numpy()).round()
    errors = [np.abs(frame - ours).mean() for frame in frames]
    assert count == 8  # of 12 steps: 1, 3, ..., 11, each tenth and the last
    assert errors[-1] < 0.2 * errors[0]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_results_do_not_depend_on_the_batch_size(done, targets, tmp_path, batch_size):
    run(targets, tmp_path / "o", batch_size=batch_size)
    near(latents(tmp_path / "o"), latents(done[0]), 1e-4)
    columns = ("mse", "ssim", "loss", "forwards")
    near(figures(tmp_path / "o", *columns), figures(done[0], *columns), 1e-5)


def test_a_target_alone_has_the_row_it_has_among_others(done, tmp_path):
    np.save(tmp_path / "own.npy", own_images(COUNT).numpy()[4:5])
    run(tmp_path / "own.npy", tmp_path / "o")
    near(figures(tmp_path / "o", "mse", "psnr", "loss")[0], figures(done[0], "mse", "psnr", "loss")[4], 1e-4)


def test_a_jobs_recipe_gives_the_same_results_again_and_once_finished_changes_nothing(done, tmp_path, capsys):
    words = ["run", done[0] / "recipe.yaml", "--out", tmp_path / "again"]
    assert call(capsys, *words).code == 0
    assert table(tmp_path / "again") == table(done[0])
    assert torch.equal(latents(tmp_path / "again"), latents(done[0]))
    before = contents(tmp_path)
    assert call(capsys, *words).code == 0
    assert contents(tmp_path) == before


def test_measurements_give_the_latents_that_their_images_give(done, targets, tmp_path):
    np.save(tmp_path / "small.npy", Downsample(4)(torch.tensor(np.load(targets))).numpy())
    report = run(tmp_path / "small.npy", tmp_path / "o")
    assert report.compared == "measurement"
    near(latents(tmp_path / "o"), latents(done[0]), 1e-4)
    near(figures(tmp_path / "o", "mse"), figures(tmp_path / "o", "loss"), 1e-7)


def test_targets_of_the_images_shape_can_be_measurements(tmp_path):
    images = own_images(2)
    np.save(tmp_path / "whole.npy", images.numpy())
    np.save(tmp_path / "holed.npy", Hole(8)(images).numpy())
    reports = [
        run(tmp_path / "whole.npy", tmp_path / "a", operator=Hole(8)),
        run(tmp_path / "holed.npy", tmp_path / "b", operator=Hole(8), measured=True),
    ]
    assert [report.compared for report in reports] == ["image", "measurement"]
    near(latents(tmp_path / "a"), latents(tmp_path / "b"), 1e-5)


def test_the_loss_and_the_seed_asked_for_are_used(done, targets, tmp_path):
    run(targets, tmp_path / "o", loss=L1(), seed=5, limit=2)
    ours = lo.load("mnist-vae")(latents(tmp_path / "o"))
    error = Downsample(4)(ours) - Downsample(4)(torch.tensor(np.load(targets)[:2]))
    near(figures(tmp_path / "o", "loss")[:, 0], error.abs().mean((1, 2, 3)), 1e-6)
    run(targets, tmp_path / "p", seed=5, limit=2)
    assert (latents(tmp_path / "p") - latents(done[0])[:2]).abs().max() > 0.1


def test_pictures_show_the_first_sixteen_of_many(tmp_path):
    np.save(tmp_path / "many.npy", blobs(19, seed=0))
    run(tmp_path / "many.npy", tmp_path / "o", batch_size=6, steps=2, restarts=1)
    assert len(table(tmp_path / "o")) == 19
    with Image.open(tmp_path / "o" / "grid.png") as image:
        assert image.size[1] == 22 + 8 * 130  # images of 112 pixels framed by 2, and their names


@pytest.mark.parametrize(("prior", "preset"), [("box", "adr-gd-attack"), ("unconstrained", "adr-gd-latent")])
def test_adr_gd_is_the_preset_for_the_priors_feasible_set(targets, tmp_path, prior, preset):
    run(targets, tmp_path / "out", optimizer="adr-gd", prior=prior, steps=1)
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["optimizer"] == describe(method(preset))
    changed = {"class_path": "adr-gd", "init_args": {"gates": {"init_args": {"tau": 0.5}}}}
    run(targets, tmp_path / "changed", optimizer=changed, prior=prior, steps=1)
    recipe = yaml.safe_load((tmp_path / "changed" / "recipe.yaml").read_text())
    found = describe(method(preset))
    found["init_args"]["gates"]["init_args"]["tau"] = 0.5
    assert recipe["optimizer"] == found
