"""Stock nbgrader, the hidden tests in the notebook: what this course is measured against.

Each tests cell runs the exercise's hidden tests in the student's own kernel, on what the cells
above have defined, by the code of ``floor.py``; nbgrader executes the notebook as it always does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from classroom import TIMESTAMP, Pupil

from autograder.engine.notebook import grade_id
from autograder.lesson import ROOT, Lesson

HERE = Path(__file__).resolve().parent
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "stock"
c.CourseDirectory.root = {root!r}
"""
TESTS = """import sys
sys.path[:0] = [{here!r}, {root!r}]
from stock import judged
judged({lesson!r}, {exercise!r}, globals())
"""


def judged(key: str, exercise: str, namespace: dict[str, object]) -> float:
    """What a tests cell runs: one exercise's hidden tests on a notebook's own names."""
    from floor import InProcess

    from autograder.engine.assessor import Job
    from autograder.engine.notebook import RunnableCell
    from autograder.engine.session import Session
    from autograder.engine.spawner import Policy, Zygote
    from autograder.lesson import find_lesson

    class InKernel(InProcess):
        def __enter__(self) -> InProcess:
            self._namespace = namespace
            return self

    scores: list[float] = []
    session = Session(find_lesson(key), Zygote(Policy()), 1, InKernel)
    job = Job(exercise, (RunnableCell(exercise, "", exercise),), frozenset({exercise}))
    session.grade([job], lambda _, verdict: scores.append(verdict.score))
    return scores[0]


def autograde(folder: Path, lesson: Lesson, members: list[Pupil]) -> float:
    """Seconds that ``nbgrader autograde`` takes for a class, beside its own start-up.

    Raises:
        subprocess.CalledProcessError: nbgrader failed.
    """
    chapter = folder / "source" / lesson.chapter
    chapter.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(CONFIG.format(root=str(folder)), encoding="utf-8")
    notebook = json.loads(lesson.source.read_text(encoding="utf-8"))
    (chapter / lesson.source.name).write_text(json.dumps(_with_tests(notebook, lesson)))
    _nbgrader(folder, "generate_assignment", lesson.chapter)
    released = folder / "release" / lesson.chapter / lesson.source.name
    for pupil in members:
        home = folder / "submitted" / pupil.student / lesson.chapter
        home.mkdir(parents=True)
        (home / "timestamp.txt").write_text(TIMESTAMP, encoding="utf-8")
        answered = nbformat.read(released, as_version=4)
        for cell in answered.cells:
            if grade_id(cell) in pupil.answers:
                cell.source = pupil.answers[grade_id(cell) or ""]
        nbformat.write(answered, home / lesson.source.name)
    started = time.monotonic()
    _nbgrader(folder, "autograde", lesson.chapter)
    return time.monotonic() - started


def _with_tests(notebook: dict[str, object], lesson: Lesson) -> dict[str, object]:
    """The source notebook with the hidden tests' calls in its tests cells."""
    cells = notebook["cells"]
    assert isinstance(cells, list)
    kept = []
    for cell in cells:
        told = cell["metadata"].get("forwardpass", {})
        if told.get("role") == "tests":
            cell["source"] = TESTS.format(
                here=str(HERE), root=str(ROOT), lesson=lesson.key, exercise=told["exercise"]
            )
        if cell["cell_type"] == "markdown" or told.get("role") in ("setup", "exercise", "tests"):
            kept.append(cell)  # training cells would have stock nbgrader train for each student
    return {**notebook, "cells": kept}


def _nbgrader(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
