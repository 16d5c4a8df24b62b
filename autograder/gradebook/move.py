"""How a grade moved when a notebook was graded again, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from autograder.gradebook.key import SUBMISSION

if TYPE_CHECKING:
    from autograder.gradebook.journal import Record

LEAST = 1e-3  # points are rounded
CHANCE = "nothing changed: what judges it depends on chance"
UNKNOWN = "an earlier version of the engine judged it before"
CHANGED = {
    SUBMISSION: "another file was handed in",
    "hidden tests": "the hidden tests changed",
    "reference": "the reference changed",
    "lesson": "the lesson's notebook changed",
    "engine": "the engine changed",
}


@dataclass(frozen=True)
class Move:
    """The last time that a notebook's grade changed.

    Attributes:
        before: the score; None where the notebook could not be graded.
        after: likewise.
        exercises: those whose score changed, each with both scores; None where there was none.
        because: what the verdict depends on and was not as before.
        when: as ISO 8601, in UTC.
    """

    before: float | None
    after: float | None
    exercises: Mapping[str, tuple[float | None, float | None]]
    because: tuple[str, ...]
    when: str

    @property
    def by_chance(self) -> bool:
        """Whether nothing that the verdict depends on had changed."""
        return CHANCE in self.because

    @property
    def by_the_student(self) -> bool:
        """Whether another file was handed in."""
        return CHANGED[SUBMISSION] in self.because

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Move:
        """Rebuild a move that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the data are not one.
        """
        exercises = {name: (a, b) for name, (a, b) in data["exercises"].items()}
        told = {"exercises": exercises, "because": tuple(map(str, data["because"]))}
        return cls(**{**data, **told})


def move_of(earlier: Record, later: Record) -> Move | None:
    """What changed from one grading of a student's notebook to the next; None if no score did."""
    old, new = _scores(earlier), _scores(later)
    before, after = _total(earlier), _total(later)
    moved = {
        name: (old.get(name), new.get(name))
        for name in [*old, *(name for name in new if name not in old)]
        if _differ(old.get(name), new.get(name))
    }
    if not moved and not _differ(before, after):
        return None
    return Move(before, after, moved, reasons(earlier.basis, later.basis), now())


def now() -> str:
    """As ISO 8601, in UTC; such texts are ordered as the times are."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def reasons(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What of a verdict's basis was not as before."""
    if not before:
        return (UNKNOWN,)
    told = []
    for name in after:
        if before.get(name) != after[name]:
            told.append(CHANGED.get(name) or f"{name}: {before.get(name)}, now {after[name]}")
    return tuple(told) or (CHANCE,)


def _scores(record: Record) -> dict[str, float]:
    return {e.name: e.score for e in record.verdict.exercises} if record.verdict else {}


def _total(record: Record) -> float | None:
    return record.verdict.score if record.verdict else None


def _differ(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is not b
    return abs(a - b) > LEAST
