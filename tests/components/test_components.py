from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse
import pytest
import torch
import yaml
from nets import refuses

from latentopt.components import build, check, describe, short_names
from latentopt.errors import LatentOptError
from latentopt.objectives import L1, LPIPS, MSE, SSIM, Consistent, Huber, Loss, NoiseModel, WeightedSum
from latentopt.operators import (
    JPEG,
    Bicubic,
    Blur,
    Clip,
    Compose,
    Crop,
    Downsample,
    Exposure,
    FourierMagnitude,
    Gamma,
    Gaussian,
    Grey,
    Hole,
    Identity,
    Magnitude,
    Mask,
    MotionBlur,
    Operator,
    PerImage,
    Quantize,
    Radon,
)
from latentopt.optimizers import ADRGD, GD, METHODS, Adam, FreeGates, Optimizer, RowNorms, SoftGates


def parsed(kind: type, spec: Any) -> Any:
    """The object a recipe gets from ``spec``, after it was written to YAML and read again."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser.instantiate(parser.parse_object({"it": yaml.safe_load(yaml.safe_dump(spec))})).it


OBJECTS = [
    *[(Optimizer, preset()) for preset in METHODS.values()],
    (Optimizer, Adam(lr=0.3, betas=(0.5, 0.9), schedule="linear")),
    (Optimizer, GD(lr=2.0, normalize=True)),
    (Optimizer, ADRGD(gates=SoftGates(tau=0.7))),
    (Optimizer, ADRGD(gates=FreeGates(T_p=3, row_norms=RowNorms("exact")), descent=GD())),
    *[(Loss, loss) for loss in (MSE(), L1(), Huber(), Huber(0.5), SSIM(), LPIPS("vgg"))],
    (Loss, Consistent()),
    (Loss, Consistent(L1())),
    (Loss, WeightedSum([SSIM(), WeightedSum([L1()], [2.0])], [1.0, 0.5])),
    *[(Operator, operator) for operator in (Identity(), Hole(3), Crop(5), Downsample(2), Downsample(2.5))],
    *[(Operator, operator) for operator in (Blur(1.5), Blur(2, 3), MotionBlur(5, 30.0), Gaussian(10, seed=3))],
    *[(Operator, operator) for operator in (Grey(), Bicubic(2), Clip(high=0.5), Quantize(4), JPEG(10))],
    *[(Operator, operator) for operator in (Gamma(2.2), Exposure(-1.5))],
    (Operator, Compose([Crop(20), Downsample(2.5), Compose([Identity()])])),
    *[
        (Operator, operator)
        for operator in (FourierMagnitude(1.5), Radon([0.0, 30.0]), Magnitude(Gaussian(5, is_complex=True)))
    ],
    (Operator, PerImage([Blur(1.5), MotionBlur(5, 30.0), Blur(1.5)])),
]


@pytest.mark.parametrize(("kind", "value"), OBJECTS, ids=lambda value: repr(value)[:60])
def test_a_described_object_is_parsed_to_an_equal_one(kind, value):
    assert parsed(kind, describe(value)) == value


ARGUMENTS = {
    **{name: {"size": 2} for name in ("hole", "crop")},
    **{name: {"factor": 2} for name in ("downsample", "bicubic")},
    "compose": {"operators": []},
    "blur": {"sigma": 1.5},
    "exposure": {"stops": 1},
    "gamma": {"gamma": 2.2},
    "jpeg": {"quality": 10},
    "quantize": {"levels": 4},
    "mask": {"mask": [[1.0, 0.0]]},
    "motionblur": {"length": 3},
    "gaussian": {"measurements": 5},
    "magnitude": {"operator": describe(Gaussian(5))},
    "radon": {"angles": 3},
    "kernelblur": {"kernel": [[1.0]]},
    "perimage": {"operators": [describe(Blur(1.5))]},
    "weightedsum": {"losses": [{"class_path": "latentopt.objectives.MSE"}], "weights": [1.0]},
}


NOISE = {
    "gaussian": {"sigma": 0.1},
    "multiplicative": {"looks": 4},
    "poissongaussian": {"photons": 5, "sigma": 0.1},
    "poisson": {"photons": "20/4"},
    "student": {"scale": 0.1},
}


@pytest.mark.parametrize(("kind", "base"), [("operator", Operator), ("loss", Loss), ("noise", NoiseModel)])
def test_every_short_name_stands_for_an_object_of_its_kind(kind, base):
    known = ARGUMENTS if kind == "operator" else ARGUMENTS | NOISE
    for name in short_names(kind):
        if name in ("physics", "features", "saved"):  # take objects, or a file
            continue
        value = build("it", kind, {"class_path": name, "init_args": known[name]} if name in known else name)
        assert isinstance(value, base)
        assert type(value).__name__.removesuffix("Noise").lower() == name


def test_noise_may_be_a_number():
    assert build("noise", "noise", 0.05) == 0.05
    with refuses("noise", "a finite number >= 0"):
        build("noise", "noise", -1)


def test_the_short_names_of_optimizers_are_the_presets():
    for name, preset in METHODS.items():
        assert build("it", "optimizer", name) == preset()


def test_plain_values_are_described_as_they_are():
    plain = {"a": None, "b": [True, 1, 2.5, "x"], "c": {"d": []}}
    assert describe(plain) == plain
    assert describe((Path("a/b"), (1,))) == ["a/b", [1]]


def test_tensors_are_described_by_shape_and_content():
    one, same, other = (describe(torch.tensor(values)) for values in ([1.0, 2], [1.0, 2], [1.0, 3]))
    assert one == same != other
    assert describe(Mask(torch.ones(1, 2)))["init_args"]["mask"].startswith("tensor of shape (1, 2)")


class Elsewhere:
    def __init__(self, given: int, hidden: int = 3) -> None:
        self.given = given


def test_an_object_is_described_by_the_arguments_that_it_keeps():
    spec = describe(Elsewhere(4))
    assert spec == {"class_path": f"{__name__}.Elsewhere", "init_args": {"given": 4}}


def test_a_component_stays_as_it_was_given_when_it_is_checked_and_built():
    parts = [{"class_path": "latentopt.operators.Crop", "init_args": {"size": 20}}]
    parts.append({"class_path": "latentopt.operators.Downsample", "init_args": {"factor": 2.5}})
    given = {"class_path": "latentopt.operators.Compose", "init_args": {"operators": parts}}
    before = yaml.safe_dump(given)
    build("operator", "operator", given)
    assert yaml.safe_dump(given) == before


@pytest.mark.parametrize("stage", [{"optimizer": "pdg"}, {"loss": "os.system"}, {"steps": "many"}, {"start": "far"}])
def test_a_wrong_stage_is_refused_before_the_job_runs(stage):
    with pytest.raises(LatentOptError):
        check("optimizer", "attack", {"class_path": "latentopt.Portfolio", "init_args": {"stages": [stage]}})
    check("optimizer", "attack", {"class_path": "latentopt.Portfolio", "init_args": {"stages": [{"optimizer": "pgd"}]}})
