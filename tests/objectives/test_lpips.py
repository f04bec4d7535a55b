from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from urllib.error import URLError

import lpips
import pytest
import torch
import torchvision
from nets import near, rand, randn, refuses
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from latentopt.objectives import LPIPS, PerceptualWarning, perceptual


@pytest.fixture(autouse=True)
def forgets(monkeypatch):
    """Each test builds its networks and is warned anew; the large layers that LPIPS leaves out are not filled."""
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(nn.init, "normal_", lambda tensor, *args, **settings: tensor)
    perceptual._network.cache_clear()
    perceptual._warn_once.cache_clear()


def backbone(net: str) -> nn.Sequential:
    """The part of torchvision's network that LPIPS uses, random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(torchvision.models, perceptual.BACKBONES[net].name)(weights=None)
    return model.features


def saved(features: nn.Sequential, path: Path) -> Path:
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def theirs(net: str, features: nn.Sequential) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    for part in network.net.children():
        for name, module in part.named_children():
            module.load_state_dict(features[int(name)].state_dict())
    return network.double()


@pytest.fixture(scope="module")
def alex(tmp_path_factory) -> Path:
    return saved(backbone("alex"), tmp_path_factory.mktemp("weights") / "alex.safetensors")


@pytest.mark.parametrize(("net", "suffix"), [("alex", "pth"), ("vgg", "safetensors"), ("squeeze", "pth")])
def test_it_is_the_distance_of_the_authors_package(net, suffix, tmp_path):
    features = backbone(net)
    loss = LPIPS(net, saved(features, tmp_path / f"weights.{suffix}"))
    image, target = rand(2, 3, 64, 64), rand(2, 3, 64, 64, seed=1)
    ours = loss(image, target)
    assert ours.shape == (2,)
    assert ours.min() > 1e-4
    near(ours, theirs(net, features)(2 * image - 1, 2 * target - 1).flatten(), 1e-12)


def test_samples_are_by_themselves_and_equal_images_have_no_distance(alex):
    loss, image, target = LPIPS("alex", alex), rand(2, 3, 64, 64), rand(2, 3, 64, 64, seed=1)
    near(loss(image[1:], target[1:]), loss(image, target)[1:], 1e-12)
    near(loss(image, image), torch.zeros(2, dtype=torch.float64), 0)


def test_it_follows_the_dtype_and_its_gradient_is_that_of_finite_differences(alex):
    loss, image, target = LPIPS("alex", alex), rand(1, 3, 64, 64), rand(1, 3, 64, 64, seed=1)
    single = loss(image.float(), target.float())
    assert single.dtype == torch.float32
    near(single.double(), loss(image, target), 1e-5)
    direction, step = randn(1, 3, 64, 64, seed=2), 1e-6
    difference = (loss(image + step * direction, target) - loss(image - step * direction, target)) / (2 * step)
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(image, target).sum(), image)
    near((gradient * direction).sum() / difference[0], torch.tensor(1.0, dtype=torch.float64), 1e-5)
    assert not any(
        p.requires_grad for p in perceptual._network("alex", str(alex), image.dtype, image.device).parameters()
    )


def test_building_it_leaves_the_random_numbers_alone_and_it_is_a_plain_value(alex):
    loss = LPIPS("alex", alex)
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert hash(loss) == hash(LPIPS("alex", alex))
    before = torch.get_rng_state()
    with torch.inference_mode():
        loss(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    assert torch.equal(torch.get_rng_state(), before)
    loss(torch.zeros(1, 3, 64, 64, requires_grad=True), torch.zeros(1, 3, 64, 64)).sum().backward()


def test_grey_images_are_repeated_and_small_ones_taken_with_a_warning_once(alex):
    loss, image, target = LPIPS("alex", alex), rand(1, 1, 40, 31), rand(1, 1, 40, 31, seed=1)
    with pytest.warns(PerceptualWarning) as said:
        grey = loss(image, target)
    assert sorted("grey" in str(warning.message) for warning in said) == [False, True]
    assert {warning.filename for warning in said} == {__file__}
    assert torch.equal(grey, loss(image.expand(1, 3, 40, 31), target.expand(1, 3, 40, 31)))


def test_it_is_traced_with_its_gradient_even_at_its_first_call(alex):
    target = rand(1, 3, 64, 64, seed=1)

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(LPIPS("alex", alex)(x, target).sum(), x)[0]

    graph = make_fx(gradient)(rand(1, 3, 64, 64))
    other = rand(1, 3, 64, 64, seed=2)
    near(graph(other), gradient(other), 1e-12)
    assert not any("uniform" in str(node.target) or "copy_" in str(node.target) for node in graph.graph.nodes)


@pytest.mark.parametrize(
    ("image", "target", "name"),
    [
        ((1, 3, 30, 64), (1, 3, 30, 64), "image"),
        ((1, 2, 64, 64), (1, 2, 64, 64), "image"),
        ((3, 64, 64), (3, 64, 64), "image"),
        ((2, 3, 64, 64), (1, 3, 64, 64), "prediction"),
    ],
)
def test_images_it_cannot_take_are_refused(alex, image, target, name):
    with refuses(name):
        LPIPS("alex", alex)(torch.zeros(image), torch.zeros(target))


def test_nets_and_files_that_are_not_there_or_not_right_are_refused(alex, tmp_path):
    with refuses("LPIPS.net", "alex, vgg, squeeze"):
        LPIPS("resnet")
    with refuses("LPIPS.weights", "alexnet-owt-7be5be79.pth"):
        LPIPS(weights=tmp_path / "none.pth")
    images = torch.zeros(1, 3, 64, 64)
    with refuses("LPIPS.weights", "torchvision's squeezenet1_1, with features.0.weight of shape (64, 3, 3, 3)"):
        LPIPS("squeeze", alex)(images, images)
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with refuses("LPIPS.weights", "broken"):
            LPIPS(weights=tmp_path / name)(images, images)
    torch.save([1], tmp_path / "list.pth")
    with refuses("LPIPS.weights", "features.0.weight"):
        LPIPS(weights=tmp_path / "list.pth")(images, images)


def test_weights_that_cannot_be_downloaded_are_told_by_their_file(monkeypatch, tmp_path):
    def unreachable(*args, **settings):
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with refuses("LPIPS.weights", "squeezenet1_1-b8a52dc0.pth"):
        LPIPS("squeeze")(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
