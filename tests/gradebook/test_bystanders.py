"""A process of the engine's that somebody else killed, as hosts short of memory do, costs nobody."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from processes import tree_of

from autograder.engine.assessor import Job
from autograder.engine.hold import Worker
from autograder.engine.judge import Judge
from autograder.engine.observation import EXACT
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote, ZygoteEnded
from autograder.engine.verdict import Verdict
from autograder.gradebook.classwork import persevering
from autograder.gradebook.grader import Grader
from autograder.laws.answers import REFERENCE, answers_of, job_of
from autograder.lesson import Lesson

Fill = Callable[..., dict[str, Any]]

EXERCISE = "wasserstein_generator_loss"


def job(lesson: Lesson) -> Job:
    (answer,) = [a for a in answers_of(lesson, EXERCISE) if a.kind == REFERENCE]
    return job_of(lesson, answer)


def grade(lesson: Lesson, zygote: Zygote) -> Verdict:
    verdicts: list[Verdict] = []
    Session(lesson, zygote, 5).grade([job(lesson)], lambda _, verdict: verdicts.append(verdict))
    return verdicts[0]


@pytest.mark.parametrize("operation", ["cell", "run"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_worker_gets_another_go_and_only_one(
    operation: str, times: int, losses: Lesson, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [times]
    send = Worker.send

    def struck(self: Worker, asked: str, seconds: float, **kwargs: Any) -> bytes:
        if left[0] and asked == operation and kwargs.get("name") in (None, EXERCISE):
            left[0] -= 1
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        return send(self, asked, seconds, **kwargs)

    monkeypatch.setattr(Worker, "send", struck)
    verdict = grade(losses, zygote)
    assert left == [0]
    assert (verdict.score == verdict.max_score) == (times == 1)
    told = [test.message for e in verdict.exercises for test in e.tests if test.outcome == "failed"]
    assert bool(told) == (times == 2)
    assert all("ended the Python process" in message for message in told)


def test_dying_in_the_first_run_spares_nobody_the_close_look_nor_costs_time_twice(
    losses: Lesson, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    closely: list[bool] = []
    send = Worker.send

    def struck(self: Worker, asked: str, seconds: float, **kwargs: Any) -> bytes:
        if asked == "run":
            closely.append(kwargs["closely"])
            if len(closely) == 1:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif len(closely) == 2:
                time.sleep(2.0)
        return send(self, asked, seconds, **kwargs)

    monkeypatch.setattr(Worker, "send", struck)
    monkeypatch.setattr("autograder.engine.judge.CLOSE_LOOKS", 1 << 62)  # none but first runs
    exercise = losses.exercises[EXERCISE]
    case, standards = exercise.cases[0], Session(losses, zygote, 5).standards
    with Judge(zygote, standards, job(losses).cells) as judge:
        started = time.monotonic()
        assert judge.run(exercise, case, EXACT).status == "returned"
        assert 2.0 <= judge._spent[EXERCISE] <= time.monotonic() - started
        judge.run(exercise, case, EXACT)
    assert closely == [True, True, False]


def test_a_zygote_that_was_killed_is_no_graders_error(losses: Lesson) -> None:
    with Zygote() as zygote:
        worker = zygote.fork(megabytes=256)
        zygote._process.kill()
        zygote._process.wait()
        for attempt in (worker.end, lambda: zygote.fork(megabytes=256)):
            with pytest.raises(ZygoteEnded, match="the zygote has ended"):
                attempt()
        with pytest.raises(ZygoteEnded):
            grade(losses, zygote)


def test_another_process_grades_where_the_zygote_was_killed(losses: Lesson, fill: Fill) -> None:
    text = json.dumps(fill())
    grader = Grader()

    def attempt() -> Verdict:
        grader.prepare(losses.key, "")
        return grader.grade(losses.key, "it", text)

    try:
        grader.prepare(losses.key, "")
        assert grader._nursery._process is not None
        _, *of_zygote = tree_of(grader._nursery._process.pid)
        of_zygote[-1].kill()
        verdict, failure = persevering(attempt)
    finally:
        grader.close()
    assert failure == ""
    assert verdict is not None
    assert verdict.score == verdict.max_score
    assert not verdict.has_errors
