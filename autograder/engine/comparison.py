"""A student's outcome against the reference's: structure, shape, dtype, device, then values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from autograder.engine.codec import DTYPES, Array, Opaque
from autograder.engine.tolerance import bound, rounding

ANYTHING = object()  # in a standard: a place where any value will do


@dataclass(frozen=True)
class Mismatch:
    """The first way in which an outcome differs.

    Attributes:
        kind: "missing", "type", "shape", "dtype", "device", "nan", "value", "rounded" (a value that
            is right as far as float32 goes, judged in float64), "fact" or "changed".
        message: for the student; no expected value and no input is in it.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Standard:
    """What an outcome is held against.

    Attributes:
        truth: the reference's outcome in float64 on the CPU.
        own: the reference's outcome in the dtype and on the device judged.
        dtype: the floating dtype judged.
        loosen: the case's factor on the tolerance.
    """

    truth: Any
    own: Any
    dtype: torch.dtype
    loosen: float = 1.0
    _bounds: dict[tuple[int, int], torch.Tensor] = field(
        default_factory=dict, repr=False, compare=False
    )

    def bound(self, truth: torch.Tensor | float, own: torch.Tensor | float) -> torch.Tensor:
        """The tolerated distance from a leaf of the truth; the same for every submission."""
        key = id(truth), id(own)  # both are kept alive by this standard
        if key not in self._bounds:
            exact = torch.as_tensor(truth, dtype=torch.float64)
            self._bounds[key] = bound(exact, torch.as_tensor(own), self.dtype, self.loosen)
        return self._bounds[key]


class Coarse(Standard):
    """The same, for what a constant in float32 leaves of a result in float64."""

    def bound(self, truth: torch.Tensor | float, own: torch.Tensor | float) -> torch.Tensor:  # noqa: ARG002
        """What one rounding to float32 may do to a leaf of the truth."""
        return rounding(torch.as_tensor(truth, dtype=torch.float64))


def compare(outcome: Any, standard: Standard) -> Mismatch | None:
    """Find the first difference, along the reference's structure.

    Args:
        outcome: as decoded from the worker; in it, lists and tuples are interchangeable and keys
            that the reference does not have are ignored.
        standard: the reference's side.

    Returns:
        None where the outcome is right.
    """
    return _compare(outcome, standard.truth, standard.own, standard, "the result")


def _compare(outcome: Any, truth: Any, own: Any, standard: Standard, where: str) -> Mismatch | None:
    if own is ANYTHING:
        return None
    if isinstance(own, dict):
        return _compare_dict(outcome, truth, own, standard, where)
    if isinstance(own, list | tuple):
        return _compare_sequence(outcome, truth, own, standard, where)
    if isinstance(own, Array):
        return _compare_array(outcome, truth, own, standard, where)
    if own is None:
        if outcome is None:
            return None
        return Mismatch("type", f"{where} should be None, but is {kind_of(outcome)}.")
    if isinstance(own, bool):
        return _compare_bool(outcome, own, where)
    if isinstance(own, int):
        value = _scalar(outcome)
        if value is None or not math.isfinite(value) or value != int(value):
            return Mismatch("type", f"{where} should be an int, but is {kind_of(outcome)}.")
        return None if int(value) == own else Mismatch("value", f"{where} is not the right number.")
    if isinstance(own, float):
        return _compare_float(outcome, truth, own, standard, where)
    if isinstance(own, str):
        return _compare_text(outcome, own, where)
    raise TypeError(f"the reference's outcome holds {own!r}, which cannot be compared")


def _compare_dict(
    outcome: Any, truth: Any, own: dict[str, Any], standard: Standard, where: str
) -> Mismatch | None:
    if not isinstance(outcome, dict):
        return Mismatch("type", f"{where} should be a dict, but is {kind_of(outcome)}.")
    for key, value in own.items():
        name = key if where == "the result" else f"{where}, {key}"
        if key not in outcome:
            return Mismatch("missing", f"{name} is missing from {where}.")
        found = _compare(outcome[key], truth[key], value, standard, name)
        if found:
            return found
    return None


def _compare_sequence(
    outcome: Any, truth: Any, own: Any, standard: Standard, where: str
) -> Mismatch | None:
    if not isinstance(outcome, list | tuple):
        return Mismatch(
            "type", f"{where} should be {len(own)} values in a tuple, but is {kind_of(outcome)}."
        )
    if len(outcome) != len(own):
        return Mismatch("shape", f"{where} should have {len(own)} entries, but has {len(outcome)}.")
    for i, value in enumerate(own):
        name = f"entry {i} of {where}"
        found = _compare(outcome[i], truth[i], value, standard, name)
        if found:
            return found
    return None


