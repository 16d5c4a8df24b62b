"""Our own answers judged in this very process: for authors, in seconds, and for many seeds."""

from __future__ import annotations

from autograder.engine.judge import Judge
from autograder.engine.observation import Observation, Setting
from autograder.spec import Case, Exercise


class Rehearsal(Judge):
    """Runs answers where they stand; never for a student's, which could do anything here."""

    def run(self, exercise: Exercise, case: Case, setting: Setting) -> Observation:
        """Run a case on the answer, with no worker, no limits and no sandbox."""
        lesson = self.standards.lesson
        (source,) = [cell.source for cell in self.cells if cell.exercise == exercise.name]
        if source != lesson.reference_source(exercise.name):
            return self.standards.answer(exercise, case, setting, source)
        reference = lesson.implementation(exercise.name)
        return self.standards.observe_trusted(exercise, case, setting, reference)
