"""Two outcomes agree where they are equal but for rounding, and nowhere else."""

import math

import pytest
import torch

from autograder.engine.codec import decode, encode
from autograder.engine.fingerprint import fingerprint

X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 7.0, -1.0]], dtype=torch.float64)


def agree(one, other, dtype=torch.float64, loosen=1.0):
    prints = [fingerprint(decode(encode(side)), dtype, loosen) for side in (one, other)]
    assert None not in prints
    forwards, backwards = prints[0].agrees(prints[1]), prints[1].agrees(prints[0])
    assert forwards == backwards
    return forwards


@pytest.mark.parametrize(
    "other",
    [X + 1e-12, X * (1 + 1e-10)],
    ids=["a shift by rounding", "a factor by rounding"],
)
def test_rounding_agrees(other):
    assert agree({"y": (X, 2)}, {"y": [other, 2]})


@pytest.mark.parametrize(
    "other",
    [X + 1e-6, X.T, X.float(), X[0], -X, None, 1.0, "text", X > 0, [X], {"x": X}, {"y": X, "z": 1}],
    ids=str,
)
def test_what_differs_does_not_agree(other):
    assert not agree({"y": X}, {"y": other})


def test_keys_may_come_in_any_order_and_lists_are_tuples():
    assert agree({"a": X, "b": [1, 2.5]}, {"b": (1, 2.5), "a": X})
    assert not agree([X, X], [X])


def test_what_is_not_a_number_is_known_by_it():
    odd = torch.tensor([math.nan, math.inf, -math.inf, 1.0], dtype=torch.float64)
    assert agree(odd, odd.clone())
    assert not agree(odd, odd.nan_to_num(nan=0.0))
    assert not agree(odd, torch.tensor([math.nan, -math.inf, -math.inf, 1.0], dtype=torch.float64))


def test_integers_and_booleans_are_exact():
    whole = torch.tensor([2**53, 2**53 + 1])
    assert agree(whole, whole.clone())
    assert not agree(whole, whole.flip(0))
    assert agree(3, 3.0)
    assert not agree(3, 4)
    assert not agree(True, 1)


def test_a_case_may_loosen_what_counts_as_rounding():
    assert not agree(X, X * (1 + 1e-7))
    assert agree(X, X * (1 + 1e-7), loosen=1000.0)
    assert agree(X.float(), X.float() * (1 + 1e-5), torch.float32)


def test_what_can_be_compared_with_nothing_has_no_fingerprint():
    assert fingerprint(decode(encode({"y": object()})), torch.float64) is None
