"""What nbgrader's gradebook says of one student's submission."""

from __future__ import annotations

from datetime import datetime

from nbgrader.api import Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory


def _duedate(submission: SubmittedAssignment) -> datetime | None:
    due: datetime | None = submission.assignment.duedate
    return due if due is None or submission.extension is None else due + submission.extension


# nbgrader's own cannot add an extension to no due date, and would not enter the student's grades.
SubmittedAssignment.duedate = property(_duedate)


def is_scored(coursedir: CourseDirectory, student: str, late: float) -> bool:
    """Whether every exercise has a score from autograding, and it counts as so many seconds late.

    Args:
        coursedir: the course's.
        student: whose submission is meant.
        late: as it was when the late penalty was given; an extension changes it.
    """
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        try:
            submission = gradebook.find_submission(coursedir.assignment_id, student)
        except MissingEntry:
            return False
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        scored = bool(grades) and all(grade.auto_score is not None for grade in grades)
        return scored and float(submission.total_seconds_late) == late


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
