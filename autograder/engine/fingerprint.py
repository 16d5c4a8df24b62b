"""An outcome laid flat, so that two of them are compared in microseconds.

Recognition holds one wrong answer against every known mistake on every case; along the nested
structure that would take longer than all the rest of grading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autograder.engine.codec import DTYPES, Array
from autograder.engine.tolerance import FLOORS

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Fingerprint:
    """What of an outcome must be equal, and what may differ by rounding.

    Attributes:
        form: its structure with everything exact in it: keys, kinds, shapes, texts, integers.
        values: its floating-point numbers; float64.
        allowed: how far another outcome's numbers may be from each of them.
    """

    form: tuple[Any, ...]
    values: Vector
    allowed: Vector

    def agrees(self, other: Fingerprint) -> bool:
        """Whether two outcomes are the same but for rounding; NaN is equal to NaN."""
        if self.form != other.form:
            return False
        with np.errstate(invalid="ignore"):
            near = np.abs(self.values - other.values) <= np.minimum(self.allowed, other.allowed)
        if near.all():
            return True
        both = np.isnan(self.values) & np.isnan(other.values)
        return bool((near | both | (self.values == other.values)).all())


def fingerprint(outcome: Any, dtype: torch.dtype, loosen: float = 1.0) -> Fingerprint | None:
    """Lay an outcome flat.

    Args:
        outcome: as decoded.
        dtype: the floating dtype judged.
        loosen: the case's factor on the tolerance.

    Returns:
        None where something in it can be compared with nothing.
    """
    values: list[Vector] = []
    allowed: list[Vector] = []
    floors = tuple(loosen * floor for floor in FLOORS.get(dtype, FLOORS[torch.float32]))
    try:
        form = _form(outcome, values, allowed, floors)
    except TypeError:
        return None
    empty = np.empty(0)
    return Fingerprint(form, np.concatenate([empty, *values]), np.concatenate([empty, *allowed]))


def _form(
    tree: Any, values: list[Vector], allowed: list[Vector], floors: tuple[float, ...]
) -> tuple[Any, ...]:
    if isinstance(tree, dict):
        parts = [(key, _form(tree[key], values, allowed, floors)) for key in sorted(tree)]
        return ("dict", *parts)
    if isinstance(tree, list | tuple):
        return ("sequence", *(_form(part, values, allowed, floors) for part in tree))
    if isinstance(tree, Array):
        return _array_form(tree, values, allowed, floors)
    if tree is None or isinstance(tree, bool | str):
        return (type(tree).__name__, tree)
    if isinstance(tree, int | float):
        number = np.array([float(tree)])
        values.append(number)
        allowed.append(_allowed(number, floors) if isinstance(tree, float) else np.zeros(1))
        return ("number",)
    raise TypeError(f"{tree!r} cannot be compared")


def _array_form(
    array: Array, values: list[Vector], allowed: list[Vector], floors: tuple[float, ...]
) -> tuple[Any, ...]:
    form = ("tensor", array.dtype, tuple(array.shape), array.device)
    if array.data is None:
        return form
    if not DTYPES[array.dtype].is_floating_point:
        return (*form, array.data.contiguous().numpy().tobytes())
    flat = array.data.to(torch.float64).reshape(-1).numpy()
    values.append(flat)
    allowed.append(_allowed(flat, floors))
    return form


def _allowed(values: Vector, floors: tuple[float, ...]) -> Vector:
    relative, scaled, absolute = floors
    magnitude = np.abs(values)
    magnitude[~np.isfinite(magnitude)] = 0.0
    largest = magnitude.max() if magnitude.size else 0.0
    found: Vector = relative * magnitude + (scaled * largest + absolute)
    return found
