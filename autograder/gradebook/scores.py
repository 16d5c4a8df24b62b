"""What nbgrader's gradebook says of one student's submission."""

from __future__ import annotations

from datetime import datetime

from nbgrader.api import (
    Grade,
    Gradebook,
    MissingEntry,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory
from sqlalchemy import func
from sqlalchemy.orm import load_only


def _duedate(submission: SubmittedAssignment) -> datetime | None:
    due: datetime | None = submission.assignment.duedate
    return due if due is None or submission.extension is None else due + submission.extension


# nbgrader's own cannot add an extension to no due date, and would not enter the student's grades.
SubmittedAssignment.duedate = property(_duedate)


def scored(coursedir: CourseDirectory) -> dict[str, float]:
    """Whose every exercise has a score from autograding, with how many seconds late they count.

    An extension changes that; all are asked for at once, as an unchanged class asks of everybody.
    """
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        submissions = (
            gradebook.db.query(SubmittedAssignment)
            .options(
                load_only(
                    SubmittedAssignment.student_id,
                    SubmittedAssignment.timestamp,
                    SubmittedAssignment.extension,
                )
            )
            .filter(SubmittedAssignment.assignment.has(name=coursedir.assignment_id))
        )
        whole = (
            gradebook.db.query(SubmittedNotebook.assignment_id)
            .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
            .group_by(SubmittedNotebook.assignment_id)
            .having(func.count(Grade.id) == func.count(Grade.auto_score))
        )
        found = {submission for (submission,) in whole}
        return {s.student_id: float(s.total_seconds_late) for s in submissions if s.id in found}


def seconds_late(coursedir: CourseDirectory, student: str) -> float:
    """How late a submission is, its extension counted in."""
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        submission = gradebook.find_submission(coursedir.assignment_id, student)
        return float(submission.total_seconds_late)


def forget_unscored(coursedir: CourseDirectory, student: str) -> None:
    """Remove a submission that nbgrader entered and that got no score, which would read as 0.

    One in which a person has entered something stays.
    """
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        try:
            submission = gradebook.find_submission(coursedir.assignment_id, student)
        except MissingEntry:
            return
        if not _holds_anything(submission):
            gradebook.remove_submission(coursedir.assignment_id, student)


def _holds_anything(submission: SubmittedAssignment) -> bool:
    entered = [submission.extension]
    for notebook in submission.notebooks:
        for grade in notebook.grades:
            entered += [grade.auto_score, grade.manual_score, grade.extra_credit]
        entered += [comment.manual_comment for comment in notebook.comments]
    return any(one is not None for one in entered)
