"""How the demo came out: each submission beside what was expected of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from autograder.demo.course import DemoCourse
from autograder.demo.submissions import Submission
from autograder.gradebook.journal import Record
from autograder.report.record import ClassRecord


@dataclass(frozen=True)
class Outcome:
    """One student's.

    Attributes:
        submission: what was handed in.
        entry: what grading found; None where the journal has nothing.
        gradebook: nbgrader's score, or None where it has none.
        surprises: where any of it differs from what was expected.
    """

    submission: Submission
    entry: Record | None
    gradebook: float | None
    surprises: tuple[str, ...]

    @property
    def recognised(self) -> list[tuple[str, str]]:
        """(exercise, mistake) for each mistake that was recognised."""
        if self.entry is None or self.entry.verdict is None:
            return []
        return [(one.name, one.mistake) for one in self.entry.verdict.exercises if one.mistake]


def outcomes_of(
    course: DemoCourse, submissions: list[Submission], record: ClassRecord
) -> list[Outcome]:
    """Compare what came out with what was expected, student by student."""
    entries = {entry.student: entry for entry in record.entries}
    scores = {one.student: one.score for one in record.enrolled or () if one.handed_in}
    found = []
    for submission in submissions:
        student = submission.student
        entry, score = entries.get(student), scores.get(student)
        told = _surprises(submission, entry, score)
        if not course.feedback(student).exists():
            told.append("no feedback page")
        found.append(Outcome(submission, entry, score, tuple(told)))
    return found


def absences_missed(record: ClassRecord, absent: tuple[str, ...]) -> list[str]:
    """Where the gradebook does not say that those who are absent handed in nothing."""
    missing = {one.student for one in record.enrolled or () if not one.handed_in}
    return [f"{student}: should be missing from the gradebook" for student in absent
            if student not in missing]  # fmt: skip


def recognised_in(outcomes: list[Outcome]) -> Counter[tuple[str, str]]:
    """(exercise, recognised mistake), counted."""
    return Counter(found for outcome in outcomes for found in outcome.recognised)


def _surprises(submission: Submission, entry: Record | None, score: float | None) -> list[str]:
    told = []
    if entry is None:
        told.append("not graded")
    elif submission.unreadable:
        if not entry.failure:
            told.append("graded, although it cannot be read")
    elif entry.verdict is None:
        told.append(f"not graded: {entry.failure}")
    else:
        told += submission.surprises(entry.verdict)
    earned = entry.verdict.score if entry and entry.verdict else 0.0
    if score is None:
        told.append("not in the gradebook")
    elif abs(score - earned) > 1e-3:
        told.append(f"{score:g} in the gradebook, {earned:g} in the journal")
    return told
