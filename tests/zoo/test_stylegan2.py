"""StyleGAN2: the outputs of rosinality's implementation, checkpoints, spaces, and the parts of its projector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from nets import near, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt.gates import sites
from latentopt.inverse.initializers import Mean
from latentopt.inverse.noise_maps import Autocorrelation
from latentopt.optimizers import Adam, Jitter
from latentopt.optimizers.base import scheduled
from latentopt.zoo.cards import load_generator
from latentopt.zoo.stylegan2 import BilinearStyleGAN2, Discriminator, StyleGAN2, in_space
from latentopt.zoo.stylegan2.training import StyleGAN2Training

SMALL = {"size": 16, "style": 8, "mapping": 2, "channels": (8, 8, 4), "colours": 1}


def waves(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of no random numbers, the same in each version of torch; filters as they are."""
    values = {}
    for number, (name, tensor) in enumerate(sorted(state.items())):
        line = torch.arange(tensor.numel(), dtype=torch.float64)
        wave = (1.3 * torch.sin(line * 1.7 + number) + (2 * line + number).cos()).reshape(tensor.shape).float()
        values[name] = tensor if name.endswith("kernel") else wave
    return values


def small(**settings) -> StyleGAN2:
    torch.manual_seed(0)
    network = StyleGAN2(**{**SMALL, **settings})
    for name, parameter in network.named_parameters():
        if name.endswith("noise.weight"):
            nn.init.constant_(parameter, 0.3)
    return network.eval()


def narrow(size: int) -> StyleGAN2:
    return StyleGAN2(size, 16, 2, channels=[8] * (size.bit_length() - 2)).eval()


RECORDED = {
    8: "-1.71654 -1.18417 -1.90796 -1.09506 -1.51548 -.0613 -1.2978 .38121 -1.32246 1.63314 -.08248 .41215",
    16: "-.54675 -.38378 -2.16232 -1.87425 .66262 -1.97214 .47406 .29614 -.1199 -1.1115 -2.00291 -.34602 .57764"
    " -1.4463 .91854 .19799 -3.07959 -2.07159 -3.51405 -4.87256 -.12156 -2.72989 -.57657 -1.09233 -1.6861 -2.31412"
    " -2.95886 -1.62804 -.46214 -4.80259 .14307 -1.25353 -5.54916 -2.50367 -1.38727 -4.87884 .66071 -7.97403 -.55227"
    " 1.74669 -6.7317 -1.25368 -3.89008 -3.44076 -.84694 -4.4853 1.75537 -3.25867",
}
"""Every fifth pixel of the second image by rosinality/stylegan2-pytorch; test_stylegan2_references.py compares all."""


@pytest.mark.parametrize("size", [8, 16])
@torch.no_grad()
def test_images_are_those_of_rosinality(size):
    network = narrow(size)
    network.load_state_dict(waves(network.state_dict()))
    image = network.double()(randn(2, 16))[1, :, ::5, ::5]
    near(image.flatten(), torch.tensor([float(number) for number in RECORDED[size].split()]).double(), 1e-5)


LUCIDRAINS = (
    "-2.37124 4.24537 1.92150 -4.25370 5.53504 2.54365 -3.13108 3.66607 1.05556 -3.12058 2.79642 2.40019 -4.44370"
    " 2.64505 2.83154 -3.08963 1.61970 1.19787 -4.57495 3.29122 -0.25245 -8.92582 4.00697 -0.23296 -7.19791 3.25519"
    " -1.33249"
)
"""Every third pixel of the second image by lucidrains/stylegan2-pytorch."""


