"""One class that is graded in one sitting, handed in a notebook at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from autograder.attacks.attack import Notebook
from autograder.attacks.target import Target
from autograder.engine.grading import grade_notebooks
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Verdict


class Sitting:
    """Grades notebooks through the engine's front door, all of them in one session.

    Args:
        target: the lesson that all of them answer.
        zygote: running.
        seed: of the hidden inputs; the same for all, so that verdicts can be compared.
    """

    def __init__(self, target: Target, zygote: Zygote, seed: int = 11) -> None:
        self._handed_in: queue.SimpleQueue[Notebook | None] = queue.SimpleQueue()
        self._delivered: queue.SimpleQueue[Verdict | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._sit, args=(target, zygote, seed), daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether something has ended it, and with it the grading of the class."""
        return not self._thread.is_alive()

    def grade(self, notebook: Notebook) -> Verdict:
        """One notebook's verdict.

        Raises:
            Exception: whatever stopped the whole class.
        """
        self._handed_in.put(notebook)
        outcome = self._delivered.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        self._handed_in.put(None)
        self._thread.join()

    def _sit(self, target: Target, zygote: Zygote, seed: int) -> None:
        try:
            grade_notebooks(
                target,
                self._notebooks(),
                zygote,
                lambda _, verdict: self._delivered.put(verdict),
                seed=seed,
            )
        except BaseException as error:
            self._delivered.put(error)

    def _notebooks(self) -> Iterator[tuple[str, Notebook]]:
        number = 0
        while (notebook := self._handed_in.get()) is not None:
            number += 1
            yield f"number {number}", notebook
