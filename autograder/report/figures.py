"""The numbers of a class report: scores, exercises, mistakes, tests."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autograder.engine.verdict import ERROR, FAILED, PASSED, UNJUDGED, ExerciseResult
from autograder.gradebook.journal import Record
from autograder.gradebook.move import Move
from autograder.report.record import ClassRecord

BINS = 10
FEWEST = 3  # students, below which a correlation says nothing


@dataclass(frozen=True)
class Moved:
    """How the grade of one notebook moved.

    Attributes:
        lesson: without its chapter.
        move: scores before and after, and why.
        exercises: (key, score before, score after) of those that moved.
    """

    lesson: str
    move: Move
    exercises: tuple[tuple[str, float | None, float | None], ...]


@dataclass
class Student:
    """One student's row.

    Attributes:
        number: of the row's anchor.
        id: the student's id.
        name: as the gradebook has it, or empty.
        score: over all lessons of the assignment.
        max_score: likewise.
        results: exercise key to result; an exercise without one was not graded.
        failures: why a notebook could not be graded.
        cell_errors: cells of the student's own that stopped.
        gradebook_score: the gradebook's score where it differs from ours, or None.
        moves: (exercise key, or the lesson where all of it is meant; how it moved when it was
            graded again).
    """

    number: int
    id: str
    name: str
    score: float
    max_score: float
    results: dict[str, ExerciseResult]
    failures: list[str]
    cell_errors: list[str]
    gradebook_score: float | None = None
    moves: list[Moved] = field(default_factory=list)

    @property
    def graded(self) -> bool:
        return bool(self.results)

    @property
    def share(self) -> float:
        return self.score / self.max_score if self.max_score else 0.0

    @property
    def flags(self) -> list[tuple[str, str]]:
        """(exercise key, what a person should look at)."""
        return [(key, flag) for key, r in self.results.items() for flag in r.flags]

    @property
    def mistakes(self) -> list[tuple[str, str]]:
        """(exercise key, recognised mistake)."""
        return [(key, r.mistake) for key, r in self.results.items() if r.mistake]


@dataclass
class ExerciseFigures:
    """One exercise over the class.

    Attributes:
        difficulty: the mean share of its points; 1 is easiest.
        discrimination: the correlation of its share with the rest of the score, or None where
            that is not defined.
        full: students with all of its points.
        partial: with some.
        none: with none.
    """

    key: str
    max_score: float
    difficulty: float
    discrimination: float | None
    full: list[Student]
    partial: list[Student]
    none: list[Student]


@dataclass
class MistakeFigures:
    """One recognised mistake and who made it."""

    exercise: str
    name: str
    hint: str
    students: list[Student] = field(default_factory=list)


@dataclass
class TestFigures:
    """One hidden test over the class; each list holds students."""

    exercise: str
    name: str
    points: float
    passed: list[Student] = field(default_factory=list)
    failed: list[Student] = field(default_factory=list)
    unjudged: list[Student] = field(default_factory=list)
    broken: list[Student] = field(default_factory=list)

    @property
    def judged(self) -> int:
        return len(self.passed) + len(self.failed) + len(self.broken)

    @property
    def everyone_fails(self) -> bool:
        """Whether it is failed by everyone, and by enough to be worth a look."""
        return self.judged > 1 and not self.passed


@dataclass
class Bin:
    """Students whose score is in one tenth of the range; the last holds full marks, too."""

    low: int
    high: int
    students: list[Student] = field(default_factory=list)


def students_of(record: ClassRecord) -> list[Student]:
    """One row a student with a notebook, ordered by id."""
    worth = {e.lesson: e.verdict.max_score for e in record.entries if e.verdict}
    several = len({e.lesson for e in record.entries}) > 1
    enrolled = {one.student: one for one in record.enrolled or ()}
    by_id: dict[str, list[Record]] = {}
    for entry in record.entries:
        by_id.setdefault(entry.student, []).append(entry)
    rows = []
    for number, (student, entries) in enumerate(sorted(by_id.items()), start=1):
        verdicts = [e.verdict for e in entries if e.verdict]
        known = enrolled.get(student)
        score = sum(v.score for v in verdicts)
        elsewhere = known.score if known else None
        differs = elsewhere is not None and abs(elsewhere - score) > 1e-3
        rows.append(
            Student(
                number=number,
                id=student,
                name=known.name if known else "",
                score=score,
                max_score=sum(worth.values()),
                results={
                    exercise_key(v.lesson, r.name, several): r
                    for v in verdicts
                    for r in v.exercises
                },
                failures=[e.failure for e in entries if e.failure],
                cell_errors=[error for v in verdicts for error in v.cell_errors],
                gradebook_score=elsewhere if differs else None,
                moves=[_moved(e.lesson, e.moved, several) for e in entries if e.moved],
            )
        )
    return rows


def _moved(lesson: str, move: Move, several: bool) -> Moved:
    told = ((exercise_key(lesson, name, several), *both) for name, both in move.exercises.items())
    return Moved(lesson.rpartition("/")[2], move, tuple(told))


def exercise_key(lesson: str, exercise: str, several: bool) -> str:
    """An exercise's name, with its lesson's where the assignment has several lessons."""
    return f"{lesson.rpartition('/')[2]}: {exercise}" if several else exercise


def exercises_of(students: Sequence[Student]) -> list[ExerciseFigures]:
    """Every exercise in the graders' order."""
    figures = []
    for key in dict.fromkeys(key for student in students for key in student.results):
        took = [s for s in students if key in s.results]
        shares = {s.number: _share(s.results[key]) for s in took}
        rest = [s.score - s.results[key].score for s in took]
        figures.append(
            ExerciseFigures(
                key=key,
                max_score=took[0].results[key].max_score,
                difficulty=statistics.fmean(shares.values()),
                discrimination=correlation(list(shares.values()), rest),
                full=[s for s in took if shares[s.number] >= 1],
                partial=[s for s in took if 0 < shares[s.number] < 1],
                none=[s for s in took if shares[s.number] <= 0],
            )
        )
    return figures


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, or None where there are too few or one of them does not vary."""
    if len(a) < FEWEST or max(a) - min(a) < 1e-9 or max(b) - min(b) < 1e-9:
        return None
    return statistics.correlation(a, b)


def mistakes_of(students: Sequence[Student]) -> list[MistakeFigures]:
    """Every recognised mistake, the most frequent first."""
    found: dict[tuple[str, str], MistakeFigures] = {}
    for student in students:
        for exercise, name in student.mistakes:
            hint = student.results[exercise].hint
            one = found.setdefault((exercise, name), MistakeFigures(exercise, name, hint))
            one.students.append(student)
    return sorted(found.values(), key=lambda m: (-len(m.students), m.exercise, m.name))


def tests_of(students: Sequence[Student]) -> list[TestFigures]:
    """Every hidden test in the graders' order."""
    found: dict[tuple[str, str], TestFigures] = {}
    for student in students:
        for exercise, result in student.results.items():
            for test in result.tests:
                one = found.setdefault(
                    (exercise, test.name), TestFigures(exercise, test.name, test.max_points)
                )
                lists = {
                    PASSED: one.passed, FAILED: one.failed,
                    UNJUDGED: one.unjudged, ERROR: one.broken,
                }  # fmt: skip
                lists[test.outcome].append(student)
    order = {key: i for i, key in enumerate(dict.fromkeys(k for s in students for k in s.results))}
    return sorted(found.values(), key=lambda t: order[t.exercise])


def bins_of(students: Iterable[Student]) -> list[Bin]:
    """The distribution of scores over tenths of the points."""
    width = 100 // BINS
    bins = [Bin(i * width, (i + 1) * width) for i in range(BINS)]
    for student in students:
        # Points are rounded to four places, so a share may fall short of its tenth by as little.
        bins[min(BINS - 1, int(student.share * BINS + 1e-6))].students.append(student)
    return bins


def _share(result: ExerciseResult) -> float:
    return result.score / result.max_score if result.max_score else 0.0