def test_images_are_those_of_lucidrains(tmp_path):
    network = BilinearStyleGAN2(4, 1, (4, 2)).eval()
    state = waves(network.state_dict())
    network.load_state_dict(state)
    w, noise = network.mapping(randn(2, 4).float())[:, None].expand(-1, 2, -1), torch.linspace(0, 1, 64)
    image = network.double().synthesis(w.double(), [noise.double().reshape(1, 1, 8, 8)])[1, :, ::3, ::3]
    near(image.flatten(), torch.tensor([float(number) for number in LUCIDRAINS.split()]).double(), 1e-4)
    averaged = {name[0] + "E" + name[1:]: t for name, t in state.items()} | {"G.blocks.0.to_rgb.upsample.1.f": noise}
    generator = lo.load(saved(tmp_path, {"GAN": averaged, "version": "1.9.0"}))
    assert (generator.output_range, generator.module.size) == ((0, 1), 8)
    assert in_space(generator, "w+").latent_shape == (2, 4)
    with refuses("noise"):
        in_space(generator, noise=True)
    with refuses_file(tmp_path, "G.attns.0.conv.weight, too"):
        lo.load(saved(tmp_path, {"GAN": {**averaged, "GE.attns.0.conv.weight": noise}}))


def test_each_sample_is_by_itself_and_modulation_is_the_papers():
    network = small()
    layer, x, w = network.conv1.conv, randn(2, 8, 4, 4).float(), randn(2, 8, seed=1).float()
    s = layer.modulation(w)
    for row in range(2):
        kernel = layer.scale * layer.weight[0] * s[row][None, :, None, None]  # equation 1
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # equation 3
        near(layer(x, w)[row], nn.functional.conv2d(x[row : row + 1], kernel, padding=1)[0], 1e-5)


def test_gates_are_found_in_each_space():
    network = small()
    for space, count in (("z", 7), ("w", 5), ("w+", 5)):
        generator = in_space(network, space)
        assert [site.kind for site in sites(generator, generator.latents(1, 0))] == ["leaky_relu"] * count


def test_training_mode_draws_noise_and_eval_mode_does_not():
    network, z = small(), randn(2, 8).float()
    assert torch.equal(network(z), network(z))
    assert not torch.equal(network.train()(z), network(z))


def saved(tmp_path, content) -> str:
    torch.save(content, tmp_path / "checkpoint.pt")
    return f"stylegan2:{tmp_path / 'checkpoint.pt'}"


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"g": s, "g_ema": s, "latent_avg": torch.zeros(8)}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_load_in_the_layouts_that_people_have(tmp_path, wrap, prefix):
    source = small()
    source.load_state_dict(waves(source.state_dict()))
    model = saved(tmp_path, wrap({f"{prefix}{name}": value for name, value in source.state_dict().items()}))
    assert torch.equal(lo.load(model).module(torch.ones(1, 8)), source(torch.ones(1, 8)))
    generator = load_generator({"name": model, "space": "w+", "noise": True})
    assert generator.part_shapes["w"] == (6, 8)
    assert list(generator.part_shapes)[-1] == "noise_4"


def test_old_checkpoints_lack_filters_and_noise_maps(tmp_path):
    source = small()
    state = {name: t for name, t in source.state_dict().items() if "kernel" not in name and "noises" not in name}
    network = lo.load(saved(tmp_path, {"g_ema": state})).module
    w, noise = randn(2, 6, 8).float(), [randn(2, *shape).float() for shape in source.noise_shapes]
    assert torch.equal(network.synthesis(w, noise), source.synthesis(w, noise))


NVIDIA = """mapping.w_avg:8 mapping.fc0.weight:8,8 mapping.fc0.bias:8 synthesis.b4.const:6,4,4
synthesis.b4.resample_filter:4,4 synthesis.b4.conv1.weight:6,6,3,3 synthesis.b4.conv1.bias:6
synthesis.b4.conv1.noise_const:4,4 synthesis.b4.conv1.noise_strength: synthesis.b4.conv1.affine.weight:6,8
synthesis.b4.conv1.affine.bias:6 synthesis.b4.torgb.weight:3,6,1,1 synthesis.b4.torgb.bias:3
synthesis.b4.torgb.affine.weight:6,8 synthesis.b4.torgb.affine.bias:6 synthesis.b8.conv0.weight:5,6,3,3
synthesis.b8.conv0.bias:5 synthesis.b8.conv0.noise_const:8,8 synthesis.b8.conv0.noise_strength:
synthesis.b8.conv0.affine.weight:6,8 synthesis.b8.conv0.affine.bias:6 synthesis.b8.conv1.weight:5,5,3,3
synthesis.b8.conv1.bias:5 synthesis.b8.conv1.noise_const:8,8 synthesis.b8.conv1.noise_strength:
synthesis.b8.conv1.affine.weight:5,8 synthesis.b8.conv1.affine.bias:5 synthesis.b8.torgb.weight:3,5,1,1
synthesis.b8.torgb.bias:3 synthesis.b8.torgb.affine.weight:5,8 synthesis.b8.torgb.affine.bias:5"""
"""Names and shapes of stylegan2-ada-pytorch; test_stylegan2_references.py compares images."""


