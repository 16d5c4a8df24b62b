"""Where a submission's time goes: one process grades a class, and every stage is clocked."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from classroom import Pupil

from autograder.engine import assessor, grading, hold, spawner, standards
from autograder.engine.ahead import Ahead, Run
from autograder.engine.grading import grade_notebooks
from autograder.engine.notebook import parse_notebook
from autograder.engine.spawner import Zygote
from autograder.lesson import Lesson

Clock = dict[str, float]
# stage: where the engine's own functions of it are. What one calls of another's is the other's.
STAGES: dict[str, list[tuple[Any, str]]] = {
    "notebook": [(grading.Plan, "job")],
    "sandbox": [(spawner.Zygote, "fork"), (hold.Worker, "end")],
    "reference and mistakes": [
        (standards.Standards, "reference"),
        (standards.Standards, "mistake"),
        (standards.Standards, "standard"),
        (standards.Standards, "message"),
        (standards.Standards, "scenario"),
    ],
    "comparison": [(standards.Standards, "check"), (standards.Standards, "look")],
    "forbidden names": [(assessor.Judge, "uses"), (assessor, "suspicions")],
    "recognition": [(assessor, "recognise")],
}


def stages_of(lesson: Lesson, members: list[Pupil]) -> dict[str, float]:
    """Seconds by stage; the rest, "hidden tests", is pytest's and ours around all of these."""
    clock: Clock = defaultdict(float)
    running = [time.perf_counter()]
    started = time.perf_counter()
    with Zygote() as zygote:
        clock["start of the zygote"] = time.perf_counter() - started
        notebooks = [(p.student, parse_notebook(p.file.decode(), p.student)) for p in members]
        first = time.perf_counter()
        done: list[float] = []
        with ExitStack() as stack:
            for stage, places in STAGES.items():
                for owner, name in places:
                    timed = _timed(getattr(owner, name), clock, stage, running)
                    stack.enter_context(mock.patch.object(owner, name, timed))
            ask = _timed_by_operation(hold.Worker.ask, clock, running)
            stack.enter_context(mock.patch.object(hold.Worker, "ask", ask))
            reply = _timed_by_device(Ahead.reply, clock, running)
            stack.enter_context(mock.patch.object(Ahead, "reply", reply))
            grade_notebooks(
                lesson, notebooks, zygote, lambda *_: done.append(time.perf_counter()), seed=1
            )
    clock["hidden tests"] = (
        done[-1]
        - first
        - sum(seconds for stage, seconds in clock.items() if stage != "start of the zygote")
    )
    clock["first submission"] = done[0] - first
    return dict(clock)


def _timed(
    original: Callable[..., Any], clock: Clock, stage: str, running: list[float]
) -> Callable[..., Any]:
    """Clock a function; the time of clocked functions that it calls is theirs alone."""

    @functools.wraps(original)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with _on_the_clock(clock, stage, running):
            return original(*args, **kwargs)

    return timed


def _timed_by_operation(
    original: Callable[..., Any], clock: Clock, running: list[float]
) -> Callable[..., Any]:
    named = {"cell": "cells", "confine": "sandbox", "replace": "cells"}

    @functools.wraps(original)
    def timed(self: Any, operation: str, *args: Any, **kwargs: Any) -> Any:
        with _on_the_clock(clock, named[operation], running):
            return original(self, operation, *args, **kwargs)

    return timed


def _timed_by_device(
    original: Callable[..., Any], clock: Clock, running: list[float]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def timed(self: Any, run: Run, *args: Any, **kwargs: Any) -> Any:
        on_fake = run.setting.device == "fake"
        stage = "scenarios on the fake device" if on_fake else "scenarios"
        with _on_the_clock(clock, stage, running):
            return original(self, run, *args, **kwargs)

    return timed


@contextmanager
def _on_the_clock(clock: Clock, stage: str, running: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    running.append(0.0)  # what is called from here
    try:
        yield
    finally:
        inner = running.pop()
        whole = time.perf_counter() - started
        clock[stage] += whole - inner
        running[-1] += whole
