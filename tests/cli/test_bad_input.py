"""Whatever a user gets wrong is one line on stderr and exit code 2, with nothing done."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import (
    QUICK,
    blobs,
    call,
    change_card,
    contents,
    own_images,
    table,
    write_classifier,
    write_model,
    write_png,
)
from PIL import Image

import latentopt as lo
from latentopt.zoo import cards


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Files that are right, and files that are wrong."""
    folder = tmp_path_factory.mktemp("made")
    images = own_images(3).numpy()
    np.save(folder / "good.npy", images)
    for name, bad in (("nan", np.nan), ("inf", np.inf), ("above", 2.0)):
        np.save(folder / f"{name}.npy", np.full((2, 28, 28), bad))
    np.save(folder / "small.npy", images[:, :, ::4, ::4])
    np.save(folder / "negative.npy", images[:, :, ::4, ::4] - 1)
    (folder / "text.png").write_text("no image")
    write_png(folder / "colour.png", np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8))
    write_png(folder / "wide.png", np.zeros((28, 40), np.uint8))
    (folder / "empty").mkdir()
    (folder / "other.txt").touch()
    weights = write_model(folder / "truncated") / cards.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-20])
    spec = {"class_path": "latentopt.zoo.architectures.MLP", "init_args": {"sizes": [3, 9, 16], "shape": [1, 4, 4]}}
    change_card(write_model(folder / "misfit"), architecture={"generator": spec})
    change_card(write_model(folder / "shell"), architecture={"generator": {"class_path": "os.system"}})
    write_model(folder / "tiny")
    return folder


