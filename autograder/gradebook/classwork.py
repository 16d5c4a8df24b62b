"""A class's notebooks, graded by several processes at once."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.nursery import Nursery
from autograder.engine.verdict import Postponed
from autograder.gradebook.grader import (
    LIMIT_SECONDS,
    Grader,
    GradingFailed,
    GradingRefused,
    TookTooLong,
)
from autograder.gradebook.journal import Record
from autograder.gradebook.jsonfile import NotKept
from autograder.gradebook.submission import Submission
from autograder.gradebook.verdicts import Verdicts

ATTEMPTS = 2
# How long others wait for one cell or run of a submission's, and how many may be put off at once:
# where many take long it is the lesson that does, and nothing is gained by beginning them twice.
PATIENCE, MOST_POSTPONED, ONE_IN = 1.0, 3, 20
Stop = GradingRefused | NotKept
Result = TypeVar("Result")


@dataclass(frozen=True)
class Graded:
    """What became of one notebook.

    Attributes:
        submission: the notebook.
        record: its verdict; None where grading itself failed.
        failure: why it did.
        reused: whether the verdict was journaled already.
        seconds: that grading it took; 0 where that is not known.
    """

    submission: Submission
    record: Record | None
    failure: str = ""
    reused: bool = False
    seconds: float = 0.0


def unchanged(
    submissions: Sequence[Submission],
    verdicts: Verdicts,
    waiting: deque[Submission],
    begin: Callable[[], object] = lambda: None,
) -> Iterator[Graded]:
    """Give what is journaled already, and put the rest in `waiting`, lesson by lesson.

    Args:
        submissions: all of them.
        verdicts: finds the journaled ones.
        waiting: filled with the others.
        begin: called when there is the first of these.
    """
    for submission in sorted(submissions, key=lambda s: (s.lesson, s.student)):
        journaled = verdicts.journaled(submission)
        if journaled:
            yield Graded(submission, journaled, reused=True)
        else:
            if not waiting:
                begin()
            waiting.append(submission)


class Classwork:
    """Grades submissions in several grader processes.

    What hangs holds a process for ten seconds and more: while others wait, it is put off until
    they are done.

    Args:
        verdicts: finds and keeps them.
        device: to judge on beside the CPU.
        without: required sandbox layers that the instructor has agreed to do without.
        jobs: how many processes.
        seconds: that a notebook may take in all.
        megabytes: that a submission may allocate; None where each exercise says.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        device: str,
        without: Sequence[str],
        jobs: int,
        seconds: float = LIMIT_SECONDS,
        megabytes: int | None = None,
    ) -> None:
        self._verdicts = verdicts
        self._jobs = jobs
        self._late: deque[Submission] = deque()
        self._postponed = self._graded_so_far = 0
        self._grader = partial(Grader, device, without, seconds, megabytes)

    def grade(self, submissions: Sequence[Submission]) -> Iterator[Graded]:
        """Grade every submission that needs it, giving each as it is done.

        Raises:
            GradingRefused: a required sandbox layer is missing; the rest is not graded.
            NotKept: a verdict cannot be written to the journal; nor could the rest be.
        """
        waiting: deque[Submission] = deque()
        with closing(Nursery()) as nursery:
            yield from unchanged(submissions, self._verdicts, waiting, nursery.start)
            with self._workers(waiting, nursery) as done:
                for _ in range(len(waiting)):
                    outcome = done.get()
                    if not isinstance(outcome, Graded):
                        raise outcome
                    yield outcome

    @contextmanager
    def _workers(
        self, waiting: deque[Submission], nursery: Nursery
    ) -> Iterator[queue.SimpleQueue[Graded | Stop]]:
        done: queue.SimpleQueue[Graded | Stop] = queue.SimpleQueue()
        todo = deque(waiting)
        with tempfile.TemporaryFile() as outcomes:
            count = min(self._jobs, len(waiting))
            graders = [self._grader(outcomes.fileno(), nursery) for _ in range(count)]
            threads = [
                threading.Thread(target=self._work, args=(grader, todo, done), daemon=True)
                for grader in graders
            ]
            for thread in threads:
                thread.start()
            try:
                yield done
            finally:
                todo.clear()
                self._late.clear()
                for grader in graders:
                    grader.stop()
                for thread in threads:
                    thread.join()

    def _work(
        self,
        grader: Grader,
        todo: deque[Submission],
        done: queue.SimpleQueue[Graded | Stop],
    ) -> None:
        while True:
            submission = _first_of(todo, self._late)
            if submission is None:
                grader.stop()
                return
            try:
                started = time.monotonic()
                graded = self._graded(submission, grader, PATIENCE if self._hurries(todo) else None)
                done.put(replace(graded, seconds=time.monotonic() - started))
                self._graded_so_far += 1
            except Postponed:
                self._postponed += 1
                self._late.append(submission)
            except (GradingRefused, NotKept) as stop:
                done.put(stop)
                return

    def _hurries(self, todo: deque[Submission]) -> bool:
        """Whether others wait, and may be let in first."""
        few = self._postponed < MOST_POSTPONED + self._graded_so_far // ONE_IN
        return bool(todo) and few

    def _graded(self, submission: Submission, grader: Grader, patience: float | None) -> Graded:
        found = persevering(lambda: self._verdicts.of(submission, grader, patience))
        return Graded(submission, *found)


def _first_of(*waiting: deque[Submission]) -> Submission | None:
    for line in waiting:
        with suppress(IndexError):  # another process may have taken the last
            return line.popleft()
    return None


def persevering(grade: Callable[[], Result]) -> tuple[Result | None, str]:
    """Grade; once more where grading itself failed.

    Returns:
        What grading gave, or None and why.

    Raises:
        GradingRefused, NotKept, UnreadableNotebook: another attempt would end the same.
        Postponed: it is to be made later.
    """
    failure = ""
    for _ in range(ATTEMPTS):
        try:
            return grade(), ""
        except TookTooLong as error:
            return None, str(error)
        except GradingFailed as error:
            failure = str(error)
        except (GradingRefused, NotKept, UnreadableNotebook, Postponed):
            raise
        except Exception as error:  # unseen, it would have the class wait for ever
            failure = f"grading it failed in a way that it should not: {error!r}"
    return None, failure
