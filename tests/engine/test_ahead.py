"""Runs that are sent before they are asked for: the same verdicts, and nobody waits for ever."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from autograder.engine.ahead import MOST_BYTES, MOST_RUNS, Ahead, Run
from autograder.engine.assessor import Job
from autograder.engine.hidden_test import HiddenTest
from autograder.engine.hold import Worker, WorkerDied
from autograder.engine.judge import Judge
from autograder.engine.notebook import RunnableCell
from autograder.engine.observation import Setting
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.standards import Standards
from autograder.engine.verdict import Verdict
from autograder.laws.answers import answers_of, job_of, preamble
from autograder.lesson import Lesson
from autograder.spec import Case, Exercise
from autograder.vendored import cloudpickle

NAME = "wasserstein_generator_loss"
HEAD = f"def {NAME}(fake_scores):\n    "
# What a run does that nobody asks for, since the answer is wrong already; and what asked ones do.
ODD = {
    "dies where it is not asked": "if fake_scores.dtype == torch.float32:\n"
    "        import os; os._exit(3)\n    return fake_scores.mean()",
    "dies where it is asked": "if fake_scores.dtype == torch.float32:\n"
    "        import os; os._exit(3)\n    return -fake_scores.mean()",
    "raises in one dtype": "if fake_scores.dtype == torch.float32:\n"
    "        raise ValueError('only one')\n    return -fake_scores.mean()",
    "says more than it may": "if fake_scores.dtype == torch.float32:\n"
    "        return torch.zeros(1 << 20)\n    return fake_scores.mean()",
    "nothing is written": "raise NotImplementedError",
    "is not there": f"return 1\n\ndel {NAME}",
}


def odd_jobs(lesson: Lesson) -> Iterator[Job]:
    for title, body in ODD.items():
        cells = (
            RunnableCell("setup", preamble(lesson)),
            RunnableCell(NAME, f"{HEAD}{body}\n", NAME),
        )
        yield Job(title, cells, frozenset({NAME}))


def verdicts(lesson: Lesson, zygote: Zygote, jobs: list[Job]) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    Session(lesson, zygote, 5).grade(jobs, lambda job, verdict: found.update({job.key: verdict}))
    return found


def test_a_verdict_does_not_depend_on_what_was_foreseen(
    losses: Lesson, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [*odd_jobs(losses), *(job_of(losses, a) for a in answers_of(losses, NAME))]
    foreseeing = verdicts(losses, zygote, jobs)
    monkeypatch.setattr(HiddenTest, "foreseen", [])
    assert foreseeing == verdicts(losses, zygote, jobs)
    told = {job.key: foreseeing[job.key].exercises[0].tests[0].message for job in jobs}
    assert "ended the Python process" not in told["dies where it is not asked"]
    assert "ended the Python process with status 3" in told["dies where it is asked"]


def test_a_right_answers_runs_are_nearly_all_sent_ahead(
    losses: Lesson, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    for name in ("send", "send_ahead"):
        original = getattr(Worker, name)

        def noted(
            self: Worker, *given: Any, _of: Any = original, _as: str = name, **more: Any
        ) -> Any:
            if "run" in given:
                sent.append(_as)
            return _of(self, *given, **more)

        monkeypatch.setattr(Worker, name, noted)
    (job,) = [job_of(losses, a) for a in answers_of(losses, NAME) if a.kind == "reference"]
    verdict = verdicts(losses, zygote, [job])[job.key]
    assert verdict.score == verdict.max_score
    runs = sum(len(case.dtypes) for case in losses.exercises[NAME].cases)
    assert sent.count("send_ahead") > runs / 2
    assert sent.count("send") <= 3  # the first, and on the fake device


def vast(impl: Any, x: torch.Tensor) -> Any:
    return impl(x), [x] * 40


@pytest.mark.parametrize("elements", [10, 600, 3_000, 40_000])
def test_neither_side_waits_for_the_other_for_ever(
    elements: int, losses: Lesson, zygote: Zygote
) -> None:
    cases = [
        Case(f"number {i}", vast, lambda make: {"x": make.normal(elements)}) for i in range(20)
    ]
    exercise = Exercise(NAME, seconds=30.0)
    exercise.cases.extend(cases)
    runs = [Run(exercise, case, Setting(torch.float64)) for case in cases]
    cells = [RunnableCell(NAME, f"{HEAD}return fake_scores\n", NAME)]
    standards = Standards(losses, 1)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with Judge(zygote, standards, cells, foreseen={NAME: runs}) as judge:
        for run in runs:
            assert judge.run(exercise, run.case, run.setting).status == "returned"


class Scripted:
    """A worker that answers what it is told to, or dies."""

    def __init__(self, replies: dict[str, Any], room: int = MOST_BYTES) -> None:
        self.replies = replies
        self.room_ahead = room
        self.waiting: list[str] = []
        self.most = 0

    def send(self, _operation: str, _seconds: float, **request: Any) -> bytes:
        assert not self.waiting
        self.waiting.append(request["title"])
        return request["title"].encode()

    def send_ahead(self, room: int, _operation: str, **request: Any) -> tuple[bytes, int] | None:
        if request["size"] > room:
            return None
        self.waiting.append(request["title"])
        self.most = max(self.most, len(self.waiting))
        return request["title"].encode(), request["size"]

    def receive(self, token: bytes, _seconds: float, _reply_bytes: int) -> dict[str, Any]:
        title = self.waiting.pop(0)
        assert token.decode() == title
        reply: dict[str, Any] = {"title": title}
        if self.replies.get(title) == "dies":
            raise WorkerDied("it did")
        return reply


def asking(titles: str, size: int = 100) -> tuple[list[Run], Ahead]:
    exercise = Exercise(NAME)
    setting = Setting(torch.float64)
    runs = [Run(exercise, Case(title, vast, lambda _: {}), setting) for title in titles]
    ahead = Ahead(
        lambda run: {"title": run.case.title, "size": size},
        lambda run: None if run.case.title == "?" else 1000,
        {NAME: runs},
    )
    return runs, ahead


def test_no_more_is_on_its_way_than_there_is_room_for() -> None:
    runs, ahead = asking("abcdefghijklmnopqrstuvwxyz")
    worker: Any = Scripted({})
    for run in runs:
        assert ahead.reply(run, 1.0, lambda: worker) == {"title": run.case.title}
    assert worker.most == MOST_RUNS
    runs, ahead = asking("abcdefghijkl", size=MOST_BYTES // 2)
    worker = Scripted({})
    for run in runs:
        ahead.reply(run, 1.0, lambda: worker)
    assert worker.most == 3  # the one asked for has been read by the time that others wait
    runs, ahead = asking("abcdefghijkl", size=60)
    worker = Scripted({}, room=130)
    ahead.reply(runs[0], 1.0, lambda: worker)
    assert worker.most == 3


def test_what_cannot_be_judged_is_not_sent() -> None:
    runs, ahead = asking("ab?c")
    worker: Any = Scripted({})
    ahead.reply(runs[0], 1.0, lambda: worker)
    assert worker.waiting == ["b", "c"]


def test_what_nobody_asked_for_may_kill_a_worker_once() -> None:
    runs, ahead = asking("abcdef")
    workers: Any = [Scripted({"b": "dies"}), Scripted({"b": "dies"})]
    ahead.reply(runs[0], 1.0, lambda: workers[0])
    at_hand = iter([workers[0], workers[1], workers[1]])
    assert ahead.reply(runs[2], 1.0, lambda: next(at_hand)) == {"title": "c"}
    assert workers[1].waiting == []  # no more is foreseen
    with pytest.raises(WorkerDied):
        ahead.reply(runs[1], 1.0, lambda: workers[1])


def test_what_was_received_unasked_is_there_when_it_is_asked_for() -> None:
    runs, ahead = asking("abcd")
    worker: Any = Scripted({})
    ahead.reply(runs[0], 1.0, lambda: worker)
    ahead.reply(runs[3], 1.0, lambda: worker)
    assert worker.waiting == []
    assert ahead.reply(runs[1], 1.0, lambda: pytest.fail("it is there")) == {"title": "b"}
