"""What users bring as arguments from Python works, or is refused in one line that names the argument."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import latentopt as lo
from latentopt import components, objectives, operators, priors, sets
from latentopt.arguments import _signature, as_pixels, as_tensor, checked
from latentopt.inverse.initializers import Regression
from latentopt.solver.callbacks import JsonLines, StopBelow

torch.manual_seed(0)
BODY = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))).eval()
GENERATOR = lo.Generator(BODY, latent_shape=(4,))
TARGET = GENERATOR(GENERATOR.latents(2, seed=3)).detach()
HALF = torch.zeros(8, 8)
HALF[:4] = 1
NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
PROBLEM = lo.Problem(NET, objectives.Unit(), (3,), 2, sets.Box(-1.0, 1.0))
QUICK: dict[str, Any] = {"steps": 2, "restarts": 2, "start": "random", "halving": ()}

COMPOSE: Any = operators.Compose
SUM: Any = objectives.WeightedSum
MASK: Any = operators.Mask
BAD: Any = "net"
BAD_LIST: Any = 5


class Parts(nn.Module):
    def forward(self, a, b, scale=1.0, mode="same"):
        return BODY(torch.cat([a, b], 1)) * scale * (2 if mode == "double" else 1)


PARTS = lo.Generator(Parts().eval(), latent_shape={"a": (1,), "b": (3,)})


def found(target: Any = TARGET, generator: lo.Generator = GENERATOR, **settings: Any) -> torch.Tensor:
    return lo.reconstruct(generator, target, **{**QUICK, **settings}).x


def solved(**settings: Any) -> torch.Tensor:
    return lo.solve(PROBLEM, settings.pop("optimizer", "pgd"), steps=2, **settings).x


def maximal(**settings: Any) -> torch.Tensor:
    return lo.maximize(NET, **{"low": 0.0, "high": 1.0, "shape": (3,), "steps": 2, **settings}).x


def outward(**settings: Any) -> lo.Generator:
    return lo.Generator(**{"module": BODY, "latent_shape": 4, **settings})


def spec(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": arguments}


LATENTS = torch.linspace(-1, 1, 8).reshape(2, 4)
BYTES = (TARGET * 255).byte()
SAME = {
    "operator": lambda: (found(operator="identity"), found()),
    "operator with arguments": lambda: (
        found(operator=spec("downsample", factor=2)),
        found(operator=operators.Downsample(2)),
    ),
    "operator by class path": lambda: (
        found(operator=spec("latentopt.operators.Crop", size=4)),
        found(operator=operators.Crop(4)),
    ),
    "loss": lambda: (found(loss="l1"), found(loss=objectives.L1())),
    "prior": lambda: (found(prior="gaussian"), found(prior=priors.GaussianPrior())),
    "start": lambda: (found(start=spec("regression", pool=20)), found(start=Regression(20))),
    "optimizer": lambda: (solved(optimizer="Adam"), solved(optimizer=lo.Adam())),
    "optimizer with arguments": lambda: (solved(optimizer=spec("adam", lr=0.1)), solved(optimizer=lo.Adam(lr=0.1))),
    "Reconstruction": lambda: (
        lo.solve(lo.Reconstruction(GENERATOR, TARGET, "identity", "mse", prior="box"), "pgd", steps=2).x,
        lo.solve(lo.Reconstruction(GENERATOR, TARGET, prior=priors.BoxPrior()), "pgd", steps=2).x,
    ),
    "diagnose": lambda: (
        lo.diagnose(
            GENERATOR, TARGET, samples=2, operator="identity", loss="mse", prior="unconstrained", **QUICK
        ).error,
        lo.diagnose(GENERATOR, TARGET, samples=2, **QUICK).error,
    ),
    "array": lambda: (found(TARGET.numpy()), found()),
    "list of tensors": lambda: (found(list(TARGET)), found()),
    "list": lambda: (found(TARGET.double().tolist()), found()),
    "array that is turned": lambda: (found(TARGET.flip(3).numpy()[..., ::-1]), found()),
    "bytes": lambda: (found(BYTES), found(BYTES / 255)),
    "bytes of numpy": lambda: (found(BYTES.numpy()), found(BYTES / 255)),
    "mask of numpy": lambda: (found(operator=operators.Mask(HALF.numpy())), found(operator=operators.Mask(HALF))),
    "mask of bytes": lambda: (operators.Mask((255 * HALF).byte())(TARGET), operators.Mask(HALF)(TARGET)),
    "mask of zeros and ones in bytes": lambda: (operators.Mask(HALF.byte())(TARGET), operators.Mask(HALF)(TARGET)),
    "mask in a list": lambda: (operators.Mask(HALF.tolist())(TARGET), operators.Mask(HALF)(TARGET)),
    "masks (B, H, W)": lambda: (
        operators.Mask(torch.stack([HALF, 1 - HALF]))(TARGET),
        torch.cat([operators.Mask(HALF)(TARGET[:1]), operators.Mask(1 - HALF)(TARGET[1:])]),
    ),
    "one callback": lambda: (solved(callbacks=lambda progress: progress.t == 1), solved(callbacks=[StopBelow(1e9)])),
    "one callback of reconstruct": lambda: (found(callbacks=StopBelow(1e9)), found(callbacks=[StopBelow(1e9)])),
    "Compose": lambda: (
        operators.Compose(operators.Crop(4), operators.Downsample(2))(TARGET),
        operators.Compose([operators.Crop(4), operators.Downsample(2)])(TARGET),
    ),
    "Compose by name": lambda: (COMPOSE("identity", spec("crop", size=4))(TARGET), operators.Crop(4)(TARGET)),
    "Compose of functions": lambda: (
        COMPOSE(lambda x: x / 2, operators.Crop(4))(TARGET),
        (TARGET / 2)[..., 2:6, 2:6],
    ),
    "PerImage": lambda: (
        operators.PerImage(operators.Identity(), operators.Hole(2))(TARGET),
        operators.PerImage([operators.Identity(), operators.Hole(2)])(TARGET),
    ),
    "WeightedSum by name": lambda: (
        SUM(["mse", "l1"], [1.0, 2.0])(TARGET, 1 - TARGET),
        objectives.WeightedSum([objectives.MSE(), objectives.L1()], [1.0, 2.0])(TARGET, 1 - TARGET),
    ),
    "start of numpy": lambda: (found(start=LATENTS.numpy()), found(start=LATENTS)),
    "start in a list": lambda: (found(start=LATENTS.double().tolist()), found(start=LATENTS)),
    "one start for all": lambda: (found(start=LATENTS[0]), found(start=LATENTS[[0, 0]])),
    "one start with a batch axis": lambda: (found(start=LATENTS[:1]), found(start=LATENTS[[0, 0]])),
    "one start for each restart": lambda: (
        found(start=LATENTS[:, None]),
        found(start=LATENTS[:, None].expand(2, 2, 4)),
    ),
    "start by part": lambda: (
        found(TARGET, PARTS, start={"b": LATENTS[:, 1:].numpy(), "a": LATENTS[:, :1]}),
        found(TARGET, PARTS, start=LATENTS),
    ),
    "one start by part": lambda: (
        found(TARGET, PARTS, start={"a": [0.5], "b": [0.0, 1.0, 2.0]}),
        found(TARGET, PARTS, start=torch.tensor([0.5, 0.0, 1.0, 2.0])),
    ),
    "compare": lambda: (
        *(
            lo.compare(PROBLEM, "adam", evaluations=20, seeds=1, start=s, callbacks=c, progress=False).runs[0].value
            for s, c in ((np.zeros((2, 3)), lambda progress: None), (torch.zeros(2, 3), ()))
        ),
    ),
    "bounds of tensors": lambda: (maximal(low=torch.zeros(3), high=torch.ones(3)), maximal()),
    "bounds in lists": lambda: (maximal(low=[0, 0, 0], high=[1, 1, 1]), maximal()),
    "bounds of numpy": lambda: (maximal(low=np.zeros(3), high=np.float32(1)), maximal()),
    "sides of width 0": lambda: (maximal(low=[0, 1, 1], high=1)[:, 1:], torch.ones(1, 2)),
    "constants": lambda: (PARTS.given(scale=0.4, mode="double")(LATENTS), 0.8 * PARTS(LATENTS)),
    "condition of numpy": lambda: (
        PARTS.given(scale=np.full((2, 1, 1, 1), 0.5))(LATENTS),
        PARTS.given(scale=torch.full((2, 1, 1, 1), 0.5))(LATENTS),
    ),
    "constants of numpy": lambda: (PARTS.given(scale=np.float32(0.5))(LATENTS), PARTS(LATENTS) / 2),
    "constant after a condition": lambda: (
        PARTS.given(scale=[[[[2.0]]]]).given(scale=0.5)(LATENTS),
        PARTS(LATENTS) / 2,
    ),
    "condition after a constant": lambda: (
        PARTS.given(scale=0.5).given(scale=[[[[2.0]]]])(LATENTS),
        2 * PARTS(LATENTS),
    ),
    "latents of numpy": lambda: (
        outward(latents=LATENTS.double().numpy()).latents(3, seed=0),
        outward(latents=LATENTS).latents(3, seed=0),
    ),
    "a range of tensors": lambda: (outward(output_range=torch.tensor([-1, 1]))(LATENTS), (BODY(LATENTS) + 1) / 2),
    "parts and join": lambda: (PARTS.join(PARTS.parts(LATENTS)), LATENTS),
}


@pytest.mark.parametrize("name", SAME)
def test_names_arrays_and_lists_stand_for_objects_and_tensors(name):
    with torch.no_grad():
        ours, expected = SAME[name]()
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("brought", [Path, str, lambda path: [path]])
def test_paths_stand_for_images(brought, tmp_path):
    from PIL import Image

    Image.fromarray(BYTES[0, 0].numpy()).save(tmp_path / "image.png")
    Image.fromarray((255 * HALF).byte().numpy()).save(tmp_path / "mask.png")
    ours = found(brought(tmp_path / "image.png"), operator=operators.Mask(str(tmp_path / "mask.png")))
    images = (BYTES[:1] / 255).expand(len(ours), -1, -1, -1)
    assert torch.equal(ours, found(images, operator=operators.Mask(HALF)))


def test_an_array_file_holds_measurements(tmp_path):
    operator = operators.Crop(4)
    measured = operator(TARGET)
    np.save(tmp_path / "measured.npy", measured.numpy())
    assert torch.equal(found(tmp_path / "measured.npy", operator=operator), found(measured, operator=operator))


REFUSED = {
    # names
    "operator": [
        lambda: found(operator="downsampel"),
        lambda: found(operator="downsample"),
        lambda: found(operator=5),
        lambda: found(operator=operators.Identity),
        lambda: found(operator=spec("crop", sizes=4)),
    ],
    "loss": [lambda: found(loss="os.system"), lambda: found(loss=[]), lambda: found(loss=spec("mse", a=1))],
    "prior": [lambda: found(prior="gauss"), lambda: found(prior=5), lambda: found(prior=None)],
    "start": [
        lambda: found(start="nowhere"),
        lambda: found(start=5),
        lambda: found(start=torch.zeros(3, 4)),
        lambda: found(start=LATENTS.tolist()[0][:3]),
        lambda: found(start=[["a"]]),
        lambda: lo.diagnose(GENERATOR, TARGET, start=LATENTS.numpy()),
        lambda: lo.diagnose(GENERATOR, TARGET, start=LATENTS),
        lambda: solved(start={"a": [0.0]}),
        lambda: solved(start=torch.full((2, 3), torch.nan)),
    ],
    "latents": [
        lambda: found(TARGET, PARTS, start={"a": [0.0]}),
        lambda: found(start={"a": [0.0]}, generator=GENERATOR),
    ],
    "b": [lambda: found(TARGET, PARTS, start={"a": [0.0], "b": [0.0]}), lambda: PARTS.join({"a": [0.0], "b": "x"})],
    "scale": [
        lambda: PARTS.given(scale=[]),
        lambda: PARTS.given(scale=["x"]),
        lambda: PARTS.given(scale=torch.ones(())),
    ],
    "optimizer": [
        lambda: solved(optimizer="adm"),
        lambda: solved(optimizer=5),
        lambda: solved(optimizer=None),
        lambda: solved(optimizer=lo.Adam),
        lambda: solved(optimizer=spec("adam", rate=1)),
        lambda: solved(optimizer={"name": "adam"}),
    ],
    # numbers and files
    "target": [
        lambda: found(None),
        lambda: found({}),
        lambda: found([[1.0], [1.0, 2.0]]),
        lambda: found(TARGET[0]),
        lambda: found(TARGET.permute(0, 2, 3, 1)),
        lambda: found(TARGET.to(torch.complex64)),
        lambda: found(255 * TARGET),
        lambda: found(TARGET[:0]),
        lambda: found("no/such.png"),
        lambda: found([Path("no/such.png")]),
        lambda: lo.reconstruct(GENERATOR),  # pyright: ignore[reportCallIssue]
    ],
    "mask": [
        lambda: operators.Mask(None),  # pyright: ignore[reportArgumentType]
        lambda: operators.Mask([]),
        lambda: MASK([["a"]]),
        lambda: MASK([2.0]),
        lambda: operators.Mask(torch.ones(3, 8, 8))(TARGET),
    ],
    "low": [
        lambda: maximal(low="a"),
        lambda: maximal(low=[0, 0]),
        lambda: maximal(low=2),
        lambda: maximal(low=-np.inf),
    ],
    "high": [lambda: maximal(high=torch.inf), lambda: maximal(high=[1, torch.nan, 1])],
    "seed": [
        lambda: found(seed=2**64),
        lambda: found(seed=2**64, start="regression"),
        lambda: lo.diagnose(GENERATOR, samples=2, seed=2**64),
        lambda: found(seed=1.5),
        lambda: solved(seed="a"),
        lambda: found(seed=-1, noise=0.1),
    ],
    # functions
    "callbacks": [
        lambda: solved(callbacks=5),
        lambda: solved(callbacks=[5]),
        lambda: solved(callbacks=StopBelow),
        lambda: solved(callbacks=torch.ones(2)),
        lambda: found(callbacks="bar"),
        lambda: lo.compare(PROBLEM, ["adam"], evaluations=20, callbacks=[None]),  # pyright: ignore
    ],
    "network": [
        lambda: lo.maximize(BAD, low=0, high=1, shape=(3,)),
        lambda: lo.Problem(BAD, objectives.Unit(), (3,), 2),
    ],  # pyright: ignore
    "objective": [lambda: lo.Problem(NET, "mse", (3,), 2)],  # pyright: ignore[reportArgumentType]
    "success": [lambda: lo.Problem(NET, objectives.Unit(), (3,), 2, success=5)],  # pyright: ignore[reportArgumentType]
    "penalty": [lambda: lo.Problem(NET, objectives.Unit(), (3,), 2, penalty=5)],  # pyright: ignore[reportArgumentType]
    "feasible": [lambda: lo.Problem(NET, objectives.Unit(), (3,), 2, (0, 1))],  # pyright: ignore[reportArgumentType]
    "like": [lambda: lo.Problem(NET, objectives.Unit(), (3,), 2, like="cuda")],  # pyright: ignore[reportArgumentType]
    "shape": [lambda: maximal(shape=3.0), lambda: maximal(shape="3"), lambda: maximal(shape=(3.0,))],
    # other types
    "generator": [lambda: found(generator="mnist-vae"), lambda: lo.diagnose(5)],  # pyright: ignore[reportArgumentType]
    "problem": [lambda: lo.solve(NET), lambda: lo.compare(NET, ["adam"], evaluations=9)],  # pyright: ignore
    "methods": [lambda: lo.compare(PROBLEM, 5, evaluations=9)],  # pyright: ignore[reportArgumentType]
    "measured": [lambda: found(measured="yes")],
    "fast": [lambda: found(fast="no")],
    "compile": [lambda: solved(compile="no")],
    "checkpoint": [lambda: solved(checkpoint=5)],
    "halving": [lambda: solved(halving=5), lambda: solved(halving=(1, 2, 3)), lambda: solved(halving="a")],
    "unit": [lambda: maximal(unit="a"), lambda: maximal(unit=2), lambda: maximal(unit=True)],
    "tolerance": [lambda: found(tolerance="a")],
    "retries": [lambda: found(retries="a")],
    "steps": [lambda: found(steps="3")],
    "patience": [lambda: solved(patience="a")],
    # names of arguments
    "operater": [lambda: found(operater="grey")],
    "stepz": [lambda: maximal(stepz=3), lambda: lo.diagnose(GENERATOR, samples=2, stepz=3)],
    "solve": [lambda: lo.solve(PROBLEM, "adam", 5)],  # pyright: ignore[reportCallIssue]
    # classes
    "Compose.operators": [lambda: operators.Compose(5), lambda: operators.Compose([5])],  # pyright: ignore
    "PerImage.operators": [lambda: operators.PerImage(3), lambda: operators.PerImage([])],  # pyright: ignore
    "WeightedSum.losses": [lambda: objectives.WeightedSum(3, [1.0])],  # pyright: ignore[reportArgumentType]
    "WeightedSum.weights": [lambda: objectives.WeightedSum(["mse"], 1.0)],  # pyright: ignore[reportArgumentType]
    "Downsample.factor": [lambda: operators.Downsample("a"), lambda: operators.Downsample()],  # pyright: ignore
    "Bicubic.factor": [lambda: operators.Bicubic([2])],  # pyright: ignore[reportArgumentType]
    "MotionBlur.angle": [lambda: operators.MotionBlur(3, "a")],  # pyright: ignore[reportArgumentType]
    "Features.classifier": [lambda: objectives.Features(5)],  # pyright: ignore[reportArgumentType]
    "LPIPS.net": [lambda: objectives.LPIPS([])],  # pyright: ignore[reportArgumentType]
    "Unit.index": [
        lambda: objectives.Unit("a"),  # pyright: ignore[reportArgumentType]
        lambda: lo.solve(lo.Problem(NET, objectives.Unit(9), (3,), 2), "adam", steps=2),
    ],
    "BoxAndBall.box": [lambda: sets.BoxAndBall(1, 2)],  # pyright: ignore[reportArgumentType]
    "output_range": [
        lambda: outward(output_range=5),
        lambda: outward(output_range=(1, 0)),
        lambda: outward(output_range="x"),
    ],
    "latent_shape": [
        lambda: outward(latent_shape="x"),
        lambda: outward(latent_shape=4.0),
        lambda: outward(latent_shape=2**70),
        lambda: outward(latent_shape=(4, 0)),
    ],
    "module": [lambda: outward(module="x"), lambda: lo.Classifier(BAD)],
    "mean": [lambda: lo.Classifier(NET, mean="x"), lambda: lo.Classifier(NET, mean=[1.0, 2.0])(torch.ones(2, 3))],
    "classes": [lambda: lo.Classifier(NET, classes=BAD_LIST)],
    "Square.p": [lambda: lo.Square(p="x")],  # pyright: ignore[reportArgumentType]
    "SoftGates.layers": [lambda: lo.SoftGates(layers=5)],  # pyright: ignore[reportArgumentType]
    "restarts": [lambda: solved(restarts=2**70)],
    "norm": [lambda: sets.bounded_ball(torch.zeros(3), 1.0, "l1", 0, 1)],  # pyright: ignore[reportArgumentType]
    "Adam.betas": [lambda: lo.Adam(betas=5), lambda: lo.Adam(betas=(0.9,))],  # pyright: ignore[reportArgumentType]
    "ADRGD.descent": [lambda: lo.ADRGD(descent="adam")],  # pyright: ignore[reportArgumentType]
    "ADRGD.gates": [lambda: lo.ADRGD(5)],  # pyright: ignore[reportArgumentType]
    "TwoPhase.first": [lambda: lo.TwoPhase(5)],  # pyright: ignore[reportArgumentType]
    "Regression.pool": [lambda: Regression("a")],  # pyright: ignore[reportArgumentType]
    "StopBelow.value": [lambda: StopBelow("a")],  # pyright: ignore[reportArgumentType]
    "JsonLines.path": [lambda: JsonLines(5)],  # pyright: ignore[reportArgumentType]
    "measurement": [
        lambda: operators.Identity().add_noise(TARGET.numpy(), 0.1, 0),
        lambda: operators.Identity().adjoint(TARGET.numpy(), (1, 8, 8)),
    ],
    # volumes and signals
    "image": [
        lambda shape=shape, operator=operator: operator(torch.ones(shape))
        for shape in ((2, 1, 8, 8, 8), (2, 1, 16))
        for operator in (
            operators.MotionBlur(3),
            operators.Bicubic(2),
            operators.Grey(),
            operators.JPEG(50),
            operators.Radon(3),
        )
    ],
}


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls])
def test_a_wrong_argument_is_refused_by_its_name(name, call):
    with pytest.raises(lo.InputError) as error:
        call()
    assert error.value.name == name
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_misspelt_name_is_answered_with_the_nearest_one():
    with pytest.raises(lo.InputError, match="an argument of reconstruct, such as operator, got"):
        found(operater="grey")
    with pytest.raises(lo.InputError, match="target: expected an argument of reconstruct"):
        lo.reconstruct(GENERATOR)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("operator", [operators.Mask(torch.ones(8, 8, 8)), operators.Identity()])
def test_volumes_are_measured_by_what_has_no_axes(operator):
    assert len(operator(torch.ones(2, 1, 8, 8, 8))) == 2


CHECKED = [lo.solve, lo.reconstruct, lo.diagnose, lo.maximize, lo.compare, lo.Problem, lo.Reconstruction, lo.ADRGD]
CHECKED += [lo.TwoPhase, lo.Adam, operators.Downsample, operators.MotionBlur, objectives.Features, objectives.LPIPS]


@pytest.mark.parametrize("public", [*CHECKED, sets.BoxAndBall, sets.bounded_ball], ids=lambda public: public.__name__)
def test_annotations_of_checked_arguments_are_understood(public):
    function = inspect.unwrap(public.__init__ if inspect.isclass(public) else public)
    expected = set(inspect.signature(function).parameters) - {"self", "settings"}
    assert expected <= set(_signature(function, public if inspect.isclass(public) else function)[1])


def test_types_are_checked_as_annotated():
    @checked
    def own(a: float, b: tuple[int, ...] = (), c: str | None = None, *more: int, **others: Any) -> float:
        return a

    take: Any = own
    assert take(np.float32(1.0), [1, 2], None, 3, other=5) == 1.0
    for name, call in {"a": lambda: take(True), "b": lambda: take(1, (1.5,)), "c": lambda: take(1, (), 5)}.items():
        with pytest.raises(lo.InputError) as error:
            call()
        assert error.value.name == name
    assert str(inspect.signature(take)).startswith("(a: ")


def test_tensors_follow_dtype_and_hold_no_gradient():
    like = torch.empty(0, dtype=torch.float64)
    assert as_tensor("x", [0.1, 0.2], like).tolist() == [0.1, 0.2]
    assert as_tensor("x", 0.1, like).item() == 0.1
    assert not as_tensor("x", torch.ones(2, requires_grad=True), like).requires_grad
    assert as_tensor("y", [1, 2], torch.empty(0, dtype=torch.long)).dtype == torch.long
    with pytest.raises(lo.InputError, match="y: expected whole numbers"):
        as_tensor("y", [1.5], torch.empty(0, dtype=torch.long))
    assert as_pixels("x", np.array([51], dtype=np.uint8), like).item() == 0.2
    assert as_pixels("x", torch.tensor([51]), like).item() == 51


@pytest.mark.parametrize("kind", ["operator", "loss", "prior", "initializer", "optimizer"])
def test_the_error_of_an_unknown_name_lists_the_names(kind):
    with pytest.raises(lo.InputError) as error:
        components.build("it", kind, "nothing")
    assert all(name in error.value.expected for name in components.short_names(kind))


FLAT = lo.Generator(lambda z: z.sigmoid().sum(1), latent_shape=4)
EMPTY = lo.Generator(lambda z: z[:, :0], latent_shape=4)
SAVED = lo.reconstruct(GENERATOR, TARGET, **QUICK)
METHODS = {
    "a count of latents": ("count", lambda bad: GENERATOR.latents(-1, seed=0)),
    "a seed of latents": ("seed", lambda bad: GENERATOR.latents(1, bad)),
    "no seed": ("seed", lambda bad: GENERATOR.latents(1)),  # pyright: ignore[reportCallIssue]
    "a seed of a hold-out": ("seed", lambda bad: GENERATOR.hold_out(1, seed=2**70)),
    "latents that are no numbers": ("latents", lambda bad: GENERATOR(bad)),
    "parts that are no tensor": ("z", lambda bad: PARTS.parts(bad)),
    "parts of another size": ("latents", lambda bad: PARTS.parts(torch.ones(2, 3))),
    "inputs that are no numbers": ("x", lambda bad: lo.Classifier(NET)(bad)),
    "a number as an image": ("generator", lambda bad: found(torch.ones(2), FLAT)),
    "an empty image": ("generator", lambda bad: found(torch.ones(2, 0), EMPTY)),
    "an endless range": ("output_range", lambda bad: outward(output_range=(-np.inf, 1))),
    "a misspelt argument beside a missing one": ("latent_shap", lambda bad: lo.Generator(BODY, latent_shap=4)),  # pyright: ignore
    "a loss of one argument": ("loss", lambda bad: found(loss=lambda output: output)),
    "a callback of none": ("callbacks", lambda bad: found(callbacks=[lambda: None])),
    "a draw without its generator": ("latents", lambda bad: outward(latents=lambda count: torch.ones(count, 4))),
    "an image of a metric": ("image", lambda bad: lo.metrics.psnr(bad, TARGET)),
    "a reference of a metric": ("reference", lambda bad: lo.metrics.ssim(TARGET, bad)),
    "a file to save": ("path", lambda bad: SAVED.save(BAD_LIST)),
    "a file to load": ("path", lambda bad: lo.Result.load(BAD_LIST)),
    "a file of a plot": ("path", lambda bad: SAVED.plot(BAD_LIST)),
    "a network to verify": ("network", lambda bad: SAVED.verify(bad)),
    "a run": ("folder", lambda bad: lo.read_run(BAD_LIST)),
    "runs": ("folders", lambda bad: lo.compare_runs("a", BAD_LIST)),
    "a folder to track": ("folder", lambda bad: lo.Track(BAD_LIST)),
    "images": ("targets", lambda bad: lo.load_images(BAD_LIST)),
    "an empty path of images": ("targets", lambda bad: lo.load_images("")),
    "the shape of images": ("shape", lambda bad: lo.load_images("digits", shape=BAD_LIST)),
    "a side of images": ("shape", lambda bad: lo.load_images("digits", shape=(1, 0, 8))),
    "an empty path of a mask": ("path", lambda bad: operators.Mask("")),
    "a model": ("model", lambda bad: lo.load(BAD_LIST)),
    "a device": ("device", lambda bad: lo.load("mnist-vae", device="nowhere")),
}


@pytest.mark.parametrize("case", METHODS)
def test_methods_refuse_what_functions_do(case):
    name, call = METHODS[case]
    with pytest.raises(lo.InputError) as error:
        call(BAD)
    assert error.value.name == name
    assert "\n" not in str(error.value)


def test_networks_and_metrics_take_arrays_and_bytes():
    z = np.ones((2, 4))
    assert torch.equal(GENERATOR(z), GENERATOR(torch.ones(2, 4)))
    assert torch.equal(GENERATOR(z.tolist()), GENERATOR(torch.ones(2, 4)))
    assert torch.equal(lo.Classifier(NET)(np.ones((2, 3))), NET(torch.ones(2, 3)))
    dark, light = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert lo.metrics.mse((255 * dark).byte(), (255 * light).byte()).item() == 1.0
    assert lo.metrics.psnr(dark.numpy(), light).item() == 0.0


def test_a_wrapped_function_and_one_of_defaults_are_called_as_they_are():
    def needs(prediction, target, extra):
        return extra * (prediction - target).square().flatten(1).mean(1)

    @functools.wraps(needs)
    def hands(prediction, target):
        return needs(prediction, target, 2.0)

    assert torch.equal(found(loss=hands), found(loss=functools.partial(needs, extra=2.0)))


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "dead").symlink_to("nowhere")
    for path in (tmp_path / ("n" * 300), tmp_path / "a\0b", tmp_path / "dead", tmp_path):
        with pytest.raises(lo.InputError):
            SAVED.save(path)
    with pytest.raises(lo.InputError):
        SAVED.plot(tmp_path / ("n" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["dead"]


def test_a_folder_that_cannot_be_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dead").symlink_to("nowhere")
    for folder in ("", "n" * 300, "a\0b", "dead", "dead/below"):
        with pytest.raises(lo.InputError, match=r"^folder: ") as error:
            lo.Track(folder)
        assert "\n" not in str(error.value)
    with pytest.raises(lo.InputError, match=r"path: expected a file that ends in \.png"):
        SAVED.plot("a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["dead"]