def refused(said) -> str:
    """What a refused command said, in one line."""
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("latentopt: error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert "Traceback" not in said.err
    return said.err


DOWNSAMPLE = "--operator downsample --operator.factor 4"

COMMANDS = {
    "no such file": ("--targets no-such.png", "no-such.png"),
    "one of the files is not there": ("--targets {}/good.npy {}/no-such.png", "no-such.png"),
    "text named png": ("--targets {}/text.png", "text.png"),
    "colour": ("--targets {}/colour.png", "--convert"),
    "another size": ("--targets {}/wide.png", "--resize"),
    "NaN": ("--targets {}/nan.npy", "finite"),
    "infinity": ("--targets {}/inf.npy", "finite"),
    "pixels over 1": ("--targets {}/above.npy", "[0, 1]"),
    "empty folder": ("--targets {}/empty", "empty"),
    "nothing to reconstruct": ("--targets", "targets"),
    "unknown data set": ("--targets nonsense", "nonsense"),
    "data set that is not there": ("--targets cifar10 --root {}/empty", "cifar10"),
    "unknown model": ("--model no-such-model", "mnist-vae"),
    "truncated weights": ("--model {}/truncated", "weights.safetensors"),
    "weights for another architecture": ("--model {}/misfit", "weights.safetensors"),
    "model that runs a command": ("--model {}/shell", "os.system"),
    "model for images of another size": ("--model {}/tiny", "(1, 4, 4)"),
    "unknown optimizer": ("--optimizer sgd", "adr-gd"),
    "optimizer that is none": ("--optimizer os.system", "os.system"),
    "step size": ("--optimizer adam --optimizer.lr -1", "Adam.lr"),
    "unknown argument of an optimizer": ("--optimizer adam --optimizer.rate 1", "rate"),
    "unknown operator": ("--operator smudge", "downsample"),
    "operator from nowhere": ("--operator no_such_package.Blur", "no_such_package"),
    "operator without its argument": ("--operator hole", "size"),
    "operator that does not fit": ("--operator downsample --operator.factor 3", "28"),
    "unknown loss": ("--loss l7", "huber"),
    "images said to be measurements": (f"--measured true {DOWNSAMPLE}", "(1, 7, 7)"),
    "measurements said to be images": (f"--measured false {DOWNSAMPLE} --targets {{}}/small.npy", "(1, 28, 28)"),
    "unknown option": ("--colour red", "--colour"),
    "shortened option": ("--step 3", "--step"),
    "option without a value": ("--steps", "steps"),
    "word too much": ("--steps 3 4", "4"),
    "steps 0": ("--steps 0", "steps"),
    "steps no number": ("--steps many", "steps"),
    "steps no integer": ("--steps 2.5", "steps"),
    "restarts 0": ("--restarts 0", "restarts"),
    "batch size 0": ("--batch-size 0", "batch_size"),
    "batch size -1": ("--batch_size -1", "batch_size"),
    "limit 0": ("--limit 0", "limit"),
    "limit no number": ("--limit all", "limit"),
    "picture every 0": ("--picture-every 0", "picture_every"),
    "evaluations 0": ("--evaluations 0", "evaluations"),
    "evaluations no integer": ("--evaluations 9.5", "evaluations"),
    "seconds 0": ("--seconds 0", "seconds"),
    "seconds endless": ("--seconds inf", "seconds"),
    "patience -1": ("--patience -1", "patience"),
    "seed no number": ("--seed x", "seed"),
    "seed beyond 64 bits": ("--seed 99999999999999999999", "seed"),
    "seed below them": ("--seed -9999999999999999999", "seed"),
    "loss that is a function of the system": ("--loss os.system", "os.system"),
    "loss that is no sum of squares, for a method that needs one": ("--optimizer lm --loss l1", "sum of squares"),
    "loss for larger images": ("--loss lpips", "31 x 31"),
    "loss for larger images, of measurements": (f"--loss lpips --loss.net vgg {DOWNSAMPLE}", "16 x 16"),
    "noise below 0": ("--noise -1", "noise"),
    "unknown noise": ("--noise pink", "poissongaussian"),
    "noise without its argument": ("--noise poisson", "photons"),
    "no photons": ("--noise poisson --noise.photons 0", "PoissonNoise.photons"),
    "negative counts": (f"--loss poisson --loss.photons 5 {DOWNSAMPLE} --targets {{}}/negative.npy", "counts >= 0"),
    "prior in nats beside a mean": ("--prior latent", "GaussianPrior"),
    "discrepancy of what noise": ("--tolerance discrepancy", "noise model"),
    "tolerance 0": ("--tolerance 0", "tolerance"),
    "tolerance no number": ("--tolerance small", "tolerance"),
    "unknown device": ("--device tpu", "device"),
    "unknown wandb mode": ("--wandb maybe", "wandb"),
    "unknown split": ("--targets mnist --split validation", "split"),
    "flag neither true nor false": ("--resize perhaps", "resize"),
}


@pytest.mark.parametrize(("words", "hint"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command_is_refused_in_one_line_with_nothing_written(made, tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    given = words.replace("{}", str(made)).split()
    command = ["reconstruct", "--model", "mnist-vae", "--targets", made / "good.npy", *QUICK, "--out", "out", *given]
    assert hint in refused(call(capsys, *command))
    assert contents(tmp_path) == {}
    assert not (tmp_path / "out").exists()


PORTFOLIO = '--optimizer {{"class_path":"latentopt.Portfolio","init_args":{{"stages":[{}]}}}}'
ATTACKS = {
    "no data": ("--data", "data"),
    "unknown data set": ("--data nonsense", "nonsense"),
    "data set that is not there": ("--data cifar10 --root {}/empty", "cifar10"),
    "no such file": ("--data {}/no-such.npz", "no-such.npz"),
    "images without labels": ("--data {}/images.npz", "labels"),
    "as many labels as there are not": ("--data {}/few.npz", "few.npz"),
    "labels between classes": ("--data {}/halves.npz", "float"),
    "labels the model does not have": ("--data {}/twelve.npz", "10 classes"),
    "images of another size": ("--data {}/large.npz", "(1, 8, 8)"),
    "pixels over 1": ("--data {}/bright.npz", "[0, 1]"),
    "a text for data": ("--data {}/other.txt", "other.txt"),
    "unknown model": ("--model no-such-model", "mnist-cnn"),
    "a generator": ("--model mnist-vae", "classifier"),
    "a model in other units": ("--model {}/units", "[0, 1]"),
    "weights besides the model's": ("--weights {}/other.txt", "weights"),
    "eps below 0": ("--eps -0.1", "eps"),
    "eps wider than the pixels": ("--eps 1.5", "eps"),
    "eps no number": ("--eps much", "eps"),
    "unknown norm": ("--norm l1", "norm"),
    "unknown optimizer": ("--optimizer sgd", "adr-gd"),
    "optimizer that is none": ("--optimizer os.system", "os.system"),
    "step size": ("--optimizer adam --optimizer.lr -1", "Adam.lr"),
    "unknown argument of an optimizer": ("--optimizer pgd --optimizer.rate 1", "rate"),
    "steps of a portfolio": ("--optimizer portfolio --steps 3", "steps"),
    "targets of a portfolio": ("--optimizer portfolio --targets all", "targets"),
    "no stages": ('--optimizer {"class_path":"latentopt.Portfolio","init_args":{"stages":[]}}', "stages"),
    "gates of a network without any": ("--optimizer adr-gd --model {}/linear", "activation"),
    "unknown loss": ("--loss l7", "dlr"),
    "loss from nowhere": ("--loss no_such_package.loss", "loss"),
    "steps 0": ("--steps 0", "steps"),
    "restarts 0": ("--restarts 0", "restarts"),
    "unknown start": ("--start here", "start"),
    "class there is not": ("--targeted 10", "targeted"),
    "class before the first": ("--targeted -1", "targeted"),
    "class that all images have": ("--targeted 0 --limit 1", "targeted"),
    "unknown targets": ("--targets many", "targets"),
    "targets 0": ("--targets 0", "targets"),
    "more targets than classes": ("--targets 99", "at most 9"),
    "as many targets as classes": ("--targets 10", "at most 9"),
    "steps of a method of one step": ("--optimizer fgsm --steps 5", "steps"),
    "loss that is a function of the system": ("--loss os.system", "os.system"),
    "seed beyond 64 bits": ("--seed 99999999999999999999", "seed"),
    "two kinds of targets": ("--targeted 1 --targets random", "targets"),
    "limit 0": ("--limit 0", "limit"),
    "batch size 0": ("--batch-size 0", "batch_size"),
    "evaluations 0": ("--evaluations 0", "evaluations"),
    "seconds 0": ("--seconds 0", "seconds"),
    "seed no number": ("--seed x", "seed"),
    "unknown device": ("--device tpu", "device"),
    "unknown wandb mode": ("--wandb maybe", "wandb"),
    "unknown split": ("--data mnist --split validation", "split"),
    "unknown option": ("--colour red", "--colour"),
    "stage of an unknown method": (PORTFOLIO.format('{"optimizer":"pdg"}'), "did you mean 'pgd'?"),
    "stage with an unknown argument": (PORTFOLIO.format('{"optimizer":"pgd","stepps":3}'), "did you mean 'steps'?"),
    "stage of an unknown loss": (PORTFOLIO.format('{"optimizer":"pgd","loss":"l7"}'), "got l7"),
    "stage of no steps": (PORTFOLIO.format('{"optimizer":"pgd","steps":0}'), "steps"),
    "root of files": ("--data {}/few.npz --root {}", "root"),
    "split of files": ("--data {}/few.npz --split train", "split"),
    "root of digits": ("--root {}", "root"),
    "a root without a name": ("--data mnist --root=", "root"),
    "data without a name": ("--data=", "data"),
    "devices that are none": ("--devices two", "devices"),
    "no nodes": ("--num_nodes 0", "num_nodes"),
    "strategy that is none": ("--strategy dpp", "strategy"),
    "steps beyond 64 bits": ("--steps 99999999999999999999", "64 bits"),
}


@pytest.fixture(scope="module")
def labelled(made) -> Path:
    """More of them, for attacks."""
    for name, hidden, changes in (("net", 12, {}), ("linear", 0, {}), ("units", 0, {"input_range": [0, 255]})):
        change_card(write_classifier(made / name, hidden), **changes)
    images, labels = np.zeros((4, 8, 8), np.uint8), np.arange(4)
    np.savez(made / "images.npz", images=images)
    np.savez(made / "few.npz", images=images, labels=labels[:3])
    np.savez(made / "halves.npz", images=images, labels=labels / 2)
    np.savez(made / "twelve.npz", images=images, labels=labels + 9)
    np.savez(made / "large.npz", images=np.zeros((4, 9, 9), np.uint8), labels=labels)
    np.savez(made / "bright.npz", images=np.full((4, 8, 8), 7.0), labels=labels)
    return made


@pytest.mark.parametrize(("words", "hint"), ATTACKS.values(), ids=ATTACKS.keys())
def test_a_wrong_attack_is_refused_in_one_line_with_nothing_written(
    labelled, tmp_path, monkeypatch, capsys, words, hint
):
    monkeypatch.chdir(tmp_path)
    given = words.replace("{}", str(labelled)).split()
    command = ["attack", "--model", labelled / "net", "--data", "digits", "--eps", "0.1", "--limit", 4, "--out", "out"]
    method = ["--optimizer", "pgd", "--steps", 2] if "portfolio" not in words and "Portfolio" not in words else []
    assert hint in refused(call(capsys, *command, "--device", "cpu", "--wandb", "disabled", *method, *given))
    assert contents(tmp_path) == {}
    assert not (tmp_path / "out").exists()


RECIPES = {
    "no YAML": ("a: [", "YAML"),
    "bytes": (b"\xff\xfe\x00", "YAML"),
    "list": ("- job\n- reconstruct\n", "list"),
    "nothing": ("", "NoneType"),
    "no job": ("model: mnist-vae\n", "job"),
    "unknown job": ("job: dream\n", "dream"),
    "job that is a list": ("job: [reconstruct]\n", "job"),
    "unknown key": ("job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\ncolour: red\n", "colour"),
    "no model": ("job: reconstruct\ntargets: [digits]\n", "model"),
    "no targets": ("job: reconstruct\nmodel: mnist-vae\n", "targets"),
    "targets that are no list": ("job: reconstruct\nmodel: mnist-vae\ntargets: digits\n", "targets"),
    "model that is a list": ("job: reconstruct\nmodel: [a]\ntargets: [digits]\n", "model"),
    "steps that are words": ("job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\nsteps: a few\n", "steps"),
    "seed that is a date": ("job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\nseed: 2024-01-01\n", "seed"),
    "unknown optimizer": ("job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\noptimizer: sgd\n", "adr-gd"),
    "loss that is a number": ("job: reconstruct\nmodel: mnist-vae\ntargets: [digits]\nloss: 3\n", "loss"),
    "attack without eps": ("job: attack\nmodel: mnist-cnn\ndata: digits\n", "eps"),
    "attack on no data": ("job: attack\nmodel: mnist-cnn\neps: 0.1\n", "data"),
    "train without a module": ("job: train\nname: a\nsummary: b\nlatent_shape: [3]\n", "module"),
}


@pytest.mark.parametrize(("text", "hint"), RECIPES.values(), ids=RECIPES.keys())
def test_a_wrong_recipe_is_refused_in_one_line_with_nothing_written(tmp_path, capsys, text, hint):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "r.yaml").write_bytes(content)
    assert hint in refused(call(capsys, "run", tmp_path / "r.yaml", "--out", tmp_path / "out"))
    assert contents(tmp_path) == {"r.yaml": content}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("dream", "reconstruct"),
        ("--colour", "--colour"),
        ("run", "recipe"),
        ("run --steps 3", "recipe"),
        ("run no-such-recipe", "digits"),
        ("run .", "digits"),
        ("train", "recipe"),
        ("train digits", "job"),
        ("recipes", "list"),
        ("recipes list all", "list"),
        ("recipes show no-such-recipe", "digits"),
        ("recipes copy digits", "copy"),
        ("models", "list"),
        ("models show no-such-model", "mnist-vae"),
        ("models show ../models/mnist-vae", "a model"),
        ("run ../recipes/digits", "a file"),
        ("sweep sweeps/reconstruct-digits", "a file"),
    ],
)
def test_a_wrong_word_is_refused_with_what_would_be_right(tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    assert hint in refused(call(capsys, *words.split()))
    assert contents(tmp_path) == {}


def job(made: Path, out: Path, *words: object) -> list[object]:
    return ["reconstruct", "--model", "mnist-vae", "--targets", made / "good.npy", *QUICK, "--out", out, *words]


def test_a_folder_that_holds_another_job_is_refused_and_untouched(made, tmp_path, capsys):
    assert call(capsys, *job(made, tmp_path / "out")).code == 0
    before = contents(tmp_path)
    for words in (["--seed", 1], ["--steps", 5], ["--limit", 1], ["--operator", "crop", "--operator.size", 20]):
        assert str(words[0]).lstrip("-") in refused(call(capsys, *job(made, tmp_path / "out", *words)))
        assert contents(tmp_path) == before


def test_a_folder_that_holds_other_models_or_targets_is_refused(made, tmp_path, capsys):
    np.save(tmp_path / "a.npy", own_images(3).numpy())
    targets = ["--targets", tmp_path / "a.npy"]
    assert call(capsys, *job(made, tmp_path / "out", *targets)).code == 0
    np.save(tmp_path / "a.npy", own_images(2).numpy())
    assert "targets_held" in refused(call(capsys, *job(made, tmp_path / "out", *targets)))


def test_an_out_that_is_a_file_or_holds_other_files_is_refused_and_untouched(made, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine too")
    before = contents(tmp_path)
    for out in ("file", "file/deeper", "folder"):
        assert str(tmp_path) in refused(call(capsys, *job(made, tmp_path / out)))
    assert contents(tmp_path) == before


def test_one_bad_image_among_many_is_skipped_and_the_others_are_done(tmp_path, capsys):
    for at, image in enumerate(blobs(3, seed=0)):
        write_png(tmp_path / "in" / f"{at}.png", image)
    (tmp_path / "in" / "1.png").write_text("no image")
    Image.new("RGB", (28, 28), "red").save(tmp_path / "in" / "3.png")
    command = job(tmp_path, tmp_path / "out", "--targets", tmp_path / "in")
    for _ in range(2):  # the second time nothing is left to do
        said = call(capsys, *command)
        assert said.code == 3
        assert "2 done, 2 skipped" in said.out
        told = [line for line in said.err.splitlines() if line.startswith("skipped")]
        assert [line.split(":")[0] for line in told] == ["skipped 1.png", "skipped 3.png"]
        assert [row["name"] for row in table(tmp_path / "out")] == ["0.png", "2.png"]
        with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
            skipped = list(csv.DictReader(file))
        assert [row["name"] for row in skipped] == ["1.png", "3.png"]
        assert "known image format" in skipped[0]["reason"]
        assert "--convert" in skipped[1]["reason"]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/b", "a b", "", ".", "..", "-a", "a\\b", "\u00e4", "a\n"])
def test_the_name_of_a_model_is_no_path(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for words in (["train-mnist-vae", "--data.dataset", "digits"], ["train-mnist-vae", "--dry-run"]):
        assert "name" in refused(call(capsys, "train", *words, f"--name={name}", "--out", "deep/models"))
    assert contents(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


JOBS = {
    "reconstruct": "reconstruct --model mnist-vae --targets digits --resize --limit 1 --steps 1 --wandb disabled",
    "attack": "attack --model mnist-cnn --data mnist --eps 0.1 --wandb disabled",
    "diagnose": "diagnose --model mnist-vae --samples 2 --steps 1 --restarts 1",
    "analyze": "analyze regions --model random-2d --steps 2 --resolution 5 --wandb disabled",
    "train": "train train-mnist-vae --wandb disabled",
    "train-rl": "train-rl pendulum-ddpg --wandb disabled",
    "refine": "refine --agent none.zip --env Pendulum-v1 --wandb disabled",
    "sweep": "sweep reconstruct-digits --trials 1",
}


@pytest.mark.parametrize("words", JOBS.values(), ids=JOBS.keys())
@pytest.mark.parametrize("out", ["", " ", "$NOTHING"])
def test_a_folder_without_a_name_is_not_the_current_one(tmp_path, monkeypatch, capsys, words, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTHING", "")
    if out == "$NOTHING" and words.startswith("sweep"):
        pytest.skip("the folder of a sweep is no job's option")
    assert "out: expected a folder" in refused(call(capsys, *words.split(), "--out", out))
    assert contents(tmp_path) == {}


def test_a_log_without_a_name_is_refused_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "log: expected a folder" in refused(call(capsys, "train", "train-mnist-vae", "--log", ""))
    assert contents(tmp_path) == {}


UNUSED = {
    "analyze regions --model random-2d --eps 5": "eps",
    "analyze regions --model random-2d --data digits": "data",
    "analyze certify --model random-A --eps 5": "eps",
    "analyze certify --model random-A --env Pendulum-v1": "env",
    "analyze certify --model digits --eps 0.1 --env Pendulum-v1": "env",
    "train-rl pendulum-ddpg --epsilon 2": "epsilon",
    "train-rl pendulum-ddpg --epsilon -0.1": "epsilon",
    "train-rl pendulum-ddpg --seed 4294967295": "seed",
    "train train-mnist-vae --seed 4294967296": "seed",
    "train train-mnist-vae --seed -1": "seed",
}


@pytest.mark.parametrize(("words", "hint"), UNUSED.items())
@pytest.mark.parametrize("dry", [True, False])
def test_what_a_job_would_not_use_or_could_not_is_refused(tmp_path, monkeypatch, capsys, words, hint, dry):
    if words.startswith("train-rl"):
        pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    said = refused(call(capsys, *words.split(), "--wandb", "disabled", *(["--dry-run"] if dry else [])))
    assert said.startswith(f"latentopt: error: {hint}: ")
    assert contents(tmp_path) == {}


def test_a_training_that_needs_procgen_leaves_nothing_without(tmp_path, monkeypatch, capsys):
    pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentopt.jobs.train_policy.installed", lambda: False)
    assert "procgen" in refused(call(capsys, "train", "train-coinrun-cnn"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["file", "file/deeper"])
def test_a_diagnosis_is_not_begun_where_it_could_not_be_written(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentopt.jobs.diagnosis.diagnose_generator", None)
    (tmp_path / "file").write_text("mine")
    assert "out" in refused(call(capsys, *JOBS["diagnose"].split(), "--out", out))
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_sweep_by_a_figure_that_the_job_does_not_have_runs_no_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["latentopt", "reconstruct", "--model", "mnist-vae", "--targets", "digits", "--resize", "${args}"]
    content = {"command": command, "method": "grid", "metric": {"name": "best/mean_mes"}}
    content["parameters"] = {"steps": {"values": [1, 2]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    before = contents(tmp_path)
    assert "best/mean_mse" in refused(call(capsys, "sweep", "s.yaml", "--wandb", "disabled"))
    assert contents(tmp_path) == before


def test_an_attack_of_which_no_image_is_classified_right_is_told(labelled, tmp_path, capsys):
    images = np.load(labelled / "few.npz")["images"]
    net = cards.load_classifier(labelled / "net")
    wrong = (net(torch.from_numpy(images)[:, None] / 255).argmax(1) + 1) % 10
    np.savez(tmp_path / "wrong.npz", images=images, labels=wrong.numpy())
    words = ["--model", labelled / "net", "--data", tmp_path / "wrong.npz", "--eps", "0.1", "--optimizer", "fgsm"]
    said = call(capsys, "attack", *words, "--wandb", "disabled", "--device", "cpu", "--out", tmp_path / "o")
    assert said.code == 0
    assert "latentopt: warning: labels: the model gets none of the 4 images right" in said.err


def test_an_image_of_a_folder_that_is_none_is_named(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b.jpg").write_text("no image")
    with pytest.raises(lo.InputError, match=r"b\.jpg"):
        lo.load_images(tmp_path, shape=(1, 4, 4))


NEAR = {
    "--esp 0.1": "did you mean '--eps'?",
    "--optimizer pdg": "did you mean 'pgd'?",
    "--optimizer pgd --optimizer.momentm 0.1": "did you mean 'momentum'?",
    "--eps 0.1 --eps 0.2": "--eps: expected an option once",
    "--batch-size 3 --batch_size 4": "--batch_size: expected an option once",
    "--model mnist-cn": "did you mean 'mnist-cnn'?",
    "--data mnits": "did you mean 'MNIST'?",
}


@pytest.mark.parametrize(("words", "hint"), NEAR.items())
def test_a_misspelt_or_doubled_option_is_answered_by_the_right_one(tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    command = ["attack", "--dry-run", *words.split()]
    for option, value in (("--model", "mnist-cnn"), ("--data", "digits"), ("--eps", "0.1")):
        command += [option, value] if option not in command else []
    assert hint in refused(call(capsys, *command, once=False))


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("atack", "attack"),
        ("run digit", "digits"),
        ("train train-mnist-va", "train-mnist-vae"),
        ("models show mnist-va", "mnist-vae"),
        ("recipes show portfolo", "portfolio"),
        ("sweep reconstruct-digit", "reconstruct-digits"),
        ("analyze region", "regions"),
        ("completion bas", "bash"),
        ("recipes lst", "list"),
    ],
)
def test_a_misspelt_name_is_answered_by_the_right_one(tmp_path, monkeypatch, capsys, words, near):
    monkeypatch.chdir(tmp_path)
    assert f"did you mean '{near}'?" in refused(call(capsys, *words.split()))


def test_a_misspelt_field_of_a_recipe_is_answered_by_the_right_one(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("job: atack\n")
    assert "did you mean 'attack'?" in refused(call(capsys, "run", tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text("job: attack\nmodel: mnist-cnn\ndata: digits\nepsilon: 0.1\n")
    assert "did you mean 'eps'?" in refused(call(capsys, "run", tmp_path / "r.yaml"))


@pytest.mark.parametrize("text", ["8/255", "8 / 255", ".0313725490196078431", "3.137254901960784e-2"])
def test_a_number_may_be_a_fraction(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    words = ["--model", "mnist-cnn", "--data", "digits", "--optimizer", "pgd", "--dry-run"]
    said = call(capsys, "attack", *words, "--eps", text, "--optimizer.lr", text)
    assert said.code == 0, said.err
    recipe = yaml.safe_load(said.out)
    assert recipe["eps"] == pytest.approx(8 / 255)
    (tmp_path / "r.yaml").write_text(said.out.replace(str(recipe["eps"]), text))
    assert yaml.safe_load(call(capsys, "run", "r.yaml", "--dry-run").out)["eps"] == pytest.approx(8 / 255)


@pytest.mark.parametrize("text", ["inf", "nan", "1/0", "8/255/2", "__import__('os')"])
def test_a_number_that_is_none_or_not_finite_is_refused(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    assert "eps" in refused(call(capsys, "attack", "--model", "mnist-cnn", "--data", "digits", "--eps", text))
    words = ["--model", "mnist-cnn", "--data", "digits", "--eps", "0.1", "--optimizer", "pgd", "--optimizer.lr", text]
    assert "lr" in refused(call(capsys, "attack", *words, "--limit", 1))
    assert contents(tmp_path) == {}


def test_an_old_name_in_a_sweep_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["latentopt", "reconstruct", "--model", "mnist-vae", "--targets", "digits", "--resize", "--limit=1"]
    content = {
        "command": [*command, "--out=elsewhere", "${args}"],
        "method": "grid",
        "metric": {"name": "best/mean_mse"},
    }
    content["parameters"] = {"rounds": {"values": [1, 2]}, "steps": {"values": [1, 2, 3]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    said = call(capsys, "sweep", "s.yaml", "--dry-run")
    assert said.code == 0, said.err
    assert said.err.count("deprecated") == 1
    assert said.out.count("--out=") == 6  # in place of the file's own
    assert "elsewhere" not in said.out


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refused_file(**place: object) -> None:  # root may write anywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("latentopt.jobs.experiment.TemporaryFile", refused_file)
    for job in ("reconstruct", "diagnose", "analyze"):
        assert "out: expected a folder that can be written" in refused(call(capsys, *JOBS[job].split(), "--out", "o"))
    words = ["--data.dataset", "digits", "--log", "l", "--out", "o"]
    assert "out: expected a folder that can be written" in refused(call(capsys, "train", "train-mnist-vae", *words))
    assert contents(tmp_path) == {}
