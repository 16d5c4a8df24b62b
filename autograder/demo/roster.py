"""Who is in the demo's class."""

from __future__ import annotations

from pathlib import Path

from autograder.demo.accidents import broken_files, disordered_notebooks, failing_code
from autograder.demo.attacks import hostile_notebooks
from autograder.demo.submissions import Submission, honest_submissions
from autograder.lesson import Lesson

ABSENT = ("nia-not-yet", "noel-no-show")  # enrolled, and hand nothing in


def whole_class(lesson: Lesson, course: Path) -> list[Submission]:
    """Every submission to a lesson, in the order of the stories.

    Args:
        lesson: built and with a grader.
        course: the course folder that they will be graded in.
    """
    return [
        *honest_submissions(lesson),
        *failing_code(lesson),
        *disordered_notebooks(lesson),
        *broken_files(lesson),
        *hostile_notebooks(lesson, course),
    ]
