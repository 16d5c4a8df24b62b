"""What in a class's work asks for a person, the gravest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autograder.report.figures import ExerciseFigures, Student, TestFigures


@dataclass(frozen=True)
class Concern:
    """One thing to look at.

    Attributes:
        title: what it is, with its number.
        advice: what to do about it.
        target: the anchor of the section that shows it.
    """

    title: str
    advice: str
    target: str


def concerns_of(
    students: Sequence[Student],
    exercises: Sequence[ExerciseFigures],
    tests: Sequence[TestFigures],
    waiting: Sequence[str],
) -> list[Concern]:
    """Everything that should not wait; empty where nothing does."""
    found = []
    broken = [t for t in tests if t.broken]
    if broken:
        found.append(
            Concern(
                f"{_count(len(broken), 'hidden test')} failed by an error of the grader's own",
                "No answer earned points there. Mend the grader, then grade again.",
                "everyone-fails",
            )
        )
    hopeless = [t for t in tests if t.everyone_fails and not t.broken]
    if hopeless:
        found.append(
            Concern(
                f"{_count(len(hopeless), 'hidden test')} that nobody passes",
                "Suspect the grader first, the wording of the exercise next.",
                "everyone-fails",
            )
        )
    backwards = [e.key for e in exercises if e.discrimination is not None and e.discrimination < 0]
    if backwards:
        found.append(
            Concern(
                f"{', '.join(backwards)}: better students do worse",
                "The exercise correlates negatively with the rest of the score: read it again.",
                "exercises",
            )
        )
    unread = [s for s in students if s.failures]
    if unread:
        found.append(
            Concern(
                f"{_count(len(unread), 'student')} with a notebook that could not be graded",
                "Ask for the file again, or grade it by hand.",
                "failures",
            )
        )
    moves = [moved.move for s in students for moved in s.moves]
    chance = [move for move in moves if move.by_chance]
    if chance:
        found.append(
            Concern(
                f"{_count(len(chance), 'grade')} moved though nothing had changed",
                "A hidden test, or an answer, depends on chance: see which exercises moved.",
                "moved",
            )
        )
    elsewise = [move for move in moves if not move.by_chance and not move.by_the_student]
    if elsewise:
        found.append(
            Concern(
                f"{_count(len(elsewise), 'grade')} moved when graded again",
                "The same file earned other points: release the feedback again to these students.",
                "moved",
            )
        )
    flagged = [s for s in students if s.flags]
    if flagged:
        found.append(
            Concern(
                f"{_count(len(flagged), 'student')} flagged for a person",
                "Names that the exercise asks not to use earned nothing; whether more is behind "
                "them is yours to say.",
                "flags",
            )
        )
    if waiting:
        found.append(
            Concern(
                f"{_count(len(waiting), 'submission')} not graded yet",
                "Run forwardpass grade, then this report again.",
                "absent",
            )
        )
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
