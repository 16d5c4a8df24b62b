"""Right answers pass, wrong ones are told apart by the first thing that differs."""

import math

import pytest
import torch

from autograder.engine.codec import decode, encode
from autograder.engine.comparison import Standard, compare


def held_against(outcome, truth, own=None, dtype=torch.float64):
    own = truth if own is None else own
    sides = [decode(encode(side)) for side in (outcome, truth, own)]
    return compare(sides[0], Standard(sides[1], sides[2], dtype))


def kind(*args, **kwargs):
    mismatch = held_against(*args, **kwargs)
    return mismatch.kind if mismatch else None


X = torch.tensor([[0.3, -1.7, 2.9], [1e-6, 40.0, -0.2]], dtype=torch.float64)


def test_the_same_passes():
    assert (
        kind({"a": X, "b": (1, 2.5, "t", None, True)}, {"a": X, "b": (1, 2.5, "t", None, True)})
        is None
    )


def test_rounding_passes_and_small_errors_do_not():
    assert kind(X * (1 + 1e-12), X) is None
    assert kind(X * (1 + 1e-6), X) == "value"
    small = X.clone()
    small[1, 0] *= 1.001
    assert kind(small, X) == "value", "an error in a small value is not hidden by a large one"


def test_float32_may_lose_what_the_reference_loses():
    truth = X
    own = X.float() * (1 + 1e-4)  # an ill-conditioned formula loses this much
    assert kind((X * (1 + 3e-4)).float(), truth, own, torch.float32) is None
    assert kind((X * (1 + 3e-4)).float(), truth, X.float(), torch.float32) == "value"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (X.T, "shape"),
        (X[None], "shape"),
        (X.float(), "dtype"),
        (None, "type"),
        (3.0, "type"),
        (X.tolist(), "type"),
        (X.masked_fill(X > 2, math.nan), "nan"),
        (X.masked_fill(X > 2, math.inf), "value"),
        (-X, "value"),
    ],
)
def test_what_differs_is_named(outcome, expected):
    assert kind(outcome, X) == expected


def test_infinities_must_be_the_same():
    truth = torch.tensor([math.inf, -math.inf, 1.0], dtype=torch.float64)
    assert kind(truth, truth) is None
    assert kind(-truth, truth) == "value"
    assert kind(torch.tensor([1e300, -math.inf, 1.0], dtype=torch.float64), truth) == "value"


def test_nothing_is_judged_where_the_reference_overflows():
    truth = torch.tensor([1e39, 2.0], dtype=torch.float64)
    own = truth.float()
    assert kind(torch.tensor([math.nan, 2.0]), truth, own, torch.float32) is None
    assert kind(torch.tensor([1e38, 2.5]), truth, own, torch.float32) == "value"


def test_nan_in_the_truth_never_passes():
    truth = torch.tensor([math.nan, 1.0], dtype=torch.float64)
    assert kind(truth, truth) == "nan"


def test_structure_follows_the_reference():
    assert kind([X, X], (X, X)) is None
    assert kind((X,), (X, X)) == "shape"
    assert kind({"a": X, "extra": 1}, {"a": X}) is None
    assert kind({"extra": 1}, {"a": X}) == "missing"


def test_scalars():
    scalar = torch.tensor(2.5, dtype=torch.float64)
    assert kind(scalar, 2.5) is None
    assert kind(2.5, scalar) == "type", "a float carries no gradient"
    assert kind(torch.tensor(3), 3) is None
    assert kind(3.5, 3) == "type"
    assert kind(True, 1) == "type"
    assert kind(False, True) == "fact"
    assert kind(torch.tensor([2.5], dtype=torch.float64), 2.5) == "type"
    assert kind(math.nan, 2.5) == "nan"


def test_messages_hold_no_expected_value():
    secret = torch.tensor([123.456789], dtype=torch.float64)
    mismatch = held_against(secret + 1, secret)
    assert mismatch is not None
    assert "123" not in mismatch.message
    assert (
        mismatch.message == "the result differs in 1 of 1 values (first at index (0,), by up to 1)."
    )
