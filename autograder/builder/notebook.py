"""The source notebook: a lesson's cells with the references put in and nbgrader's metadata."""

from __future__ import annotations

import json
from typing import Any

from autograder.builder.environment import environment_cell
from autograder.builder.inspection import problems_of
from autograder.builder.problem import BuildError
from autograder.builder.solution import mark_solution
from autograder.builder.text import LessonText, TextCell, read_text
from autograder.lesson import Lesson

SCHEMA_VERSION = 3
HIDDEN_TESTS = """\
# {name}: {points:g} points. It is graded after you hand in; there is nothing to run here.
### BEGIN HIDDEN TESTS
raise RuntimeError(
    "This cell is graded by Forward Pass: run `forwardpass grade`, or nbgrader autograde with the "
    "course's nbgrader_config.py in the course folder. Without it, 0 points are given on purpose."
)
### END HIDDEN TESTS"""


def build_source(lesson: Lesson) -> dict[str, Any]:
    """Build a lesson's source notebook.

    Returns:
        The notebook as a dict, the same for the same files.

    Raises:
        BuildError: with the file and line of everything wrong.
    """
    text = read_text(lesson.text)
    problems = problems_of(lesson, text)
    if problems:
        raise BuildError(problems)
    cells: list[dict[str, Any]] = []
    for role, exercise, source in _planned(lesson, text):
        cells.append(_cell(f"{lesson.name}-{len(cells):02d}", role, exercise, source, lesson))
    return {
        "cells": cells,
        "metadata": {
            "forwardpass": {"lesson": lesson.key, "minutes": text.minutes, "title": text.title},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def to_bytes(notebook: dict[str, Any]) -> bytes:
    """A notebook's file, as Jupyter writes it, the same bytes every time."""
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode("utf-8")


def _planned(lesson: Lesson, text: LessonText) -> list[tuple[str, str | None, str]]:
    """(role, exercise, source) of every cell; an exercise's tests stand after its last check."""
    planned: list[tuple[str, str | None, str]] = []
    cells = list(text.cells)
    first_prose = cells[0].role == "prose"
    if first_prose:
        planned.append(("prose", None, cells.pop(0).source))
    planned.append(("environment", None, environment_cell(text.title)))
    open_exercise: str | None = None
    for i, cell in enumerate(cells):
        if open_exercise and _closes(cells, i):
            planned.append(_tests(lesson, open_exercise))
            open_exercise = None
        source = cell.source
        if cell.role == "exercise":
            open_exercise = cell.exercise
            source = mark_solution(lesson.reference_source(cell.exercise or "")).rstrip("\n")
        elif cell.role == "earlier":
            source = earlier_cell(cell)
        planned.append((cell.role, cell.exercise, source))
    if open_exercise:
        planned.append(_tests(lesson, open_exercise))
    return planned


def earlier_cell(cell: TextCell) -> str:
    """What takes the student's own functions from the notebook beside this one."""
    key = "/".join(cell.module.split(".")[1:])
    quoted = ", ".join(f'"{name}"' for name in cell.names)
    taken = f'{", ".join(cell.names)} = earlier("{key}", {quoted})'
    return f"from course import earlier\n\n{taken}"


def _closes(cells: list[TextCell], at: int) -> bool:
    """Whether no check of the open exercise comes from here on."""
    for cell in cells[at:]:
        if cell.role == "check":
            return False
        if cell.role == "exercise":
            return True
    return True


def _tests(lesson: Lesson, exercise: str) -> tuple[str, str, str]:
    points = lesson.exercises[exercise].points
    return "tests", exercise, HIDDEN_TESTS.format(name=exercise, points=points)


def _cell(
    cell_id: str, role: str, exercise: str | None, source: str, lesson: Lesson
) -> dict[str, Any]:
    told: dict[str, Any] = {"role": role}
    if exercise:
        told["exercise"] = exercise
    metadata: dict[str, Any] = {"forwardpass": told}
    if role == "prose":
        return {"cell_type": "markdown", "id": cell_id, "metadata": metadata, "source": source}
    if role == "exercise":
        metadata["nbgrader"] = _nbgrader(exercise or "", solution=True, locked=False)
    elif role == "tests" and exercise:
        points = lesson.exercises[exercise].points
        whole = int(points) if float(points).is_integer() else round(points, 4)
        metadata["nbgrader"] = {
            **_nbgrader(f"{exercise}_tests", solution=False, locked=True),
            "grade": True,
            "points": whole,
        }
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell_id,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def _nbgrader(grade_id: str, *, solution: bool, locked: bool) -> dict[str, Any]:
    return {
        "grade": False,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": SCHEMA_VERSION,
        "solution": solution,
        "task": False,
    }
