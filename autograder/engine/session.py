"""pytest, collected once for a lesson and run over many submissions."""

from __future__ import annotations

import math
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from autograder.engine.ahead import Run
from autograder.engine.carry import earlier_to_replace
from autograder.engine.hidden_test import HiddenTest, run_protocol
from autograder.engine.judge import CellFailure, Judge
from autograder.engine.notebook import RunnableCell
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.recognition import recognise
from autograder.engine.rounded import take_from_devices
from autograder.engine.slips import ROUNDED
from autograder.engine.spawner import Zygote
from autograder.engine.standards import GraderDefect, Standards
from autograder.engine.submission import Submission
from autograder.engine.suspicion import suspicions
from autograder.engine.trial import NUMERICS
from autograder.engine.turns import Turns, ran_out
from autograder.engine.verdict import (
    PASSED,
    UNJUDGED,
    ExerciseResult,
    Postponed,
    TestResult,
    Verdict,
)
from autograder.lesson import Lesson

PYTEST_ARGUMENTS = (
    "--noconftest", "--assert=plain", "-p", "no:terminal", "-p", "no:cacheprovider",
    "-p", "no:logging", "-p", "no:faulthandler", "-p", "no:doctest", "-p", "no:unittest",
    "-p", "no:xdist", "-p", "no:randomly", "-p", "no:warnings", "-p", "no:hypothesispytest",
    "-o", "addopts=", "-o", "markers=exercise: what a hidden test judges",
)  # fmt: skip


MAX_CELL_ERRORS = 20
SEED_BYTES = 7
OPTIONS = "PYTEST_ADDOPTS"


@dataclass(frozen=True)
class Job:
    """One submission to be graded.

    Attributes:
        key: the caller's name for it.
        cells: what of it runs.
        only: exercises to be judged; all where it is empty.
        patience: seconds that others wait for one cell or run of it before it is postponed.
    """

    key: str
    cells: tuple[RunnableCell, ...]
    only: frozenset[str] = frozenset()
    patience: float = math.inf


@dataclass
class Session:
    """Grades submissions of one lesson, one after another, in one process.

    Args:
        lesson: whose hidden tests run.
        zygote: running.
        seed: of the hidden inputs; drawn afresh where it is None.
        judging: what runs a submission's code; the laws have one of their own for our answers.
        outcomes: of our own code, shared with the run's other processes, as is the seed then.
    """

    lesson: Lesson
    zygote: Zygote
    seed: int | None = None
    judging: type[Judge] = Judge
    outcomes: Outcomes = ALONE
    standards: Standards = field(init=False)

    def __post_init__(self) -> None:
        if self.seed is None:
            drawn = self.outcomes.of("seed", lambda: secrets.token_bytes(SEED_BYTES))
            self.seed = int.from_bytes(drawn, "big")
        self.standards = Standards(self.lesson, self.seed, self.outcomes)

    def grade(
        self,
        jobs: Iterable[Job],
        deliver: Callable[[Job, Verdict], None],
        postpone: Callable[[Job], None] | None = None,
    ) -> None:
        """Grade every job and deliver its verdict as it falls.

        Args:
            jobs: one after another; the next is asked for when the last is done with.
            deliver: told of a job and its verdict.
            postpone: told of a job that took longer than its patience, which gets no verdict.

        Raises:
            GraderDefect: the grader's file cannot be collected, or holds no tests.
        """
        plugin = _Plugin(self, jobs, deliver, postpone or (lambda _: None))
        with _only_our_options():
            arguments = [str(self.lesson.grader_file), *PYTEST_ARGUMENTS]
            status = pytest.main(arguments, plugins=[plugin])
        if plugin.raised is not None:
            raise plugin.raised
        if plugin.complaints or status not in (pytest.ExitCode.OK,):
            told = "\n".join(plugin.complaints) or f"pytest ended with {status!r}"
            raise GraderDefect(f"{self.lesson.grader_file} could not be collected:\n{told}")

    @property
    def accelerator(self) -> str:
        return "cuda" if self.zygote.policy.device == "cuda" else "fake"


@contextmanager
def _only_our_options() -> Iterator[None]:
    """Keep pytest from options that somebody has set for all of their own runs."""
    theirs = os.environ.pop(OPTIONS, None)
    try:
        yield
    finally:
        if theirs is not None:
            os.environ[OPTIONS] = theirs


