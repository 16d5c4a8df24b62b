"""A run of a scenario: what it tells of arguments that were changed in place."""

import math

import pytest
import torch

from autograder.engine.trial import run_trial


def changed(change, value):
    def scenario(implementation, x):
        implementation(x)

    return run_trial(scenario, change, {"x": value}, device="cpu", seed=0)["changed"]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda x: x.mul_(2), torch.ones(3)),
        (lambda x: x[0].zero_(), [torch.ones(2), torch.ones(2)]),
        (lambda x: x.pop(), [torch.ones(2), torch.ones(2)]),
        (lambda x: x.update(lr=0.5), {"lr": 0.1, "layers": 2}),
        (lambda x: x.update(more=0.5), {"lr": 0.1}),
        (lambda x: x["grid"].reverse(), {"grid": [1, 2, 3]}),
        (lambda x: x.__setitem__(0, "b"), ["a", "c"]),
        (lambda x: x.__setitem__(0, 1.0), [1, 2]),
    ],
    ids=["tensor", "tensor in a list", "list", "dict", "key", "nested", "text", "type"],
)
def test_a_changed_argument_is_noticed(change, value):
    assert changed(change, value) == ["x"]


@pytest.mark.parametrize(
    "value", [torch.tensor([1.0, math.nan]), {"loss": math.nan, "best": None}, [1, "a", True], 3.0]
)
def test_an_argument_left_alone_is_not_accused(value):
    assert changed(lambda x: str(x), value) == []
