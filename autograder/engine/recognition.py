"""Which misconception an answer shows: a known mistake that reproduces it, or a general slip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autograder.engine.comparison import Mismatch
from autograder.engine.observation import Observation, Setting
from autograder.engine.slips import SLIPS, Failure, slip_of
from autograder.engine.standards import Standards
from autograder.spec import Case, Exercise, Mistake

# Who complains of a shape, and how, depends on who is called: in a worker an earlier lesson's
# oracle stands where our own run has its reference.
SHAPES = {"AssertionError", "RuntimeError"}


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
    failures = []
    for r in failing:
        right = standards.standard(exercise, r.case, r.setting).own
        failures.append(Failure(r.setting, r.seen, r.mismatch, right))
    slip = slip_of(failures)
    return Recognition(slip, SLIPS[slip]) if slip else None


def _reproduces(exercise: Exercise, mistake: Mistake, record: Record, standards: Standards) -> bool:
    made = standards.mistake(exercise, mistake, record.case, record.setting)
    seen = record.seen
    if made.status != seen.status or seen.status in ("died", "undefined"):
        return False
    if seen.status in ("raised", "unobservable"):
        types = {made.error.get("type"), seen.error.get("type")}
        return len(types) == 1 or (types == SHAPES and bool(standards.lesson.earlier))
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
