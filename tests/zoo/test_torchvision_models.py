from __future__ import annotations

import urllib.request
from urllib.error import URLError

import pytest
import torch
from nets import refuses
from safetensors.torch import save_file
from torchvision import models

import latentopt as lo
from latentopt.zoo import cards

NAME = "torchvision/squeezenet1_1"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.squeezenet1_1().eval()


@pytest.fixture
def weights(network, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def test_a_classifier_of_torchvision_takes_pixels_and_normalises_them_as_its_weights_want(network, weights):
    found = cards.load_classifier(NAME, weights=weights)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network((x - MEAN[:, None, None]) / STD[:, None, None])
        assert torch.equal(found(x), expected)
    assert (found.input_range, found.input_shape) == ((0.0, 1.0), (3, 224, 224))
    assert found.classes is not None
    assert len(found.classes) == 1000
    assert found.classes[207] == "golden retriever"
    assert not any(module.training for module in found.modules())
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_weights_may_be_a_safetensors_file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found = cards.load_classifier(NAME, weights=str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))


def test_official_weights_come_the_way_torchvision_fetches_them(network, weights, monkeypatch, tmp_path):
    """The download is a copy of a local file; it lands in torch's own cache, from which the next call reads."""
    official = models.get_model_weights("squeezenet1_1")["DEFAULT"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / official.url.rsplit("/", 1)[1]).write_bytes(weights.read_bytes())
    found = lo.load(NAME)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))


def test_without_a_network_the_error_is_one_line_that_says_how_to_pass_a_file(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(lo.InputError) as caught:
        lo.load(NAME)
    said = str(caught.value)
    assert caught.value.name == "weights"
    assert "\n" not in said
    assert "load_classifier(..., weights=FILE)" in said
    assert "no route to host" in said


def test_weights_that_are_not_there_not_weights_or_of_another_network_are_refused(weights, tmp_path):
    with refuses(str(tmp_path / "none.pth")):
        cards.load_classifier(NAME, weights=tmp_path / "none.pth")
    with refuses(str(weights)):
        cards.load_classifier("torchvision/alexnet", weights=weights)
    for name, content in (("a.pth", b"no weights"), ("b.safetensors", b"no weights"), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with refuses(str(tmp_path / name)):
            cards.load_classifier(NAME, weights=tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "d.pth")
    with refuses(str(tmp_path / "d.pth")):
        cards.load_classifier(NAME, weights=tmp_path / "d.pth")


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


def test_a_file_of_weights_runs_no_code(tmp_path):
    torch.save({"a": Harmful()}, tmp_path / "harmful.pth")
    with refuses(str(tmp_path / "harmful.pth")):
        cards.load_classifier(NAME, weights=tmp_path / "harmful.pth")


@pytest.mark.parametrize("name", ["torchvision/nonsense", "torchvision/", "torchvision/fcn_resnet50"])
def test_a_name_that_is_no_classifier_of_torchvision_is_refused(name):
    with refuses("model", "torchvision/resnet18"):
        lo.load(name)


def test_only_torchvisions_classifiers_take_weights(weights):
    with refuses("weights"):
        cards.load_classifier("mnist-cnn", weights=weights)
    with refuses("model", "a classifier, got the generator"):
        cards.load_classifier("mnist-vae")
