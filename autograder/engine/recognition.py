"""Which misconception an answer shows: a known mistake that reproduces it, or a general slip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autograder.engine.codec import DTYPES, Array
from autograder.engine.comparison import Mismatch
from autograder.engine.standards import Observation, Setting, Standards
from autograder.spec import Case, Exercise, Mistake


@dataclass(frozen=True)
class Record:
    """One judged run of a student's answer."""

    case: Case
    setting: Setting
    seen: Observation
    mismatch: Mismatch | None


@dataclass(frozen=True)
class Recognition:
    """A mistake's name and hint."""

    name: str
    hint: str


def recognise(
    exercise: Exercise, records: Sequence[Record], standards: Standards
) -> Recognition | None:
    """Name the misconception behind a failing answer, if exactly one explains it.

    Of the mistakes that reproduce every wrong run, the one that also reproduces most of the right
    ones; else the one that reproduces most of the wrong runs; else a slip that any exercise knows.
    """
    failing = [r for r in records if r.mismatch is not None]
    if not failing:
        return None
    passing = [r for r in records if r.mismatch is None]

    def hits(mistake: Mistake, among: Sequence[Record]) -> Iterator[bool]:
        return (_reproduces(exercise, mistake, record, standards) for record in among)

    whole = [m for m in exercise.mistakes if all(hits(m, failing))]
    name = _best({m.name: sum(hits(m, passing)) + 1 for m in whole})
    if name is None and not whole:
        telling = [r for r in failing if r.seen.status in ("returned", "unobservable")]
        counts = {m.name: sum(hits(m, telling)) for m in exercise.mistakes}
        name = _best({n: c for n, c in counts.items() if 2 * c >= len(failing)})
    if name is not None:
        mistake = next(m for m in exercise.mistakes if m.name == name)
        return Recognition(mistake.name, mistake.hint)
    return _general_slip(exercise, failing, standards)


def _reproduces(exercise: Exercise, mistake: Mistake, record: Record, standards: Standards) -> bool:
    made = standards.mistake(exercise, mistake, record.case, record.setting)
    seen = record.seen
    if made.status != seen.status or seen.status in ("died", "undefined"):
        return False
    if seen.status in ("raised", "unobservable"):
        return bool(made.error.get("type") == seen.error.get("type"))
    if made.status == "unjudged":
        return True
    return _same(seen, made, record) and sorted(made.changed) == sorted(seen.changed)


def _same(one: Observation, other: Observation, record: Record) -> bool:
    """Whether two outcomes on the same case are equal but for rounding."""
    dtype, loosen = record.setting.dtype, record.case.loosen
    mine, theirs = one.fingerprint(dtype, loosen), other.fingerprint(dtype, loosen)
    return mine is not None and theirs is not None and mine.agrees(theirs)


def _best(counts: dict[str, int]) -> str | None:
    if not counts or max(counts.values()) == 0:
        return None
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    return names[0] if len(names) == 1 else None


def _general_slip(
    exercise: Exercise, failing: Sequence[Record], standards: Standards
) -> Recognition | None:
    """Slips that need no list: they show in how the outcome relates to the right one."""
    kinds = {r.mismatch.kind for r in failing if r.mismatch}
    if any(r.seen.error.get("type") == "NotImplementedError" for r in failing):
        return None
    if kinds == {"changed"}:
        return Recognition(
            "argument changed in place",
            "Your results are right, but an argument is changed on the way. Work on a new tensor: "
            "operators ending in _ and augmented assignments such as += write into the old one.",
        )
    if kinds == {"dtype"}:
        return Recognition(
            "dtype not kept",
            "Your results have another dtype than they should. Constants and new tensors take "
            "theirs from the inputs: zeros_like, new_zeros, or dtype=x.dtype.",
        )
    if all(r.setting.device != "cpu" for r in failing):
        return Recognition(
            "device not kept",
            "Right on the CPU, but not where the inputs are on another device. Make new tensors "
            "where the inputs are: zeros_like, new_zeros, or device=x.device.",
        )
    relations = [
        _relation(r.seen.outcome, standards.standard(exercise, r.case, r.setting).own)
        if r.seen.status == "returned" and r.setting.device == "cpu"
        else "nothing returned"
        if "NoneType" in str(r.seen.error.get("message"))
        else None
        for r in failing
    ]
    (name,) = set(relations) if len(set(relations)) == 1 else (None,)
    return Recognition(name, _RELATIONS[name]) if name else None


_RELATIONS = {
    "nothing returned": "Your function returns None: the last line may lack its return.",
    "opposite sign": "Your result is right but for its sign: look for a minus too many or too few.",
    "off by a constant factor": "Your result is the right one times a constant. Look for a factor "
    "left out or put in twice, or for a sum where a mean belongs.",
    "off by a constant": "Your result is the right one plus a constant. Look for a term left out.",
    "transposed": "Your result is the transpose of the right one.",
    "outputs in another order": "The values are right, but they are returned in another order.",
}


def _relation(outcome: Any, right: Any) -> str | None:
    found, expected = _leaves(outcome), _leaves(right)
    if not expected:
        return None
    tensors = [leaf for leaf in found if isinstance(leaf, torch.Tensor)]
    if not tensors and any(leaf is None for leaf in found) and all(e is not None for e in expected):
        return "nothing returned"
    if len(tensors) != len(found) or len(found) != len(expected):
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
