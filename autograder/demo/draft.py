"""A release notebook being filled in, or spoilt, by a made-up student."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from autograder.builder.solution import STUB
from autograder.engine.notebook import grade_id, source_of
from autograder.lesson import Lesson


@dataclass
class Draft:
    """A copy of a lesson's release notebook; every method changes it.

    Attributes:
        lesson: whose notebook it is.
        cells: the notebook's cells.
        rest: everything of the notebook but its cells.
    """

    lesson: Lesson
    cells: list[dict[str, Any]]
    rest: dict[str, Any]

    @classmethod
    def of(cls, lesson: Lesson) -> Draft:
        """A fresh copy of the release notebook.

        Raises:
            FileNotFoundError: the lesson is not built.
        """
        notebook = json.loads(lesson.release.read_text(encoding="utf-8"))
        return cls(lesson, notebook.pop("cells"), notebook)

    def fill(self, answers: dict[str, str]) -> Draft:
        """Write answers into exercises' cells, found by ``grade_id``."""
        for exercise, source in answers.items():
            self.cells[self.position(exercise)]["source"] = source.rstrip("\n")
        return self

    def source(self, exercise: str) -> str:
        """What an exercise's cell holds now."""
        return source_of(self.cells[self.position(exercise)])

    def in_place_of_stub(self, exercise: str, statements: str) -> str:
        """An exercise's cell with other statements wherever the answer belongs."""
        lines = []
        for line in self.source(exercise).split("\n"):
            indent = line[: len(line) - len(line.lstrip())]
            is_stub = line.strip() == STUB[-1]
            lines += [indent + new for new in statements.split("\n")] if is_stub else [line]
        return "\n".join(lines)

    def position(self, name: str) -> int:
        """Where the cell with a ``grade_id`` is.

        Raises:
            LookupError: there is none.
        """
        for i, cell in enumerate(self.cells):
            if grade_id(cell) == name:
                return i
        raise LookupError(f"{self.lesson.release} has no cell with the grade_id {name!r}")

    def add_cell(self, before: int, source: str) -> Draft:
        """Put a code cell of the student's own in."""
        cell: dict[str, Any] = {
            "cell_type": "code",
            "execution_count": None,
            "id": f"own-{before}",
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        self.cells.insert(before, cell)
        return self

    def repeat_cell(self, name: str) -> Draft:
        """Put a copy of a cell right after it, as JupyterLab's "Duplicate Cell" does."""
        at = self.position(name)
        twin = copy.deepcopy(self.cells[at])
        twin["id"] = f"copy-of-{at}"
        self.cells.insert(at + 1, twin)
        return self

    @property
    def first(self) -> int:
        """Where the first exercise is."""
        return min(self.position(name) for name in self.lesson.exercises)

    @property
    def end(self) -> int:
        """Behind the last cell."""
        return len(self.cells)

    def notebook(self) -> dict[str, Any]:
        return {"cells": self.cells, **self.rest}

    def to_bytes(self) -> bytes:
        """The notebook's file."""
        text = json.dumps(self.notebook(), indent=1, ensure_ascii=False, sort_keys=True)
        return (text + "\n").encode()
