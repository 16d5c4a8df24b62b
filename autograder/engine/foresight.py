"""What every run needs of our own code, computed while the grader waits for its zygote."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from types import TracebackType

from autograder.engine.outcomes import Outcomes, seed_in
from autograder.engine.standards import Standards
from autograder.engine.submission import settings_of
from autograder.engine.trial import warm_up
from autograder.lesson import Lesson


class Foresight:
    """Runs a lesson's references and known mistakes until the context is left.

    What it has come to is in the outcomes that all graders of the run share. Each begins somewhere
    else, so that two have not all of it to do.

    Args:
        lesson: that is graded first; None where that is not known.
        outcomes: of the run.
    """

    def __init__(self, lesson: Lesson | None, outcomes: Outcomes) -> None:
        self._lesson = lesson
        self._outcomes = outcomes
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Foresight:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._enough.set()
        self._thread.join()

    def _work(self) -> None:
        warm_up()
        try:
            for _ in self._steps():
                if self._enough.is_set():
                    return
        except Exception:
            return  # who grades meets the same, and says so

    def _steps(self) -> Iterator[None]:
        if self._lesson is None:
            return
        standards = Standards(self._lesson, seed_in(self._outcomes), self._outcomes)
        exercises = list(self._lesson.exercises.values())
        runs = [
            (e, case, setting)
            for e in exercises
            for case in e.cases
            for setting in settings_of(case)
        ]
        random.shuffle(runs)
        for run in runs:
            standards.standard(*run)
            yield
        for exercise, case, setting in runs:
            for mistake in exercise.mistakes:
                standards.mistake(exercise, mistake, case, setting)
                yield
