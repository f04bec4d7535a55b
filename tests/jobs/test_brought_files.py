"""Jobs on what people bring beside images: measurements, saved latents, conditions, signals and volumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from files import call, refused, table, write_model, write_png
from nets import near, refill, refuses
from safetensors import safe_open
from safetensors.torch import save_file

import latentopt as lo
from latentopt.components import describe
from latentopt.files import FileWarning
from latentopt.inverse.initializers import Saved
from latentopt.jobs.reconstructor import open_targets
from latentopt.jobs.sources import open_source
from latentopt.networks.conditions import as_conditions
from latentopt.pictures import to_pictures
from latentopt.zoo import cards
from latentopt.zoo.stylegan2 import StyleGAN2, in_space

QUICK = ["--steps", "3", "--restarts", "2", "--wandb", "disabled", "--device", "cpu"]
RANDOM = ["--start", "random"]


def write_card(folder: Path, spec: dict[str, Any], **settings: Any) -> Path:
    card = cards.GeneratorCard(
        name="tiny",
        summary="for tests",
        architecture={"generator": spec},
        output_range=(-1, 1),
        start_scale=1,
        **settings,
    )
    cards.save_model(folder, card, {"generator": refill(cards.build(spec), seed=0).float()})
    return folder


def mlp(*shape: int) -> dict[str, Any]:
    sizes = [3, 6, int(np.prod(shape))]
    return {"class_path": "latentopt.zoo.architectures.MLP", "init_args": {"sizes": sizes, "shape": list(shape)}}


def store(path: Path, array: np.ndarray) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez(path, measurements=array, labels=np.arange(len(array)))
        case ".safetensors":
            save_file({"y": torch.from_numpy(array)}, path)
        case ".pt":
            torch.save(torch.from_numpy(array), path)
    return path


@pytest.mark.parametrize("name", ["y.npy", "y.npz", "y.safetensors", "y.pt"])
def test_measurements_of_every_array_file_are_targets(tmp_path, name):
    y = np.linspace(-3, 5, 15, dtype=np.float32).reshape(3, 5)
    generator = cards.load_generator(write_model(tmp_path / "tiny"))
    source = open_source([str(store(tmp_path / name, y))])
    targets, measured = open_targets(generator, source, lo.operators.Gaussian(5), None, resize=False, convert=False)
    assert measured
    assert torch.equal(
        torch.stack([image for i in range(3) if (image := targets[i].image) is not None]), torch.tensor(y)
    )
    with refuses("targets", "(6,)"):
        open_targets(generator, source, lo.operators.Gaussian(6), None, resize=False, convert=False)


def jobs_latents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    model = write_model(tmp_path / "tiny")
    for i in range(3):
        write_png(tmp_path / "targets" / f"{i}.png", np.full((4, 4), 80 * i, np.uint8))
    command = ["reconstruct", "--model", model, "--targets", tmp_path / "targets", *QUICK, *RANDOM]
    assert call(capsys, *command, "--out", tmp_path / "first").code == 0
    return model, tmp_path / "first" / "latents.safetensors"


def test_a_job_starts_from_the_latents_of_another(tmp_path, capsys):
    """They are matched by the names of the targets, and another file is another job."""
    model, latents = jobs_latents(tmp_path, capsys)
    command = ["reconstruct", "--model", model, *QUICK, "--optimizer", "gd", "--steps", "1", "--start", latents]
    command += ["--batch_size", "1", "--targets", tmp_path / "targets" / "2.png", tmp_path / "targets" / "0.png"]
    assert call(capsys, *command, "--out", tmp_path / "second").code == 0
    first, second = ({row["name"]: row for row in table(tmp_path / name)} for name in ("first", "second"))
    assert list(second) == ["2.png", "0.png"]
    for name, row in second.items():
        assert float(row["loss"]) <= float(first[name]["loss"]) + 1e-6
    assert describe(Saved(latents)) == {**describe(Saved(latents)), "init_args": {"path": str(latents)}}


@pytest.mark.parametrize("kind", ["result", "array", "tensor"])
def test_latents_of_every_file_are_starts(tmp_path, kind):
    generator = cards.load_generator(write_model(tmp_path / "tiny"))
    z = generator.latents(2, seed=3)
    images = generator(z)
    path = tmp_path / ("z.npy" if kind == "array" else "z.safetensors")
    if kind == "result":
        lo.solve(lo.Reconstruction(generator, images), lo.GD(1e-9), steps=1, start=z).save(path)
    else:
        store(path, z.numpy())
    found = lo.reconstruct(generator, images, start=str(path), steps=1, restarts=3, optimizer="gd", retries=1)
    near(found.value, torch.zeros(2), 1e-9)
    near(found.x, z, 1e-4)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("few.npy", np.zeros((2, 3), np.float32), "3 latents"),
        ("shape.npy", np.zeros((3, 4), np.float32), "shape (3,)"),
        ("nan.npy", np.full((3, 3), np.nan), "finite"),
        ("whole.npy", np.zeros((3, 3), int), "floating point"),
        ("none.npy", None, "no file"),
    ],
)
def test_latents_that_do_not_fit_are_refused(tmp_path, name, array, words):
    generator = cards.load_generator(write_model(tmp_path / "tiny"))
    if array is not None:
        store(tmp_path / name, array)
    with pytest.raises(lo.InputError) as caught:
        lo.reconstruct(generator, torch.zeros(3, 1, 4, 4), start=str(tmp_path / name), steps=1)
    assert words in str(caught.value)


STYLES = StyleGAN2(size=8, style=4, mapping=2, channels=[4, 4], colours=1).eval()


def test_latents_of_another_space_are_refused_by_its_name(tmp_path):
    z, w = (in_space(STYLES, space) for space in ("z", "w"))
    assert z.latent_shape == w.latent_shape
    target = z(z.latents(1, 0)).detach().clamp(*z.emitted_range())
    found = lo.reconstruct(z, target, start="random", restarts=1, steps=1)
    found.save(tmp_path / "z.safetensors")
    for start in (found, str(tmp_path / "z.safetensors")):
        with refuses("start", "space w, got those of"):
            lo.reconstruct(w, target, start=start, steps=1)
        assert lo.reconstruct(z, target, start=start, steps=1).meta["space"] == "z"
    with refuses("latents", "space w"):
        lo.tune(w, found, target, steps=1)
    with refuses("start", "space z, translate, got those of a result in w, translate"):
        posed = lo.reconstruct(lo.with_nuisances(w, translate=1), target, start="random", restarts=1, steps=1)
        lo.reconstruct(lo.with_nuisances(z, translate=1), target, start=posed, steps=1)


def test_latents_of_another_model_or_space_are_told_by_the_job(tmp_path, capsys):
    model, latents = jobs_latents(tmp_path, capsys)
    other = write_model(tmp_path / "other", seed=1)
    command = ["reconstruct", "--targets", tmp_path / "targets", *QUICK, "--start", latents]
    with pytest.warns(FileWarning, match=f"of another model: {model}"):
        assert call(capsys, *command, "--model", other, "--out", tmp_path / "second").code == 0
    with safe_open(latents, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
    assert meta["space"] == "latents"
    save_file({"latents": torch.zeros(3, 3)}, latents, {"meta": json.dumps({**meta, "space": "w"})})
    told = refused(capsys, *command, "--model", model, "--out", tmp_path / "third")
    assert "start: expected latents of the space latents, got those of" in told
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("where", ["first", "."])
def test_a_folder_in_place_of_its_file_of_latents_is_told_with_the_file(tmp_path, capsys, where):
    model, latents = jobs_latents(tmp_path, capsys)
    command = ["--model", model, "--targets", tmp_path / "targets", "--out", tmp_path / "second"]
    folder, hint = tmp_path / where, f"did you mean {str(latents)!r}" if where == "first" else "the folder"
    assert hint in refused(capsys, "reconstruct", *command, "--start", folder)
    assert hint in refused(capsys, "tune", *command, "--latents", folder)


BILINEAR = {"class_path": "torch.nn.Bilinear", "init_args": {"in1_features": 2, "in2_features": 3, "out_features": 12}}


def test_a_card_has_several_latents_by_name(tmp_path):
    folder = write_card(tmp_path / "model", BILINEAR, latent_shape={"input1": [2], "input2": [3]})
    generator = cards.load_generator(folder)
    assert generator.part_shapes == {"input1": (2,), "input2": (3,)}
    assert generator(generator.latents(2, seed=1)).shape == (2, 12)


def test_a_card_has_conditions(tmp_path):
    folder = write_card(
        tmp_path / "model", BILINEAR, latent_shape={"input1": [2]}, conditions={"input2": [[1.0, 2, 3]]}
    )
    generator = cards.load_generator(folder)
    assert torch.equal(generator.conditions["input2"], torch.tensor([[1.0, 2, 3]]))
    assert generator(generator.latents(2, seed=1)).shape == (2, 12)


def test_a_job_takes_a_condition_for_each_target(tmp_path, capsys):
    folder = write_card(tmp_path / "model", BILINEAR, latent_shape={"input1": [2]})
    conditions = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    generator = cards.load_generator(folder).given(input2=conditions)
    images = generator(generator.latents(3, seed=1)).clamp(0, 1)
    targets, given = store(tmp_path / "x.npy", images.numpy()), store(tmp_path / "c.npy", conditions.numpy())
    command = ["reconstruct", "--model", folder, "--targets", targets, *QUICK, *RANDOM, "--batch_size", "2"]
    assert call(capsys, *command, "--conditions.input2", given, "--out", tmp_path / "out").code == 0
    found = lo.reconstruct(generator, images, start="random", steps=3, restarts=2)
    assert [float(row["loss"]) for row in table(tmp_path / "out")] == pytest.approx(found.value.tolist(), abs=1e-5)
    assert (tmp_path / "out" / "grid.png").is_file()
    two = ["--conditions.input2", "[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]"]
    assert "1 or 3 conditions" in refused(capsys, *command, *two, "--out", tmp_path / "other")


CONDITIONS = {"of all": (3, [3]), "of each": ([3, 1], [3, 1]), "floats": ([[0.5]], [[0.5]])}


@pytest.mark.parametrize(("value", "tensor"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_conditions_of_a_recipe_are_tensors(value, tensor):
    assert as_conditions({"labels": value})["labels"].tolist() == tensor


def test_a_job_takes_volumes(tmp_path, capsys):
    folder = write_card(tmp_path / "model", mlp(1, 4, 3, 2), latent_shape=[3])
    generator = cards.load_generator(folder)
    targets = store(tmp_path / "x.npy", generator(generator.latents(2, seed=1)).clamp(0, 1).numpy())
    command = ["--model", folder, "--targets", targets, "--steps", "2", "--restarts", "1", "--device", "cpu", *RANDOM]
    assert call(capsys, "reconstruct", *command, "--wandb", "disabled", "--out", tmp_path / "out").code == 0
    assert len(table(tmp_path / "out")) == 2
    assert (tmp_path / "out" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((12,), (1, 64, 12)),
        ((2, 300), (1, 64, 256)),
        ((1, 4, 3, 2), (1, 3, 2)),
        ((3, 4, 4, 4), (3, 4, 4)),
        ((2, 4, 4), (1, 4, 4)),
        ((3, 4, 4), (3, 4, 4)),
    ],
    ids=str,
)
def test_signals_volumes_and_any_number_of_channels_have_a_picture(shape, picture):
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    assert to_pictures(images).shape == (2, *picture)


def test_a_signal_is_drawn_as_a_line():
    drawn = to_pictures(torch.tensor([[0.0, 0, 1, 1]]))[0, 0] == 0
    assert drawn[-1].tolist() == [True, True, True, False]
    assert drawn[0].tolist() == [False, False, True, True]
    assert drawn.sum(0).tolist() == [1, 1, 64, 1]
