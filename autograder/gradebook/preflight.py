"""What is checked before nbgrader touches a submission, so that no score is made from a fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SQLAlchemyError

from autograder.engine.notebook import UnreadableNotebook, read_notebook
from autograder.gradebook.fault import fault_of
from autograder.lesson import UnknownLesson, find_lesson


class UnknownAssignment(NbGraderException):
    """The course folder has no such assignment."""


def source_notebooks(coursedir: CourseDirectory) -> dict[str, dict[str, Any]]:
    """The assignment's own notebooks by name.

    Raises:
        UnknownAssignment: there is no folder of it.
        NbGraderException: there is no notebook, or one that is not a lesson of this course.
    """
    assignment = coursedir.assignment_id
    folder = Path(coursedir.format_path(coursedir.source_directory, ".", assignment))
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        there = f"there is {', '.join(known)}" if known else "there is none"
        raise UnknownAssignment(f"{folder} is no assignment's source; {there}")
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise NbGraderException(
            f"{folder} holds no notebook, so nothing can be graded: put the chapter's folder of "
            "the course's source/ there, or run `forwardpass build` in the course itself"
        )
    found = {}
    for path in paths:
        try:
            found[path.stem] = read_notebook(path)
            find_lesson(lesson_key(found[path.stem]))
        except (UnreadableNotebook, UnknownLesson) as error:
            raise NbGraderException(
                f"{path} is not a lesson that Forward Pass can grade ({error}): grade such an "
                "assignment from another course folder, without this nbgrader_config.py"
            ) from None
    return found


def lesson_key(source: dict[str, Any]) -> str:
    """Which lesson a source notebook is of, as ``chapter/lesson``; empty where it is of none."""
    told = source.get("metadata", {}).get("forwardpass", {})
    return str(told.get("lesson", ""))


def check_gradebook(coursedir: CourseDirectory, sources: dict[str, dict[str, Any]]) -> None:
    """Compare the gradebook's cells and points with the source's.

    Raises:
        NbGraderException: they differ, so that scores would be lost or wrong; or the gradebook
            cannot be used.
    """
    try:
        _compare(coursedir, sources)
    except SQLAlchemyError as error:
        raise NbGraderException(fault_of(str(error), coursedir) or str(error)) from None


def _compare(coursedir: CourseDirectory, sources: dict[str, dict[str, Any]]) -> None:
    assignment = coursedir.assignment_id
    again = f"run `nbgrader generate_assignment {assignment} --force`, then grade again"
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        for name, source in sources.items():
            try:
                notebook = gradebook.find_notebook(name, assignment)
            except MissingEntry:
                raise NbGraderException(
                    f"the gradebook does not know {assignment}/{name}: run `nbgrader "
                    f"generate_assignment {assignment}`, then grade again"
                ) from None
            known = {cell.name: float(cell.max_score) for cell in notebook.grade_cells}
            meant = _points(source)
            if known != meant:
                changed = {n for n in known | meant if known.get(n) != meant.get(n)}
                raise NbGraderException(
                    f"the gradebook and the source of {assignment}/{name} differ in "
                    f"{', '.join(sorted(changed))}: {again}"
                )


def student_of(coursedir: CourseDirectory, step: str, folder: str) -> str:
    """Whose submission a folder of one of nbgrader's steps is."""
    pattern = coursedir.format_path(
        step, "(?P<student_id>.*)", "(?P<assignment_id>.*)", escape=True
    )
    match = re.match(pattern, folder)
    if match is None:
        raise NbGraderException(f"{folder} does not fit the course's directory structure")
    return match["student_id"]


def _points(source: dict[str, Any]) -> dict[str, float]:
    found = {}
    for cell in source["cells"]:
        told = cell["metadata"].get("nbgrader", {})
        if told.get("grade"):
            found[told["grade_id"]] = float(told["points"])
    return found