class _Plugin:
    """The hooks through which pytest collects once and runs many times."""

    def __init__(
        self,
        session: Session,
        jobs: Iterable[Job],
        deliver: Callable[[Job, Verdict], None],
        postpone: Callable[[Job], None],
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._deliver = deliver
        self._postpone = postpone
        self._submission: Submission | None = None
        self._foreseen: dict[str, list[Run]] = {}
        self.complaints: list[str] = []
        self.raised: BaseException | None = None

    @pytest.fixture
    def submission(self) -> Submission:
        assert self._submission is not None
        return self._submission

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.complaints.append(str(report.longrepr))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.complaints:
            return True
        try:
            tests = [HiddenTest(item) for item in session.items]
            for test in tests:
                self._foreseen.setdefault(test.exercise.name, []).extend(test.foreseen)
            for job in self._jobs:
                try:
                    verdict = self._grade_in_turn(tests, job)
                except Postponed:
                    self._postpone(job)
                else:
                    self._deliver(job, verdict)
        except BaseException as error:
            self.raised = error
        return True

    def _grade_in_turn(self, tests: list[HiddenTest], job: Job) -> Verdict:
        if self._session.accelerator != "cuda":
            return self._grade(tests, job)
        turns = Turns()
        with turns.together():
            verdict = self._grade(tests, job)
        if ran_out(verdict):
            with turns.alone():
                verdict = self._grade(tests, job)
        return verdict

    def _grade(self, tests: list[HiddenTest], job: Job) -> Verdict:
        session = self._session
        judging = session.judging(
            session.zygote,
            session.standards,
            job.cells,
            foreseen=self._foreseen,
            patience=job.patience,
        )
        with judging as judge:
            results = self._run(tests, judge, job.only)
            cell_errors = _cell_errors(judge.failures.values())
            dtypes = _dtypes(judge)
        for name in self._session.lesson.exercises:
            if name in results and results[name].score < results[name].max_score:
                self._carry(tests, judge, results, name)
        _flag_suspicions(job.cells, results)
        zygote = self._session.zygote
        exercises = list(results.values())
        return Verdict(
            lesson=self._session.lesson.key,
            score=_rounded(sum(e.score for e in exercises)),
            max_score=_rounded(sum(e.max_score for e in exercises)),
            devices=["cpu", self._session.accelerator],
            dtypes=dtypes,
            not_run=[] if self._session.accelerator == "cuda" else ["cuda"],
            numerics=dict(NUMERICS) if self._session.accelerator == "cuda" else {},
            sandbox={"in force": zygote.layers, "missing": zygote.missing},
            exercises=exercises,
            cell_errors=cell_errors,
        )

    def _carry(
        self,
        tests: list[HiddenTest],
        judge: Judge,
        results: dict[str, ExerciseResult],
        name: str,
    ) -> None:
        """Judge an exercise again with correct earlier ones in place of the student's."""
        replaced = earlier_to_replace(self._session.lesson, name, results, judge.cells)
        if not replaced:
            return
        with judge.with_stand_ins(replaced) as second:
            again = self._run(tests, second, frozenset({name}))[name]
        if again.score > results[name].score:
            told = ", ".join(f"`{other}`" for other in sorted(replaced))
            again.note = (
                f"Your {told} is not right yet, so this was judged with a correct one in its place."
            )
            again.stood_in = sorted(replaced)
            results[name] = again

    def _run(
        self, tests: list[HiddenTest], judge: Judge, only: frozenset[str]
    ) -> dict[str, ExerciseResult]:
        results: dict[str, ExerciseResult] = {}
        rounded: dict[str, list[TestResult]] = {}
        for test in tests:
            name = test.exercise.name
            if only and name not in only:
                continue
            submission = Submission(test.exercise, judge, self._session.accelerator)
            self._submission = submission
            outcome = test.run(submission, lambda item: run_protocol(item, following=None))
            earned = test.points if outcome.status in (PASSED, UNJUDGED) else 0.0
            result = results.setdefault(name, ExerciseResult(name, 0.0, 0.0, []))
            told = TestResult(
                name=test.title,
                outcome=outcome.status,
                points=_rounded(earned),
                max_points=_rounded(test.points),
                message=outcome.message,
                device=submission.device,
            )
            result.tests.append(told)
            if submission.is_rounded:
                rounded.setdefault(name, []).append(told)
            result.score += earned
            result.max_score += test.points
            result.error = result.error or submission.error
        for result in results.values():
            self._conclude(result, judge, rounded.get(result.name, []))
        return results

    def _conclude(
        self, result: ExerciseResult, judge: Judge, rounded: Sequence[TestResult]
    ) -> None:
        exercise = self._session.lesson.exercises[result.name]
        result.score = _rounded(result.score)
        result.max_score = _rounded(result.max_score)
        if any(t.outcome == UNJUDGED for t in result.tests) and result.score > 0:
            passed = any(t.outcome == PASSED for t in result.tests)
            if not passed:
                result.score = 0.0
        try:
            for use in judge.uses(exercise):
                told = f"uses {use.name} in cell {use.cell}, line {use.line}: {use.text}"
                result.flags.append(told)
            result.flags += judge.oddities.get(result.name, [])
            records = judge.records.get(result.name, [])
            found = recognise(exercise, records, self._session.standards)
        except Exception as error:
            # Without its name a mistake is still judged; the class goes on.
            print(f"{result.name}: recognition failed: {error!r}", file=sys.stderr)
            found = None
        if found and found.name == ROUNDED:
            take_from_devices(result, rounded)
        if found and result.score < result.max_score:
            result.mistake, result.hint = found.name, found.hint


def _flag_suspicions(cells: Sequence[RunnableCell], results: dict[str, ExerciseResult]) -> None:
    """Show a person the lines that prove nothing and are odd all the same."""
    for use in suspicions([(cell.name, cell.source) for cell in cells]):
        result = results.get(use.cell) or next(iter(results.values()))
        told = f"look at {use.name} in cell {use.cell}, line {use.line}: {use.text}"
        result.flags.append(told)


def _dtypes(judge: Judge) -> dict[str, list[str]]:
    settings = {record.setting for records in judge.records.values() for record in records}
    found: dict[str, list[str]] = {}
    for setting in sorted(settings, key=str):
        name = str(setting.dtype).removeprefix("torch.")
        found.setdefault(setting.device, []).append(name)
    return found


def _cell_errors(failures: Iterable[CellFailure]) -> list[str]:
    """What the student's own cells met; the first of them where there are very many."""
    told = [f"cell {f.cell.name} {f.message}" for f in failures if f.cell.exercise is None]
    surplus = len(told) - MAX_CELL_ERRORS
    return [*told[:MAX_CELL_ERRORS], f"and {surplus} more cells"] if surplus > 0 else told


def _rounded(points: float) -> float:
    return round(points, 4)
