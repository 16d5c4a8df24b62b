"""Slips that need no list: they show in what an outcome has to do with the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autograder.engine.codec import DTYPES, Array, arrays_of
from autograder.engine.comparison import Mismatch
from autograder.engine.observation import Observation, Setting

ROUNDED = "float32 on the way"
SLIPS = {
    "argument changed in place": "Your results are right, but an argument is changed on the way. "
    "Work on a new tensor: operators ending in _ and augmented assignments such as += write into "
    "the old one.",
    "dtype not kept": "Your results have another dtype than they should. Constants and new "
    "tensors take theirs from the inputs: zeros_like, new_zeros, or dtype=x.dtype.",
    ROUNDED: "Your results are right, but in float64 only as exact as float32: a number on the way "
    "is float32 whatever comes in, such as torch.tensor(0.1), torch.zeros(3) or .float(). Plain "
    "Python numbers keep all digits, and new tensors take dtype=x.dtype.",
    "tensor made on the CPU": "Right on the CPU, but on a GPU your inputs meet a tensor that was "
    "made on the CPU. Make new tensors where the inputs are (zeros_like, new_zeros, "
    "device=x.device), and keep a module's own tensors as parameters or with register_buffer, so "
    "that they move with it.",
    "result left on the CPU": "Right on the CPU, but where the inputs are on a GPU your result is "
    "still on the CPU. Make the tensor that you fill where the inputs are: zeros_like, new_zeros, "
    "or device=x.device.",
    "device hard-coded": "Your code names a device itself. Code that takes its device from its "
    "inputs (device=x.device) runs on every one.",
    "NumPy in the middle": "Right on the CPU, but NumPy cannot see a tensor that is on a GPU. Stay "
    "in PyTorch: it has the same operations, and they keep gradients too.",
    "random numbers from another device": "Right on the CPU, but your random numbers come from a "
    "generator on another device than the tensor that they fill. Make the generator where the "
    "inputs are, or do without one.",
    "device not kept": "Right on the CPU, but not where the inputs are on another device. Make new "
    "tensors where the inputs are: zeros_like, new_zeros, or device=x.device.",
    "nothing returned": "Your function returns None: the last line may lack its return.",
    "opposite sign": "Your result is right but for its sign: look for a minus too many or too few.",
    "off by a constant factor": "Your result is the right one times a constant. Look for a factor "
    "left out or put in twice, or for a sum where a mean belongs.",
    "off by a constant": "Your result is the right one plus a constant. Look for a term left out.",
    "transposed": "Your result is the transpose of the right one.",
    "outputs in another order": "The values are right, but they are returned in another order.",
}


@dataclass(frozen=True)
class Failure:
    """One run that went wrong.

    Attributes:
        right: the reference's outcome in the same setting.
    """

    setting: Setting
    seen: Observation
    mismatch: Mismatch | None
    right: Any


def slip_of(failing: Sequence[Failure]) -> str | None:
    """The one slip that explains every failing run; a key of SLIPS, or None."""
    if any(f.seen.error.get("type") == "NotImplementedError" for f in failing):
        return None
    if all(_names_cuda(failure) for failure in failing):
        return "device hard-coded"
    kinds = {f.mismatch.kind for f in failing if f.mismatch}
    if kinds == {"changed"}:
        return "argument changed in place"
    if kinds == {"rounded"}:
        return ROUNDED
    if "dtype" in kinds and kinds <= {"dtype", "device"}:
        return "dtype not kept"
    slip = _device_slip if all(f.setting.device != "cpu" for f in failing) else _value_slip
    names = {slip(failure) for failure in failing}
    if len(names) == 1:
        return names.pop()
    return "device not kept" if slip is _device_slip else None


def _told(failure: Failure) -> str:
    """What the student's error said, in lower case."""
    return str(failure.seen.error.get("message", "")).lower()


def _names_cuda(failure: Failure) -> bool:
    """Whether it stopped for want of a GPU that nobody but the code itself asked for."""
    told = _told(failure)
    return failure.setting.device != "cuda" and ("nvidia driver" in told or "cuda" in told)


def _device_slip(failure: Failure) -> str:
    if failure.seen.status == "returned":
        devices = {leaf.device for leaf in arrays_of(failure.seen.outcome)}
        if "fake cuda" in devices:
            return "device hard-coded"
        left = not devices.isdisjoint(("cpu", "fake cpu"))
        return "result left on the CPU" if left else "device not kept"
    told = _told(failure)
    return next((name for words, name in _TELLING.items() if words in told), "device not kept")


_TELLING = {  # words of PyTorch's messages; the first that occur tell
    "numpy": "NumPy in the middle",
    "generator": "random numbers from another device",
    "cuda": "device hard-coded",
    "same device": "tensor made on the CPU",
}


def _value_slip(failure: Failure) -> str | None:
    if failure.setting.device != "cpu":
        return None
    if failure.seen.status == "returned":
        return _relation(failure.seen.outcome, failure.right)
    # Where the student's own lines stopped at a None, it was another one.
    returned_none = "NoneType" in str(failure.seen.error.get("message"))
    return "nothing returned" if returned_none and not failure.seen.error.get("frames") else None


def _relation(outcome: Any, right: Any) -> str | None:
    found, expected = _leaves(outcome), _leaves(right)
    if not expected:
        return None
    tensors = [leaf for leaf in found if isinstance(leaf, torch.Tensor)]
    if not tensors and any(leaf is None for leaf in found) and all(e is not None for e in expected):
        return "nothing returned"
    if len(tensors) != len(found) or len(found) != len(expected):
        return None
    if not all(isinstance(leaf, torch.Tensor) for leaf in expected):
        return None
    pairs = list(zip(found, expected, strict=True))
    if all(_near(a, b) for a, b in pairs):
        return None
    if sorted(a.shape for a in found) == sorted(b.shape for b in expected) and len(found) > 1:
        left = list(expected)
        for a in found:
            hit = next((i for i, b in enumerate(left) if _near(a, b)), None)
            if hit is None:
                break
            left.pop(hit)
        if not left:
            return "outputs in another order"
    wrong = [(a, b) for a, b in pairs if not _near(a, b)]
    if all(_near(-a, b) for a, b in wrong):
        return "opposite sign"
    if all(a.ndim == 2 and _near(a.T, b) for a, b in wrong):
        return "transposed"
    if all(_proportional(a, b) for a, b in wrong):
        return "off by a constant factor"
    if all(a.numel() > 1 and a.shape == b.shape and _constant(a - b) for a, b in wrong):
        return "off by a constant"
    return None


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in _leaves(value)]
    if isinstance(tree, Array):
        real = tree.data is not None and not DTYPES[tree.dtype].is_complex
        return [tree.data.to(torch.float64)] if real and tree.data is not None else ["other"]
    if isinstance(tree, float) and not isinstance(tree, bool):
        return [torch.tensor(tree, dtype=torch.float64)]
    return [tree]


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-5, atol=1e-8))


def _proportional(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or not (b.abs() > 1e-12).any() or a.numel() < 2:
        return False
    place = b.abs().argmax()
    factor = a.flatten()[place] / b.flatten()[place]
    return bool(factor != 0) and _near(a, factor * b)


def _constant(difference: torch.Tensor) -> bool:
    return _near(difference, difference.flatten()[0].expand_as(difference))