def test_nvidias_names_are_ours(tmp_path):
    shapes = [entry.split(":") for entry in NVIDIA.split()]
    state = {name: torch.rand([int(side) for side in shape.split(",") if side]) for name, shape in shapes}
    network = lo.load(saved(tmp_path, state)).module
    assert (network.size, network.style_size, len(network.style)) == (8, 8, 2)
    assert torch.equal(network.noises.noise_1[0, 0], state["synthesis.b8.conv0.noise_const"])
    assert torch.equal(network.convs[1].activate.bias, state["synthesis.b8.conv1.bias"])
    with refuses_file(tmp_path, "mapping.embed.weight, too"):
        lo.load(saved(tmp_path, {**state, "mapping.embed.weight": torch.ones(8, 10)}))


@contextmanager
def refuses_file(tmp_path, words: str) -> Iterator[None]:
    with refuses(str(tmp_path / "checkpoint.pt"), words):
        yield


def test_another_architecture_is_told_by_its_first_key(tmp_path):
    state = small().state_dict()
    cases = {
        "convs.0.conv.weight of shape (1, 8, 8, 3, 3), got (1, 8, 8, 5, 5)": {"convs.0.conv.weight": (1, 8, 8, 5, 5)},
        "style.2.bias of shape (8,), got (9,)": {"style.2.bias": (9,)},
        "extra.weight, too": {"extra.weight": (1,)},
    }
    for words, changes in cases.items():
        with refuses_file(tmp_path, words):
            lo.load(saved(tmp_path, state | {name: torch.ones(shape) for name, shape in changes.items()}))
    with refuses_file(tmp_path, "conv1.noise.weight of shape (1,), got none"):
        lo.load(saved(tmp_path, {name: t for name, t in state.items() if name != "conv1.noise.weight"}))
    for name, words in {"main.0.weight": "a DCGAN", "synthesis.input.freqs": "StyleGAN3", "x.y": "x.y"}.items():
        with refuses_file(tmp_path, words):
            lo.load(saved(tmp_path, {name: torch.ones(2)}))
    pickled = tmp_path / "ffhq.pkl"
    pickled.write_bytes(b"")
    with refuses(str(pickled), "convert_weight.py"):
        lo.load(f"stylegan2:{pickled}")


def test_a_space_of_a_model_by_name():
    assert lo.load({"name": "mnist-stylegan2", "space": "w+"}).latent_shape == (8, 64)
    for model, words in (
        ({"name": "mnist-vae", "space": "w"}, "a StyleGAN2"),
        ({"name": "mnist-stylegan2", "spaces": "w"}, "did you mean 'space'"),
        ({"space": "w+"}, "--model.name"),
    ):
        with refuses("model", words):
            lo.load(model)
    with refuses("space", "z, w, w+"):
        lo.load({"name": "mnist-stylegan2", "space": "v"})
    with refuses("noise", "true or false"):
        lo.load({"name": "mnist-stylegan2", "noise": "maybe"})


