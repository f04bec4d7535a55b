from __future__ import annotations

from pathlib import Path

import pytest
import torch
from files import blobs, call, contents, parts, refused, write_mnist
from nets import refuses
from PIL import Image
from torch import nn
from trainings import CLASSIFIER, DECODER, DISCRIMINATOR, ENCODER, GENERATOR, classifier_recipe, measure_few, vae_recipe

import latentopt as lo
from latentopt.jobs.quality import measure_classifier_quality, measure_generator_quality
from latentopt.jobs.train import train
from latentopt.zoo import cards
from latentopt.zoo.architectures import MLP, ConvDiscriminator, ConvGenerator
from latentopt.zoo.data import ImageData, LabelledData
from latentopt.zoo.modules import GAN, VAE

ENCODER_ARGUMENTS = {"sizes": [784, 24, 8], "shape": None, "sigmoid": False}


@pytest.fixture(scope="module", autouse=True)
def few_are_measured():
    with pytest.MonkeyPatch.context() as patch:
        measure_few(patch)
        yield


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("mnist"))


def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(cards.build(DECODER), cards.build(ENCODER), beta=0.3, lr=5e-3)


def train_vae(mnist: Path, out: Path, batch_size: int = 64, **changes) -> Path:
    settings = {"epochs": 1, "seed": 3, "device": "cpu", "latent_shape": [4], "wandb": "disabled", **changes}
    architecture = {"decoder": DECODER, "encoder": ENCODER}
    data = ImageData("mnist", str(mnist), batch_size)
    return train("tiny", "a test", vae(), data, architecture, out=str(out), log=str(out / "logs"), **settings)


@pytest.fixture(scope="module")
def trained(mnist, tmp_path_factory) -> Path:
    return train_vae(mnist, tmp_path_factory.mktemp("models"), epochs=8, batch_size=16)


def test_a_trained_vae_is_a_model_with_a_card(trained):
    card, generator = cards.read_card(trained), cards.load_generator(trained)
    assert isinstance(card, cards.GeneratorCard)
    assert trained.name == card.name == "tiny"
    assert card.architecture == {"generator": DECODER, "encoder": ENCODER}
    assert (card.latent_shape, card.output_range) == ([4], (0.0, 1.0))
    assert card.training.items() >= {"data": "mnist", "epochs": 8, "seed": 3}.items()
    assert card.training["module"] == "latentopt.zoo.modules.VAE"
    assert generator.output_shape() == (1, 28, 28)
    tensors = cards.read_weights(trained, card)
    assert {name.split(".")[0] for name in tensors} == {"generator", "encoder"}


def test_samples_show_the_models_own_images(trained):
    with Image.open(trained / "samples.png") as sheet:
        assert sheet.size == (16 * (8 + 60), 4 * 60)  # 64 images of 56 pixels, framed by 2, 16 a row, 8 between
        corner = sheet.getpixel((8 + 2, 2))
    generator = cards.load_generator(trained)
    expected = round(255 * generator(generator.latents(64, seed=0))[0, 0, 0, 0].item())
    assert corner == (expected,) * 3


def test_training_lowers_the_error_on_images_it_has_not_seen(mnist, trained):
    data = ImageData("mnist", str(mnist))
    before = lo.Generator(vae().decoder, latent_shape=[4])
    untrained, now = measure_generator_quality(before, data)["test_mse"], cards.read_card(trained).quality["test_mse"]
    mean = torch.tensor(blobs(256, seed=0)).div(255).mean(0)
    constant = (torch.tensor(blobs(64, seed=1)[:4]) / 255 - mean).square().mean().item()
    assert now < 0.9 * constant < untrained


def test_the_card_holds_the_quality_that_measuring_gives(mnist, trained):
    again = measure_generator_quality(cards.load_generator(trained), ImageData("mnist", str(mnist)))
    assert again == cards.read_card(trained).quality


def test_the_same_seed_gives_the_same_weights_and_another_others(mnist, tmp_path):
    folders = [train_vae(mnist, tmp_path / str(at), seed=seed) for at, seed in enumerate((3, 3, 4))]
    first, again, other = (cards.read_card(folder).weights_sha256 for folder in folders)
    assert first == again != other


def test_the_command_line_trains_and_its_seed_decides_the_first_weights_too(mnist, tmp_path, capsys):
    path = vae_recipe(mnist, tmp_path / "r.yaml")
    said = call(capsys, "train", path, "--out", tmp_path / "a", "--seed", 5)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith(f"{tmp_path / 'a' / 'tiny'}: ")
    assert call(capsys, "run", path, "--out", tmp_path / "b", "--seed", 5).code == 0
    first, again = (cards.read_card(tmp_path / name / "tiny") for name in "ab")
    assert first.architecture == {"generator": DECODER, "encoder": {**ENCODER, "init_args": ENCODER_ARGUMENTS}}
    assert first.weights_sha256 == again.weights_sha256


def test_an_existing_model_is_not_trained_over(mnist, trained):
    before = contents(trained)
    with refuses("out"):
        train_vae(mnist, trained.parent)
    assert contents(trained) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", 1.5), ("device", "tpu"), ("latent_shape", [5]), ("latent_shape", None)],
)
def test_wrong_settings_are_refused_before_the_training(mnist, tmp_path, monkeypatch, name, value):
    monkeypatch.setattr("latentopt.jobs.module_training.fit", lambda *_, **__: pytest.fail("it trains"))
    with refuses(name):
        train_vae(mnist, tmp_path, **{name: value})
    assert not any(tmp_path.iterdir())
    (tmp_path / "out").touch()
    with refuses("out"):
        train_vae(mnist, tmp_path / "out")


