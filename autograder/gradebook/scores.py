"""What nbgrader's gradebook says of one student's submission."""

from __future__ import annotations

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory


def is_scored(coursedir: CourseDirectory, student: str) -> bool:
    """Whether every exercise of the student's submission has a score from autograding."""
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        try:
            submission = gradebook.find_submission(coursedir.assignment_id, student)
        except MissingEntry:
            return False
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        return bool(grades) and all(grade.auto_score is not None for grade in grades)


def forget_unscored(coursedir: CourseDirectory, student: str) -> None:
    """Remove a submission that nbgrader entered and that got no score, which would read as 0."""
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        try:
            submission = gradebook.find_submission(coursedir.assignment_id, student)
        except MissingEntry:
            return
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        if all(grade.auto_score is None and grade.manual_score is None for grade in grades):
            gradebook.remove_submission(coursedir.assignment_id, student)
