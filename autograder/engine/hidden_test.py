"""One hidden test as pytest collected it: what it judges, and how it is run again and again."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from autograder.engine.ahead import Run
from autograder.engine.spawner import SandboxRefused
from autograder.engine.standards import GraderDefect
from autograder.engine.submission import Submission, settings_of
from autograder.engine.verdict import ERROR, FAILED, PASSED, UNJUDGED, Postponed
from autograder.spec import Case, Exercise

OUR_FIXTURES = frozenset({"submission", "case"})
OUR_MARKS = frozenset({"exercise", "parametrize"})


@dataclass
class Outcome:
    """How a test ended, and what the student is told."""

    status: str
    message: str = ""


class HiddenTest:
    """A test for one case of one exercise.

    Args:
        item: as pytest collected it.

    Raises:
        GraderDefect: it belongs to no exercise.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        mark = item.get_closest_marker("exercise")
        if mark is None:
            raise GraderDefect(
                f"{item.nodeid} belongs to no exercise: declare it with @<exercise>.test"
            )
        self.exercise: Exercise = mark.args[0]
        self.points = float(mark.kwargs["points"])

    @cached_property
    def title(self) -> str:
        """The test's docstring, then the case."""
        lines = (self._function.__doc__ or self.item.name).strip().split("\n")
        case = self._case
        return f"{lines[0].rstrip('.')}: {case}" if case else lines[0]

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self.item, "obj", pytest.fail)
        return function

    @property
    def _case(self) -> Case | None:
        call = getattr(self.item, "callspec", None)
        return call.params.get("case") if call else None

    @cached_property
    def _is_plain(self) -> bool:
        """Whether it asks pytest for nothing but what we hand it."""
        info = getattr(self.item, "_fixtureinfo", None)
        marks = {mark.name for mark in self.item.iter_markers()}
        return info is not None and set(info.names_closure) == OUR_FIXTURES and marks <= OUR_MARKS

    @cached_property
    def foreseen(self) -> list[Run]:
        """What it asks of an answer that is right, as far as that can be told beforehand."""
        asks = getattr(getattr(self._function, "__code__", None), "co_names", ())
        case = self._case
        if case is None or Submission.matches_reference.__name__ not in asks:
            return []
        return [Run(self.exercise, case, setting) for setting in settings_of(case)]

    def run(self, submission: Submission, through_pytest: Callable[[pytest.Item], None]) -> Outcome:
        """Judge a submission.

        A plain test is called as it is: pytest's own protocol takes longer than most tests, and
        has nothing to add where there is nothing to set up.

        Raises:
            SandboxRefused: grading must stop.
            Postponed: the submission takes too long for now.
        """
        try:
            if self._is_plain:
                self._function(submission=submission, case=self._case)
            else:
                through_pytest(self.item)
        except pytest.fail.Exception as failure:
            return Outcome(FAILED, str(failure))
        except pytest.skip.Exception as reason:
            return Outcome(UNJUDGED, str(reason))
        except (SandboxRefused, Postponed):
            raise
        except Exception as error:
            # A grader's own failure is for the instructor's eyes, never for the feedback.
            told = "".join(traceback.format_exception(error))
            print(f"grader error in {self.item.nodeid}:\n{told}", file=sys.stderr)
            return Outcome(ERROR, "The grader itself failed here; your instructor has been told.")
        return Outcome(PASSED)


def run_protocol(item: pytest.Item, following: pytest.Item | None) -> None:
    """Run an item by pytest's own protocol, once more, and pass on whatever it raises."""
    item._initrequest()  # type: ignore[attr-defined]  # what pytest's plugins for reruns do
    raised: list[BaseException] = []

    class Keeper:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(self, call: Any) -> Any:
            if call.excinfo is not None:
                raised.append(call.excinfo.value)
            return (yield)

    keeper = Keeper()
    item.config.pluginmanager.register(keeper)
    try:
        runtestprotocol(item, log=False, nextitem=following)
    finally:
        item.config.pluginmanager.unregister(keeper)
    if raised:
        raise raised[0]