def test_spaces_agree_where_they_meet():
    network = small()
    z = randn(3, 8).float()
    w = network.style(z)
    plus, maps = w[:, None].repeat(1, 6, 1), [m.expand(3, -1, -1, -1) for m in network.constant_noise()]
    image = in_space(network, "z")(z)
    assert torch.equal(in_space(network, "w")(w), image)
    assert torch.equal(in_space(network, "w+")(plus), image)
    generator = in_space(network, "w+", noise=True)
    latents = generator.join({"w": plus, **{f"noise_{number}": m for number, m in enumerate(maps)}})
    near(generator(latents), image, 1e-6)
    assert in_space(in_space(network, "w+", output_range=(-2, 2)), "w").output_range == (-2, 2)


def test_latents_of_a_space_are_mapped_ones():
    network = small()
    half, whole = (in_space(network, "w+", truncation=psi).distribution for psi in (0.5, 1.0))
    near(half.mean, whole.mean, 1e-12)
    near(half.scale, whole.scale / 2, 1e-9)
    w = in_space(network, "w+").latents(4, 1)
    assert torch.equal(w, w[:, :1].expand_as(w))
    noisy = in_space(network, "w", noise=True)
    near(noisy.parts(noisy.distribution.scale[None])["noise_2"], torch.ones(1, 1, 8, 8).double(), 1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, ((-2.0, 2.0), 0.5)), ({"output_range": (0, 1)}, ((0.0, 1.0), 0.5)), ({"start_scale": 1}, ((-2.0, 2.0), 1.0))],
)
def test_settings_that_are_given_hold_before_those_of_the_generator(settings, expected):
    network = StyleGAN2(8, style=8, mapping=2, channels=[4, 3]).eval()
    whole = lo.Generator(network, latent_shape=8, output_range=(-2, 2), start_scale=0.5)
    found = in_space(whole, "w", **settings)
    assert (found.output_range, found.start_scale) == expected


def test_what_is_no_space_is_refused():
    with refuses("space", "z, w, w+"):
        in_space(small(), "v")
    with refuses("space", "a StyleGAN2"):
        in_space(lo.load("mnist-vae"), "w")
    with refuses("truncation"):
        in_space(small(), "z", truncation=0.5)
    for size in (24, 16.0):
        with refuses("size", "power of 2"):
            StyleGAN2(size)  # pyright: ignore[reportArgumentType]
    with refuses("channels", "3 numbers"):
        StyleGAN2(16, channels=[8, 8])
    with refuses("prior", "noise maps"):
        lo.reconstruct(in_space(small(), "w"), torch.zeros(1, 1, 16, 16), prior="noisemap", steps=1)


def test_autocorrelation_of_stripes_and_of_its_own_pooling():
    stripes = torch.tensor([1.0, -1.0]).repeat(16, 8)  # 16 x 16: -1 along rows, 1 along columns, then 0
    near(Autocorrelation(2.0, [(0, (1, 16, 16))])(stripes.reshape(1, -1)), torch.tensor([4.0]), 1e-6)
    flat = Autocorrelation(1.0, [(3, (2, 4, 4))])(torch.ones(2, 35))  # two maps, two directions
    near(flat, torch.tensor([4.0, 4.0]), 1e-6)


def test_the_projector_keeps_maps_normal_and_fits_its_own_image():
    generator = in_space(small(), "w", noise=True, output_range=(-8, 8))
    target = generator(generator.latents(2, 3))
    settings = {"optimizer": "projector", "start": "mean", "restarts": 1}
    result = lo.reconstruct(generator, target, prior=lo.priors.NoiseMapPrior(0.0), steps=60, **settings)
    mean = generator(generator.distribution.mean[None].float().expand(2, -1))
    assert (result.value < 0.2 * (mean - target).square().mean((1, 2, 3))).all()
    for name, part in generator.parts(result.x).items():
        if name.startswith("noise"):
            near(part.mean((1, 2, 3)), torch.zeros(2), 1e-5)
            near(part.std((1, 2, 3)), torch.ones(2), 1e-4)


