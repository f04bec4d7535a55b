"""Networks that take one size of batch, fail, or have no usable output are told in one line."""

import re

import pytest
import torch
from torch import nn

import latentopt as lo

X = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))


class OneSize(nn.Module):
    """Takes six inputs alone, as a module that was exported without a dynamic batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x).view(6, 3)


@pytest.mark.parametrize("optimizer", ["pgd", "portfolio", "square"])
@pytest.mark.parametrize("wrong", [0, 1])  # inputs that no attack is needed for
def test_an_attack_tells_that_a_model_takes_one_size_of_batch(optimizer, wrong):
    model, eps = OneSize().eval(), torch.tensor([1.0, 1.0, 1.0, 0.001, 0.001, 0.001])
    y = model(X).argmax(1)
    y[:wrong] = (y[:wrong] + 1) % 3
    with pytest.raises(lo.InputError, match=r"^model: expected one that takes any number of inputs, .*fails for 1"):
        lo.attack(model, X, y, eps=eps, optimizer=optimizer)


def test_solve_tells_that_a_network_takes_one_size_of_batch():
    first = OneSize().eval()(X)[:, 0]
    problem = lo.Problem(
        OneSize().eval(), lambda y: y[:, 0], (5,), 6, success=lambda value, output: value < first.median()
    )
    with pytest.raises(lo.InputError, match=r"^network: .* any number of inputs"):
        lo.solve(problem, "gd", steps=4, start=X)


def test_an_error_of_a_callback_stays():
    problem = lo.Problem(nn.Linear(5, 2).eval(), lambda y: y[:, 0], (5,), 6)
    with pytest.raises(IndexError):
        lo.solve(problem, "gd", steps=4, callbacks=[lambda progress: [].pop()])


def test_values_whose_graph_does_not_reach_the_input_are_refused():
    bias = torch.zeros(2, requires_grad=True)

    def function(x):
        return x.detach()[:, :2] + bias

    with pytest.raises(lo.InputError, match=r"^model: expected a differentiable output"):
        lo.minimum_norm(function, X, function(X).argmax(1), steps=3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).train(), "eval mode"),
        (nn.Linear(4, 3).eval(), "^x: expected inputs that the network takes"),
    ],
)
def test_robustness_refuses_as_attacks_do(model, words):
    with pytest.raises(lo.InputError, match=words):
        lo.robustness(model, X, torch.zeros(6).long(), eps=0.1)


def test_one_output_that_is_a_probability_is_warned_of():
    torch.manual_seed(0)
    logit = nn.Linear(5, 1).eval()
    many, labels = X.repeat(3, 1), torch.tensor([0, 1]).repeat(9)
    with pytest.warns(lo.AttackWarning, match="looks like a probability"):
        lo.attack(nn.Sequential(logit, nn.Sigmoid()), many, labels, eps=0.1, optimizer="fgsm")

    def wide(x):
        return 30 * (logit(x) - logit(X).mean())

    found = lo.attack(wide, many, labels, eps=0.1, optimizer="fgsm")
    assert not any("probability" in warning for warning in found.warnings)


def test_an_output_without_rows_among_several_names_pick():
    model = nn.Linear(5, 3).eval()

    def outputs(x):
        return {"loss": model(x).sum(), "logits": model(x)}

    with pytest.raises(lo.InputError, match=re.escape("(pick= chooses another output)")):
        lo.attack(outputs, X, torch.zeros(6).long(), eps=0.1)
    assert lo.Classifier(outputs, pick="logits")(X).shape == (6, 3)


@pytest.mark.parametrize("loss", [lambda logits, labels: None, lambda logits: logits, lambda logits, labels: logits])
def test_a_loss_without_one_value_a_sample_is_refused_by_its_name(loss):
    model = nn.Linear(5, 3).eval()
    with pytest.raises(lo.InputError, match=r"^loss: "):
        lo.attack(model, X, model(X).argmax(1), eps=0.1, optimizer="pgd", steps=2, loss=loss)


def test_sparse_inputs_are_attacked_as_dense_ones():
    model = nn.Linear(5, 3).eval()
    y = model(X).argmax(1)
    dense, sparse = (lo.attack(model, x, y, eps=0.1, optimizer="fgsm").x for x in (X, X.to_sparse()))
    assert torch.equal(dense, sparse)
