"""pytest, collected once for a lesson and run over many submissions."""

from __future__ import annotations

import secrets
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from _pytest.runner import runtestprotocol

from autograder.engine.carry import earlier_to_replace
from autograder.engine.judge import Judge
from autograder.engine.notebook import RunnableCell
from autograder.engine.recognition import recognise
from autograder.engine.spawner import SandboxRefused, Zygote
from autograder.engine.standards import GraderDefect, Standards
from autograder.engine.submission import Submission
from autograder.engine.verdict import (
    ERROR,
    FAILED,
    PASSED,
    UNJUDGED,
    ExerciseResult,
    TestResult,
    Verdict,
)
from autograder.lesson import Lesson
from autograder.spec import Exercise

PYTEST_ARGUMENTS = (
    "--noconftest", "--assert=plain", "-p", "no:terminal", "-p", "no:cacheprovider",
    "-p", "no:logging", "-p", "no:faulthandler", "-p", "no:doctest", "-p", "no:unittest",
    "-p", "no:xdist", "-p", "no:randomly", "-p", "no:warnings", "-p", "no:hypothesispytest",
    "-o", "addopts=", "-o", "markers=exercise: what a hidden test judges",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One submission to be graded.

    Attributes:
        key: the caller's name for it.
        cells: what of it runs.
        only: exercises to be judged; all where it is empty.
    """

    key: str
    cells: tuple[RunnableCell, ...]
    only: frozenset[str] = frozenset()


@dataclass
class Session:
    """Grades submissions of one lesson, one after another, in one process.

    Args:
        lesson: whose hidden tests run.
        zygote: running.
        seed: of the hidden inputs; drawn afresh where it is None.
    """

    lesson: Lesson
    zygote: Zygote
    seed: int | None = None
    standards: Standards = field(init=False)

    def __post_init__(self) -> None:
        seed = secrets.randbits(62) if self.seed is None else self.seed
        self.standards = Standards(self.lesson, seed)

    def grade(self, jobs: Iterable[Job], deliver: Callable[[Job, Verdict], None]) -> None:
        """Grade every job and deliver its verdict as it falls.

        Raises:
            GraderDefect: the grader's file cannot be collected, or holds no tests.
        """
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        plugin = _Plugin(self, jobs, deliver)
        status = pytest.main([str(self.lesson.grader_file), *PYTEST_ARGUMENTS], plugins=[plugin])
        if plugin.raised is not None:
            raise plugin.raised
        if plugin.complaints or status not in (pytest.ExitCode.OK,):
            told = "\n".join(plugin.complaints) or f"pytest ended with {status!r}"
            raise GraderDefect(f"{self.lesson.grader_file} could not be collected:\n{told}")

    @property
    def accelerator(self) -> str:
        return "cuda" if self.zygote.policy.device == "cuda" else "fake"


@dataclass
class _Outcome:
    status: str = ERROR
    message: str = ""


class _Plugin:
    """The hooks through which pytest collects once and runs many times."""

    def __init__(
        self,
        session: Session,
        jobs: Iterable[Job],
        deliver: Callable[[Job, Verdict], None],
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._deliver = deliver
        self._judge: Judge | None = None
        self._submissions: dict[str, Submission] = {}
        self._failure: BaseException | None = None
        self.complaints: list[str] = []
        self.raised: BaseException | None = None

    @pytest.fixture
    def submission(self, request: pytest.FixtureRequest) -> Submission:
        assert self._judge is not None
        exercise = _exercise_of(request.node)
        accelerator = self._session.accelerator
        found = Submission(exercise, self._judge, accelerator)
        self._submissions[request.node.nodeid] = found
        return found

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.complaints.append(str(report.longrepr))

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self) -> Generator[None, object, object]:
        """Tell a grader's own error from a failing answer, without pytest's costly traceback."""
        try:
            return (yield)
        except (pytest.fail.Exception, pytest.skip.Exception) as verdict:
            self._failure = verdict
            raise
        except Exception as error:
            self._failure = error
            pytest.fail("".join(traceback.format_exception(error)), pytrace=False)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.complaints:
            return True
        try:
            for job in self._jobs:
                self._deliver(job, self._grade(session.items, job))
        except BaseException as error:
            self.raised = error
        return True

    def _grade(self, items: list[pytest.Item], job: Job) -> Verdict:
        with Judge(self._session.zygote, self._session.standards, job.cells) as judge:
            results = self._run(items, judge, job.only)
            cell_errors = [
                f"cell {failure.cell.name} {failure.message}"
                for failure in judge.failures.values()
                if failure.cell.exercise is None
            ]
        for name in self._session.lesson.exercises:
            if name in results and results[name].score < results[name].max_score:
                self._carry(items, judge, results, name)
        zygote = self._session.zygote
        exercises = list(results.values())
        return Verdict(
            lesson=self._session.lesson.key,
            score=_rounded(sum(e.score for e in exercises)),
            max_score=_rounded(sum(e.max_score for e in exercises)),
            devices=["cpu", self._session.accelerator],
            sandbox={"in force": zygote.layers, "missing": zygote.missing},
            exercises=exercises,
            cell_errors=cell_errors,
        )

    def _carry(
        self,
        items: list[pytest.Item],
        judge: Judge,
        results: dict[str, ExerciseResult],
        name: str,
    ) -> None:
        """Judge an exercise again with correct earlier ones in place of the student's."""
        replaced = earlier_to_replace(self._session.lesson, name, results, judge.cells)
        if not replaced:
            return
        with judge.with_stand_ins(replaced) as second:
            again = self._run(items, second, frozenset({name}))[name]
        if again.score > results[name].score:
            told = ", ".join(f"`{other}`" for other in sorted(replaced))
            again.note = (
                f"Your {told} is not right yet, so this was judged with a correct one in its place."
            )
            again.stood_in = sorted(replaced)
            results[name] = again

    def _run(
        self, items: list[pytest.Item], judge: Judge, only: frozenset[str]
    ) -> dict[str, ExerciseResult]:
        self._judge = judge
        chosen = [item for item in items if not only or _exercise_of(item).name in only]
        results: dict[str, ExerciseResult] = {}
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            exercise = _exercise_of(item)
            points = float(_mark_of(item).kwargs["points"])
            outcome = self._run_item(item, following)
            submission = self._submissions.pop(item.nodeid, None)
            result = results.setdefault(exercise.name, ExerciseResult(exercise.name, 0.0, 0.0, []))
            earned = points if outcome.status in (PASSED, UNJUDGED) else 0.0
            result.tests.append(
                TestResult(
                    name=_title_of(item),
                    outcome=outcome.status,
                    points=_rounded(earned),
                    max_points=_rounded(points),
                    message=outcome.message,
                    device=submission.device if submission else "cpu",
                )
            )
            result.score += earned
            result.max_score += points
            if submission and submission.error and not result.error:
                result.error = submission.error
        for result in results.values():
            self._conclude(result, judge)
        return results

    def _run_item(self, item: pytest.Item, following: pytest.Item | None) -> _Outcome:
        # What pytest's own plugins for running a test again do.
        item._initrequest()  # type: ignore[attr-defined]
        outcome = _Outcome(PASSED)
        self._failure = None
        for report in runtestprotocol(item, log=False, nextitem=following):
            if report.skipped:
                outcome = _Outcome(UNJUDGED, _reason(report))
            elif report.failed:
                expected = isinstance(self._failure, pytest.fail.Exception)
                told = str(self._failure) if expected else str(report.longrepr)
                outcome = _Outcome(FAILED if expected else ERROR, told)
        if isinstance(self._failure, SandboxRefused):
            raise self._failure
        if outcome.status == ERROR:
            # A grader's own failure is for the instructor's eyes, never for the feedback.
            print(f"grader error in {item.nodeid}:\n{outcome.message}", file=sys.stderr)
            outcome.message = "The grader itself failed here; your instructor has been told."
        return outcome

    def _conclude(self, result: ExerciseResult, judge: Judge) -> None:
        exercise = self._session.lesson.exercises[result.name]
        result.score = _rounded(result.score)
        result.max_score = _rounded(result.max_score)
        if any(t.outcome == UNJUDGED for t in result.tests) and result.score > 0:
            passed = any(t.outcome == PASSED for t in result.tests)
            if not passed:
                result.score = 0.0
        for use in judge.uses(exercise):
            result.flags.append(f"uses {use.name} in cell {use.cell}, line {use.line}: {use.text}")
        try:
            records = judge.records.get(result.name, [])
            found = recognise(exercise, records, self._session.standards)
        except GraderDefect:
            found = None
        if found and result.score < result.max_score:
            result.mistake, result.hint = found.name, found.hint


def _exercise_of(item: pytest.Item) -> Exercise:
    found = _mark_of(item).args[0]
    assert isinstance(found, Exercise)
    return found


def _mark_of(item: pytest.Item) -> pytest.Mark:
    mark = item.get_closest_marker("exercise")
    if mark is None:
        raise GraderDefect(
            f"{item.nodeid} belongs to no exercise: declare it with @<exercise>.test"
        )
    return mark


def _title_of(item: pytest.Item) -> str:
    """The test's docstring, then the case."""
    function: Any = getattr(item, "obj", None)
    lines = (function.__doc__ or item.name).strip().split("\n")
    case = getattr(item, "callspec", None)
    return f"{lines[0].rstrip('.')}: {case.params['case']}" if case else lines[0]


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def _rounded(points: float) -> float:
    return round(points, 4)
