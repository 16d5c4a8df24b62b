"""The students' desks: fetching the assignment, filling it in, handing it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autograder.demo.course import COURSE_ID, DemoCourse
from autograder.demo.submissions import Submission


def write(course: DemoCourse, submission: Submission) -> None:
    """Put a student's notebook where the fetched one was."""
    notebook = course.home(submission.student) / course.assignment / f"{course.lesson.name}.ipynb"
    notebook.chmod(0o644)
    notebook.write_bytes(submission.file)


def fetch(course: DemoCourse, student: str) -> None:
    """Fetch the assignment as the Fetch button of JupyterLab does: by nbgrader's exchange."""
    _exchange(course, student, "FetchAssignment").start()


def submit(course: DemoCourse, student: str) -> None:
    """Hand in as the Submit button of JupyterLab does: by nbgrader's exchange."""
    _exchange(course, student, "Submit").start()


def arguments(course: DemoCourse, student: str) -> list[str]:
    """What a student's nbgrader command needs to know besides the assignment's name."""
    return [
        f"--course={COURSE_ID}",
        f"--student={student}",
        f"--Exchange.root={course.exchange}",
        f"--Exchange.cache={course.cache(student)}",
    ]


def home(course: DemoCourse, student: str) -> Path:
    """A student's folder, made where it is missing."""
    folder = course.home(student)
    folder.mkdir(exist_ok=True)
    return folder


def _exchange(course: DemoCourse, student: str, action: str) -> Any:
    # Imported here: nbgrader takes longer to import than the whole command line.
    from nbgrader.auth import Authenticator
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.exchange import ExchangeFactory
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.course_id = COURSE_ID
    config.CourseDirectory.assignment_id = course.assignment
    config.CourseDirectory.student_id = student
    config.Exchange.root = str(course.exchange)
    config.Exchange.cache = str(course.cache(student))
    config.Exchange.assignment_dir = str(home(course, student))
    exchange = getattr(ExchangeFactory(config=config), action)
    return exchange(
        coursedir=CourseDirectory(config=config),
        authenticator=Authenticator(config=config),
        config=config,
    )
