"""How far every case keeps right from wrong: the reference's own error, the bound, the nearest
mistake, and the margin between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from autograder.engine.codec import DTYPES, Array
from autograder.engine.fingerprint import Vector
from autograder.engine.observation import Setting
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.standards import Standards
from autograder.engine.tolerance import bound
from autograder.lesson import Lesson
from autograder.spec import Case, Exercise

THIN = 10.0


@dataclass
class Numbers:
    """One case in one dtype on the CPU.

    Attributes:
        own_error: the largest difference between the reference in this dtype and the truth.
        bound: the largest difference that is tolerated there.
        nearest: of the mistakes that this case catches by its values, the one that comes closest;
            empty where none is caught so.
        nearest_error: by how much that one is off, where it is furthest beyond the bound.
        margin: that error in bounds; infinite where nothing is caught by values alone.
        thin: mistakes that no case keeps further away than this one, which is not far enough.
    """

    lesson: str
    exercise: str
    case: str
    dtype: str
    own_error: float
    bound: float
    nearest: str
    nearest_error: float
    margin: float
    thin: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: there is no infinity there."""
        return {**asdict(self), "margin": self.margin if math.isfinite(self.margin) else None}


@dataclass
class _Distance:
    mistake: str
    bounds: float  # infinite where more than values differ
    error: float


def numbers_of(
    lesson: Lesson, seed: int, only: str | None = None, outcomes: Outcomes = ALONE
) -> Iterator[Numbers]:
    """Every case of a lesson, exercise by exercise.

    Args:
        lesson: with a reference and a grader.
        seed: of the hidden inputs.
        only: one exercise's name, or None for all.
        outcomes: of our own code, shared with who else wants them.
    """
    standards = Standards(lesson, seed, outcomes)
    for name, exercise in lesson.exercises.items():
        if only in (None, name):
            yield from _of_exercise(standards, exercise)


def _of_exercise(standards: Standards, exercise: Exercise) -> Iterator[Numbers]:
    rows: list[tuple[Numbers, list[_Distance]]] = []
    for case in exercise.cases:
        for dtype in case.dtypes:
            setting = Setting(dtype)
            rows.append(_of_case(standards, exercise, case, setting))
    widest = {m.name: 0.0 for m in exercise.mistakes}
    for _, distances in rows:
        for distance in distances:
            widest[distance.mistake] = max(widest[distance.mistake], distance.bounds)
    for numbers, distances in rows:
        numbers.thin = [
            d.mistake for d in distances if 1.0 < d.bounds < THIN and d.bounds == widest[d.mistake]
        ]
        yield numbers


def _of_case(
    standards: Standards, exercise: Exercise, case: Case, setting: Setting
) -> tuple[Numbers, list[_Distance]]:
    standard = standards.standard(exercise, case, setting)
    own = standards.reference(exercise, case, setting)
    truth, allowed = _flat(standard.truth, standard.own, setting.dtype, case.loosen)
    laid = own.fingerprint(setting.dtype, case.loosen)
    distances = []
    for mistake in exercise.mistakes:
        made = standards.mistake(exercise, mistake, case, setting)
        same = made.status == "returned" and made.changed == own.changed
        theirs = made.fingerprint(setting.dtype, case.loosen) if same else None
        if laid is None or theirs is None or theirs.form != laid.form:
            distances.append(_Distance(mistake.name, math.inf, math.nan))
        else:
            distances.append(_distance(mistake.name, theirs.values, truth, allowed))
    caught = [d for d in distances if 1.0 < d.bounds < math.inf]
    nearest = min(caught, key=lambda d: d.bounds, default=_Distance("", math.inf, math.nan))
    numbers = Numbers(
        standards.lesson.key,
        exercise.name,
        case.title,
        str(setting.dtype).removeprefix("torch."),
        _largest(_apart(laid.values, truth)) if laid is not None else 0.0,
        _largest(allowed),
        nearest.mistake,
        nearest.error,
        nearest.bounds,
        [],
    )
    return numbers, distances


def _distance(name: str, values: Vector, truth: Vector, allowed: Vector) -> _Distance:
    error = _apart(values, truth)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        bounds = np.where(error == 0, 0.0, error / allowed)
    if not bounds.size:
        return _Distance(name, 0.0, 0.0)
    bounds = np.where(np.isnan(bounds), np.inf, bounds)
    worst = int(bounds.argmax())
    return _Distance(name, float(bounds[worst]), float(error[worst]))


def _apart(values: Vector, truth: Vector) -> Vector:
    """Distances, of which those of equal infinities are none."""
    with np.errstate(invalid="ignore"):
        error: Vector = np.abs(values - truth)
    error[values == truth] = 0.0
    return error


def _flat(truth: Any, own: Any, dtype: torch.dtype, loosen: float) -> tuple[Vector, Vector]:
    """The truth's floating-point numbers and their bounds, in a fingerprint's order."""
    parts = list(_leaves(truth, own, dtype, loosen))
    empty = np.empty(0)
    return (
        np.concatenate([empty, *(values for values, _ in parts)]),
        np.concatenate([empty, *(allowed for _, allowed in parts)]),
    )


def _leaves(
    truth: Any, own: Any, dtype: torch.dtype, loosen: float
) -> Iterator[tuple[Vector, Vector]]:
    if isinstance(own, dict):
        for key in sorted(own):
            yield from _leaves(truth[key], own[key], dtype, loosen)
    elif isinstance(own, list | tuple):
        for one, other in zip(truth, own, strict=True):
            yield from _leaves(one, other, dtype, loosen)
    elif isinstance(own, Array):
        if own.data is not None and DTYPES[own.dtype].is_floating_point:
            exact = truth.data.to(torch.float64)
            allowed = bound(exact, own.data, dtype, loosen)
            yield exact.reshape(-1).numpy(), allowed.reshape(-1).numpy()
    elif isinstance(own, float):
        exact = torch.tensor([float(truth)], dtype=torch.float64)
        value = torch.tensor([own], dtype=torch.float64)
        yield exact.numpy(), bound(exact, value, dtype, loosen).numpy()
    elif isinstance(own, int) and not isinstance(own, bool):
        yield np.array([float(own)]), np.zeros(1)


def _largest(values: Vector) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0
