from __future__ import annotations

import pickle

import pytest
from nets import refuses

from latentopt.errors import InputError, LatentOptError, positive


def test_an_input_error_says_what_was_expected_and_what_came():
    error = InputError("steps", "an integer >= 1", 0)
    assert str(error) == "steps: expected an integer >= 1, got 0"
    assert isinstance(error, LatentOptError)
    assert isinstance(error, ValueError)


def test_an_input_error_survives_pickling():
    error = pickle.loads(pickle.dumps(InputError("target", "values in [0, 1]", (2.0, 3.0))))
    assert (error.name, error.expected, error.got) == ("target", "values in [0, 1]", (2.0, 3.0))
    assert str(error) == "target: expected values in [0, 1], got (2.0, 3.0)"


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), float("inf"), True, "1", None])
def test_positive_refuses_what_is_not_a_finite_number_above_zero(value):
    with refuses("lr"):
        positive("lr", value)


@pytest.mark.parametrize("value", [0, -3, 1.0, True, "1", None])
def test_positive_integer_refuses_what_is_not_a_whole_number_from_one(value):
    with refuses("steps"):
        positive("steps", value, integer=True)


def test_positive_lets_pass_what_is_right():
    positive("lr", 1e-300)
    positive("lr", 3)
    positive("steps", 1, integer=True)
