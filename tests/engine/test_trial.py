"""A run of a scenario: what it tells of arguments that were changed in place."""

import math
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

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


class Curious(TorchFunctionMode):
    """A student's own mode, left in force: it is told of every function."""

    def __init__(self):
        super().__init__()
        self.told = []

    def __torch_function__(self, func, _types, args=(), kwargs=None):
        self.told.append(func.__name__)
        return func(*args, **(kwargs or {}))


class CuriousOfOperators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.told = []

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        self.told.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_modes_that_a_student_left_see_the_scenario_and_nothing_of_ours():
    functions, operators = Curious(), CuriousOfOperators()
    with functions, operators:
        inputs = {"x": torch.arange(3.0)}
        functions.told.clear()
        operators.told.clear()
        trial = run_trial(lambda f, x: f(x), torch.neg, inputs, device="cpu", seed=0)
        assert torch._C._len_torch_function_stack() == 1
    assert functions.told == ["neg"]
    assert operators.told == ["neg"]
    assert trial["changed"] == []


def test_what_a_scenario_runs_within_holds_while_its_outcome_is_read():
    said = []

    @contextmanager
    def watching():
        said.append("begins")
        yield
        said.append("ends")

    trial = run_trial(
        lambda f, x: f(x),
        lambda x: said.append("runs") or x,
        {"x": torch.ones(2)},
        device="cpu",
        seed=0,
        watching=watching(),
        read=lambda outcome: said.append("is read") or outcome.sum(),
    )
    assert said == ["begins", "runs", "is read", "ends"]
    assert trial["outcome"] == 2
