"""Handwritten digits, 8×8 pixels, as shipped with scikit-learn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Inputs and labels, for training and held out."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def load_digits(*, flat: bool = True, held_out: int = 360, seed: int = 0) -> Split:
    """Load the 1,797 digits of Alpaydin and Kaynak (1998), UCI; shuffled, then split.

    Args:
        flat: images as (n, 64) where True, as (n, 1, 8, 8) where False.
        held_out: how many of the digits the test set holds.
        seed: of the shuffle.

    Returns:
        Images as float32 in [0, 1] and labels as int64 of shape (n,).

    Raises:
        ValueError: ``held_out`` leaves nothing to train on, or nothing to test on.
    """
    from sklearn.datasets import load_digits as digits  # takes a second: not before it is needed

    raw = digits()
    total = len(raw.target)
    if not 0 < held_out < total:
        raise ValueError(f"held_out must be between 1 and {total - 1}, but is {held_out}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    x = torch.tensor(raw.data, dtype=torch.float32)[order] / 16
    y = torch.tensor(raw.target, dtype=torch.int64)[order]
    if not flat:
        x = x.reshape(total, 1, 8, 8)
    return Split(x[held_out:], y[held_out:], x[:held_out], y[:held_out])
