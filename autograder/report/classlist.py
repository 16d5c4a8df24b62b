"""The class list and the scores in nbgrader's gradebook, read and never written."""

from __future__ import annotations

from pathlib import Path

from autograder.report.record import Enrolled


def class_list(gradebook: Path, assignment: str) -> tuple[Enrolled, ...] | None:
    """Everyone enrolled, ordered by id; None where there is no gradebook.

    Args:
        gradebook: nbgrader's SQLite file.
        assignment: whose submissions and scores are meant.
    """
    if not gradebook.exists():
        return None
    # Imported here: they take longer to import than the rest of the report to be written.
    from nbgrader.api import Assignment, Student, SubmittedAssignment
    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import Session

    # Not by nbgrader's Gradebook, which creates tables and courses where it finds none.
    engine = create_engine(f"sqlite:///file:{gradebook.resolve()}?mode=ro&uri=true")
    scores = (
        select(SubmittedAssignment.student_id, SubmittedAssignment.score)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .where(Assignment.name == assignment)
    )
    with Session(engine) as session:
        earned = {student: float(score) for student, score in session.execute(scores)}
        students = session.execute(
            select(Student.id, Student.first_name, Student.last_name).order_by(Student.id)
        ).all()
    engine.dispose()
    return tuple(
        Enrolled(
            student=student,
            name=" ".join(part for part in (first, last) if part),
            handed_in=student in earned,
            score=earned.get(student),
        )
        for student, first, last in students
    )
