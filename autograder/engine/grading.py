"""Notebooks in, verdicts out: the engine's front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from autograder.builder.solution import clear_solution
from autograder.engine.assessor import Job
from autograder.engine.notebook import (
    PlannedCell,
    UnreadableNotebook,
    grade_id,
    plan_of,
    read_notebook,
    runnable_cells,
)
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Verdict
from autograder.lesson import Lesson, UnknownLesson, all_lessons, find_lesson


class NotBuilt(FileNotFoundError):
    """The lesson's source notebook does not exist yet."""


@dataclass(frozen=True)
class Plan:
    """What the grader knows of a lesson's notebook, from the built source."""

    lesson: Lesson

    @cached_property
    def cells(self) -> list[PlannedCell]:
        """The code cells of the source notebook.

        Raises:
            NotBuilt: there is none.
        """
        if not self.lesson.source.exists():
            raise NotBuilt(
                f"{self.lesson.source} does not exist: run `forwardpass build` before grading"
            )
        return plan_of(read_notebook(self.lesson.source))

    @cached_property
    def stubs(self) -> dict[str, str]:
        """Each exercise's untouched cell."""
        exercises = [c for c in self.cells if c.role == "exercise"]
        return {c.exercise or "": clear_solution(c.source) for c in exercises}

    def job(self, key: str, notebook: dict[str, Any]) -> Job:
        """A submission to be graded, from a parsed notebook."""
        return Job(key, tuple(runnable_cells(notebook, self.cells, self.stubs)))


def lesson_of(notebook: dict[str, Any], path: Path) -> Lesson:
    """Which lesson a notebook answers: by its metadata, its exercises, or its file's name.

    Raises:
        UnknownLesson: none fits.
    """
    metadata = notebook.get("metadata")
    told = metadata.get("forwardpass") if isinstance(metadata, dict) else None
    claimed = told.get("lesson") if isinstance(told, dict) else None
    if isinstance(claimed, str) and any(claimed == lesson.key for lesson in all_lessons()):
        return find_lesson(claimed)
    found = {grade_id(cell) for cell in notebook["cells"]}
    for lesson in all_lessons():
        if lesson.source.exists() and found & Plan(lesson).stubs.keys():
            return lesson
    try:
        return find_lesson(path.stem)
    except UnknownLesson:
        known = ", ".join(lesson.key for lesson in all_lessons())
        raise UnknownLesson(
            f"{path}: which lesson this answers cannot be told from its metadata, its exercises "
            f"or its name; the lessons are: {known}"
        ) from None


def grade_notebooks(
    lesson: Lesson,
    notebooks: Iterable[tuple[str, dict[str, Any]]],
    zygote: Zygote,
    deliver: Callable[[str, Verdict], None],
    *,
    seed: int | None = None,
    outcomes: Outcomes = ALONE,
    patience: Callable[[], float] = lambda: math.inf,
    postpone: Callable[[str], None] | None = None,
) -> None:
    """Grade parsed notebooks of one lesson, delivering each verdict as it falls.

    Args:
        lesson: that all of them answer.
        notebooks: (key, notebook) pairs.
        zygote: running.
        deliver: called with each key and its verdict.
        seed: of the hidden inputs; a secret one where it is None.
        outcomes: of our own code and of what several students gave alike, shared with the run's
            other processes.
        patience: asked for each notebook: for how many seconds others wait for one of its cells
            or runs.
        postpone: called with the key of a notebook that took longer than that.
    """
    plan = Plan(lesson)
    jobs = (replace(plan.job(key, book), patience=patience()) for key, book in notebooks)
    session = Session(lesson, zygote, seed, outcomes=outcomes, alike=outcomes is not ALONE)
    session.grade(
        jobs,
        lambda job, verdict: deliver(job.key, verdict),
        postpone and (lambda job: postpone(job.key)),
    )


__all__ = ["NotBuilt", "Plan", "UnreadableNotebook", "grade_notebooks", "lesson_of"]
