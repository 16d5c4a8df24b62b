"""pytest, collected once for a lesson and run over many submissions."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from autograder.engine.alike import KnownAnswers
from autograder.engine.assessor import Assessor, Job
from autograder.engine.hidden_test import HiddenTest
from autograder.engine.judge import Judge
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.spawner import Zygote
from autograder.engine.standards import GraderDefect, Standards
from autograder.engine.submission import Submission
from autograder.engine.verdict import Postponed, Verdict
from autograder.lesson import Lesson

PYTEST_ARGUMENTS = (
    "--noconftest", "--assert=plain", "-p", "no:terminal", "-p", "no:cacheprovider",
    "-p", "no:logging", "-p", "no:faulthandler", "-p", "no:doctest", "-p", "no:unittest",
    "-p", "no:xdist", "-p", "no:randomly", "-p", "no:warnings", "-p", "no:hypothesispytest",
    "-o", "addopts=", "-o", "markers=exercise: what a hidden test judges",
)  # fmt: skip


SEED_BYTES = 7
OPTIONS = "PYTEST_ADDOPTS"


@dataclass
class Session:
    """Grades submissions of one lesson, one after another, in one process.

    Args:
        lesson: whose hidden tests run.
        zygote: running.
        seed: of the hidden inputs; drawn afresh where it is None.
        judging: what runs a submission's code; the laws have one of their own for our answers.
        outcomes: of our own code, shared with the run's other processes, as is the seed then.
        alike: whether what several gave alike is judged once for all of them.
    """

    lesson: Lesson
    zygote: Zygote
    seed: int | None = None
    judging: type[Judge] = Judge
    outcomes: Outcomes = ALONE
    alike: bool = False
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

    def assessor(self, tests: Sequence[HiddenTest]) -> Assessor:
        """What the collected tests are run by."""
        answers = KnownAnswers(self.outcomes, self.standards.run) if self.alike else None
        return Assessor(tests, self.zygote, self.standards, self.judging, answers)


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
        self._assessor: Assessor | None = None
        self.complaints: list[str] = []
        self.raised: BaseException | None = None

    @pytest.fixture
    def submission(self) -> Submission:
        submission = self._assessor.submission if self._assessor else None
        assert submission is not None
        return submission

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.complaints.append(str(report.longrepr))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.complaints:
            return True
        try:
            tests = [HiddenTest(item) for item in session.items]
            self._assessor = self._session.assessor(tests)
            for job in self._jobs:
                try:
                    verdict = self._assessor.assess(job)
                except Postponed:
                    self._postpone(job)
                else:
                    self._deliver(job, verdict)
        except BaseException as error:
            self.raised = error
        return True
