"""The floor: the same hidden tests on the same code in one process, with no isolation at all.

The student's cells run where the reference lives, their functions are called directly, and
nothing is confined, timed or watched. Only trusted code may be judged so; it is what isolation is
measured against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autograder.engine.judge import CellFailure, Judge
from autograder.engine.observation import Observation, Setting
from autograder.spec import Case, Exercise


@dataclass
class InProcess(Judge):
    """Runs a submission's cells and answers right here."""

    _namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def __enter__(self) -> Judge:
        for number, cell in enumerate(self.cells):
            try:
                exec(compile(cell.source, cell.name, "exec"), self._namespace)
            except Exception as error:
                self.failures[number] = CellFailure(cell, f"stopped with {error!r}")
        return self

    def run(self, exercise: Exercise, case: Case, setting: Setting) -> Observation:
        if exercise.name not in self._namespace:
            return Observation("undefined")
        answer = self._namespace[exercise.name]
        return self.standards.observe_trusted(exercise, case, setting, answer)