def _compare_array(
    outcome: Any, truth: Any, own: Array, standard: Standard, where: str
) -> Mismatch | None:
    if not isinstance(outcome, Array):
        return Mismatch("type", f"{where} should be a tensor, but is {kind_of(outcome)}.")
    if outcome.shape != own.shape:
        return Mismatch(
            "shape", f"{where} should have shape {own.shape}, but has shape {outcome.shape}."
        )
    if outcome.dtype != own.dtype:
        return Mismatch(
            "dtype", f"{where} should have dtype {own.dtype}, but has dtype {outcome.dtype}."
        )
    if outcome.device != own.device:
        return Mismatch(
            "device",
            f"{where} should be on the device of the inputs, but is on {_device(outcome)}.",
        )
    if own.data is None or outcome.data is None:
        return None
    expected = truth.data if isinstance(truth, Array) and truth.data is not None else own.data
    if not DTYPES[own.dtype].is_floating_point:
        return _exact(outcome.data, own.data, where)
    return _close(outcome.data, expected, own.data, standard, where)


def _exact(outcome: torch.Tensor, own: torch.Tensor, where: str) -> Mismatch | None:
    wrong = outcome != own
    return _value_mismatch(wrong, None, where) if wrong.any() else None


def _close(
    outcome: torch.Tensor, truth: torch.Tensor, own: torch.Tensor, standard: Standard, where: str
) -> Mismatch | None:
    found, allowed = outcome.to(torch.float64), standard.bound(truth, own)
    truth = truth.to(torch.float64)
    distance = (found - truth).abs()
    if (distance <= allowed).all():
        return None
    nan = found.isnan() & (allowed.isfinite() | truth.isnan())
    if nan.any():
        return Mismatch("nan", f"{where} holds NaN in {int(nan.sum())} of {found.numel()} places.")
    distance = distance.masked_fill(found == truth, 0.0)  # equal infinities
    wrong = ~(distance <= allowed) & ~allowed.isposinf()
    return _value_mismatch(wrong, distance, where) if wrong.any() else None


def _value_mismatch(wrong: torch.Tensor, distance: torch.Tensor | None, where: str) -> Mismatch:
    count, total = int(wrong.sum()), wrong.numel()
    index = tuple(int(i) for i in wrong.nonzero()[0])
    at = f"first at index {index}" if index else "its only value"
    far = ""
    if distance is not None:
        worst = float(distance[wrong].max())
        far = f", by up to {worst:.2g}" if math.isfinite(worst) else ", by infinitely much"
    return Mismatch("value", f"{where} differs in {count} of {total} values ({at}{far}).")


def _compare_bool(outcome: Any, own: bool, where: str) -> Mismatch | None:
    value = outcome if isinstance(outcome, bool) else _scalar(outcome)
    if isinstance(outcome, Array) and outcome.dtype != "bool":
        value = None
    if value is None:
        return Mismatch("type", f"{where}: should be True or False, but is {kind_of(outcome)}.")
    if bool(value) == own:
        return None
    return Mismatch("fact", f"{where}: this should be {own}, but is {not own}.")


def _compare_float(
    outcome: Any, truth: Any, own: float, standard: Standard, where: str
) -> Mismatch | None:
    value = _scalar(outcome)
    if value is None:
        return Mismatch("type", f"{where} should be a number, but is {kind_of(outcome)}.")
    if math.isnan(value):
        return Mismatch("nan", f"{where} is NaN.")
    if value == float(truth) or abs(value - float(truth)) <= float(standard.bound(truth, own)):
        return None
    return Mismatch("value", f"{where} is off by {abs(value - float(truth)):.2g}.")


def _compare_text(outcome: Any, own: str, where: str) -> Mismatch | None:
    if outcome == own:
        return None
    if isinstance(outcome, str):
        return Mismatch("fact", f"{where}: this should be “{own}”, but is “{outcome[:200]}”.")
    return Mismatch("type", f"{where} should be text, but is {kind_of(outcome)}.")


def _scalar(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, Array) and value.data is not None and value.data.numel() == 1:
        return value.data.item() if not value.data.is_complex() and value.shape == () else None
    return None


def kind_of(value: Any) -> str:
    """What a value is, in a student's words."""
    if value is None:
        return "None (is a return missing?)"
    if isinstance(value, Array):
        return f"a tensor of shape {value.shape}"
    if isinstance(value, Opaque):
        return f"a {value.kind}" if not value.kind.startswith("a ") else value.kind
    if isinstance(value, dict):
        return "a dict"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} values"
    return f"a {type(value).__name__}"


def _device(array: Array) -> str:
    device = array.device.removeprefix("fake ")
    return "the CPU" if device == "cpu" else device