@pytest.fixture(scope="module")
def gan(mnist, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    module = GAN(ConvGenerator(5, (6, 4)), ConvDiscriminator((4, 6)), latent=5, ema=0.5)
    data = ImageData("mnist", str(mnist), batch_size=64)
    architecture = {"generator": GENERATOR, "discriminator": DISCRIMINATOR}
    out = str(tmp_path_factory.mktemp("models"))
    settings = {"epochs": 1, "out": out, "device": "cpu", "log": f"{out}/logs", "wandb": "disabled"}
    return train("gan", "a test", module, data, architecture, [5], 0.3, **settings)


def test_a_trained_gan_is_a_model_of_its_generator_alone(gan):
    card, generator = cards.read_card(gan), cards.load_generator(gan)
    assert isinstance(card, cards.GeneratorCard)
    assert card.architecture == {"generator": GENERATOR}
    assert (card.output_range, generator.start_scale) == ((-1.0, 1.0), 0.3)
    assert generator.output_shape() == (1, 28, 28)
    assert (gan / "samples.png").is_file()


def test_a_gans_batch_norm_statistics_are_those_of_its_exported_weights(gan):
    network = cards.load_generator(gan).module
    one, two = parts(network, nn.BatchNorm2d)
    first, second, _ = parts(network, nn.ConvTranspose2d)
    z = torch.randn(8192, 5, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        wide = first(z[:, :, None, None])
        narrow = second(one(wide).relu())
    for norm, seen in ((one, wide), (two, narrow)):
        spread = seen.std((0, 2, 3))
        assert ((norm.running_mean - seen.mean((0, 2, 3))).abs() / spread).max() < 0.05
        assert (norm.running_var.sqrt() / spread - 1).abs().max() < 0.05


def test_a_gans_average_follows_its_generator():
    module = GAN(MLP([2, 3]), MLP([3, 1]), latent=2, ema=0.9)
    assert module.networks()["generator"] is module.average.module
    assert not any(parameter.requires_grad for parameter in module.average.parameters())
    assert module.average.module is not module.generator


SHAPE = "--module.classifier.init_args.shape"


def left_or_right(mnist: Path, path: Path) -> Path:
    return classifier_recipe(mnist, path, {"steps": 1, "step": 1.25}, {"batch_size": 16}, epochs=3)


def test_the_command_line_trains_a_classifier_and_measures_it(mnist, tmp_path, capsys):
    path = left_or_right(mnist, tmp_path / "r.yaml")
    assert call(capsys, "train", path, "--out", tmp_path / "out").code == 0
    folder = tmp_path / "out" / "tiny"
    card, classifier = cards.read_card(folder), cards.load_classifier(folder)
    assert card.architecture == {"classifier": CLASSIFIER}
    assert (classifier.input_shape, classifier.classes) == ((1, 28, 28), ("left", "right"))
    assert sorted(file.name for file in folder.iterdir()) == ["card.yaml", "weights.safetensors"]
    quality = measure_classifier_quality(classifier, LabelledData("mnist", str(mnist)), 0.02)
    assert card.quality == quality
    assert quality["test_accuracy"] >= 0.9  # chance is a half
    assert quality["robust_accuracy"] <= quality["test_accuracy"]
    assert "all 64 test images" in quality["protocol"]


@pytest.mark.parametrize(
    ("write", "words", "named"),
    [
        pytest.param(vae_recipe, ["--data.root", "nowhere"], "", id="no data"),
        pytest.param(vae_recipe, ["--data.batch_size", "257"], "batch_size: ", id="not one batch"),
        pytest.param(
            vae_recipe, ["--data.dataset", "digits", "--data.root", "null"], "data: ", id="images of another size"
        ),
        pytest.param(vae_recipe, ["--latent_shape", "[7]"], "latent_shape: ", id="another latent shape"),
        pytest.param(left_or_right, ["--module.classes", "[left]"], "classes: ", id="too few classes"),
        pytest.param(left_or_right, ["--module.classes", "[a, b, c]"], "classes: ", id="more classes than logits"),
        pytest.param(left_or_right, ["--data.validation", "250"], "batch_size: ", id="no batch is left"),
        pytest.param(left_or_right, ["--data.validation", "1000"], "validation: ", id="no image is left"),
        pytest.param(left_or_right, ["--data.shape", "[8, 8]"], "shape: ", id="a shape without channels"),
        pytest.param(left_or_right, ["--data.fit", "squash"], "", id="no way to fit"),
        pytest.param(
            left_or_right, ["--data.dataset", "digits", "--data.root", "null"], "data: ", id="no test images of its own"
        ),
        pytest.param(left_or_right, ["--data", "latentopt.zoo.data.ImageData"], "data: ", id="no labels"),
        pytest.param(left_or_right, [SHAPE, "[1, 32, 32]"], "data: ", id="images of another shape"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_one_line_and_nothing_is_written(
    mnist, tmp_path, capsys, write, words, named
):
    path = write(mnist, tmp_path / "r.yaml")
    message = refused(capsys, "train", path, "--out", tmp_path / "out", *words)
    assert message.startswith(f"latentopt: error: {named}")
    assert not (tmp_path / "out").exists()