def test_the_projector_takes_the_steps_of_a_loop_by_hand():
    network, steps, seen = small().double().requires_grad_(False), 20, list[Tensor]()
    generator = in_space(network, "w", noise=True, output_range=(-8, 8))
    target, prior = generator(generator.latents(1, 3)), lo.priors.NoiseMapPrior(0.1)
    start = prior.feasible(generator).project(generator.latents(1, 4))
    lo.reconstruct(
        generator,
        target,
        optimizer=Jitter(std=0.0),
        prior=prior,
        start=start,
        steps=steps,
        restarts=1,
        callbacks=lambda progress: seen.append(progress.x.clone()),
    )
    w, *maps = (part.clone() for part in generator.parts(start).values())
    sides = {0: 4, 16: 8, 80: 8, 144: 16, 400: 16}
    penalty = Autocorrelation(0.1, [(begin, (1, side, side)) for begin, side in sides.items()])
    leaves = [leaf.requires_grad_() for leaf in (w, *maps)]
    adam = torch.optim.Adam(leaves, eps=1e-12)
    for step in range(steps - 1):
        adam.param_groups[0]["lr"] = 0.1 * scheduled("ramp", step, steps)
        image = network.synthesis(w[:, None].expand(-1, 6, -1), maps)
        noise = penalty(torch.cat([m.flatten() for m in maps])[None]).sum()
        adam.zero_grad()
        ((image / 16 + 0.5 - target).square().mean() + noise).backward()
        adam.step()
        with torch.no_grad():
            for m in maps:
                m.sub_(m.mean()).div_(m.std())
    near(seen[-1], torch.cat([leaf.detach().flatten() for leaf in leaves])[None], 1e-9)


def test_the_mean_is_the_first_start_and_maps_are_drawn():
    generator = in_space(small(), "w", noise=True, output_range=(-8, 8))
    problem = lo.Reconstruction(generator, torch.zeros(2, 1, 16, 16))
    starts = Mean().fit(generator, problem.operator, 0)(problem, 3, seed=0)
    assert starts.shape == (3, 2, 8 + 16 + 2 * 64 + 2 * 256)
    near(starts[0, 0, :8], generator.distribution.mean[:8].float(), 1e-6)
    assert not torch.equal(starts[1, 0, :8], starts[0, 0, :8])
    assert starts[0, 0, 8:].std().item() == pytest.approx(1, abs=0.15)


def test_jitter_falls_to_nothing_and_the_ramp_is_the_papers():
    problem = lo.Problem(nn.Identity(), lambda y: y.square().sum(1), shape=(2,), batch=1)
    plain, noisy = (lo.solve(problem, method, steps=40, restarts=1).x for method in (Adam(0.1), Jitter(Adam(0.1), 0)))
    assert torch.equal(plain, noisy)
    factors = [scheduled("ramp", t, 1000) for t in (0, 25, 50, 749, 875, 1000)]
    assert factors == pytest.approx([0, 0.5, 1, 1, 0.5, 0])


def test_a_step_of_training_moves_both_networks_and_the_average():
    training = StyleGAN2Training(small(), Discriminator(16, (4, 8)), mixing=1.0)
    before = {name: value.clone() for name, value in training.state_dict().items()}
    adams = [torch.optim.Adam(net.parameters(), 0.01) for net in (training.generator, training.discriminator)]
    trainer = {
        "optimizers": lambda: adams,
        "lr_schedulers": list,
        "manual_backward": lambda loss: loss.backward(),
        "log_dict": lambda *args, **kwargs: None,
    }
    for name, function in trainer.items():
        setattr(training, name, function)
    training.training_step([torch.rand(4, 1, 16, 16)], 0)
    moved = {
        name.split(".")[0] for name, value in training.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"generator", "discriminator", "average"}


def test_r1_is_half_the_squared_gradient():
    training = StyleGAN2Training(small(), Discriminator(16, (4, 8)), r1=3.0)
    real = torch.rand(2, 1, 16, 16).requires_grad_()
    (grad,) = torch.autograd.grad(training.discriminator(real).sum(), real)
    near(training._penalty(real), 1.5 * grad.square().sum((1, 2, 3)).mean(), 1e-6)
