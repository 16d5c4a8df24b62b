"""A submission that hangs is put off while others wait, and graded all the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autograder.engine.assessor import Job
from autograder.engine.grading import Plan
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Postponed, Verdict
from autograder.gradebook import classwork
from autograder.gradebook.classwork import Classwork
from autograder.gradebook.grader import Grader
from autograder.gradebook.journal import Record
from autograder.gradebook.submission import Submission
from autograder.lesson import Lesson

NAME = "hinge_generator_loss"
HANGING = {
    "in a run": f"def {NAME}(fake_logits):\n    while True:\n        pass\n",
    "in a cell": f"while True:\n    pass\n\ndef {NAME}(fake_logits):\n    return 1\n",
}


@pytest.mark.parametrize("where", HANGING)
def test_the_engine_goes_on_with_the_next(
    where: str, losses: Lesson, zygote: Zygote, fill: Callable[..., dict[str, Any]]
) -> None:
    plan = Plan(losses)
    cells = plan.job("", fill(**{NAME: HANGING[where]})).cells
    right = plan.job("right", fill())
    verdicts: dict[str, Verdict] = {}
    postponed: list[str] = []
    began = time.monotonic()
    Session(losses, zygote, 5).grade(
        [Job("hangs", cells, patience=1.0), right],
        lambda job, verdict: verdicts.update({job.key: verdict}),
        lambda job: postponed.append(job.key),
    )
    assert postponed == ["hangs"]
    assert verdicts.keys() == {"right"}
    assert verdicts["right"].score == verdicts["right"].max_score
    assert time.monotonic() - began < 8.0  # of the ten that the run may take, and it is loaded here


def test_a_grader_process_says_so(losses: Lesson, fill: Callable[..., dict[str, Any]]) -> None:
    grader = Grader()
    try:
        grader.prepare(losses.key, "")
        with pytest.raises(Postponed):
            grader.grade(losses.key, "it", json.dumps(fill(**{NAME: HANGING["in a run"]})), 1.0)
        verdict = grader.grade(losses.key, "it", json.dumps(fill()), 1.0)
        assert verdict.score == verdict.max_score
    finally:
        grader.close()


class Slow:
    """Verdicts of a class in which some take long."""

    def __init__(self, slow: set[str]) -> None:
        self._slow = slow
        self.asked: list[tuple[str, bool]] = []

    def journaled(self, _submission: Submission) -> None:
        return None

    def of(self, submission: Submission, _grader: Any, patience: float | None = None) -> Record:
        self.asked.append((submission.student, patience is not None))
        if patience is not None and submission.student in self._slow:
            raise Postponed
        return Record("", submission.student, "", None, "as it was")


def graded(slow: set[str], size: int, jobs: int = 1) -> tuple[list[str], Slow]:
    verdicts: Any = Slow(slow)
    students = [f"s{i:03d}" for i in range(size)]
    submissions = [Submission(student, "it", Path(), "lesson") for student in students]
    work = Classwork(verdicts, "cpu", (), jobs)
    return [done.submission.student for done in work.grade(submissions)], verdicts


@pytest.mark.parametrize("jobs", [1, 2])
def test_who_hangs_is_graded_when_nobody_waits(jobs: int) -> None:
    order, _ = graded({"s000", "s002"}, 8, jobs)
    assert sorted(order) == [f"s{i:03d}" for i in range(8)]
    assert set(order[-2:]) == {"s000", "s002"}


def test_the_last_of_all_is_not_put_off() -> None:
    order, verdicts = graded({"s002"}, 3)
    assert order == ["s000", "s001", "s002"]
    assert verdicts.asked[-1] == ("s002", False)


def test_where_all_take_long_few_are_begun_twice() -> None:
    size = 100
    order, verdicts = graded({f"s{i:03d}" for i in range(size)}, size)
    assert len(order) == size
    again = len(verdicts.asked) - size
    assert classwork.MOST_POSTPONED <= again <= classwork.MOST_POSTPONED + size // classwork.ONE_IN
