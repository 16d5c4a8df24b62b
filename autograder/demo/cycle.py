"""The whole nbgrader cycle, step by step, by the commands that an instructor would type."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autograder.command import CommandError
from autograder.demo import desk
from autograder.demo.course import DemoCourse
from autograder.demo.submissions import Submission
from autograder.lesson import ROOT

TAIL = 12
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Step:
    """One step of the cycle.

    Attributes:
        title: the command, or what is done.
        run: does it; called with a function to tell how much of it is done, from 0 to 1.
    """

    title: str
    run: Callable[[Callable[[float], None]], None]


# Tracks that may run at the same time, each some steps in order.
Stage = list[list[Step]]


@dataclass
class Cycle:
    """From source/ to the report, in a demo course.

    The first student types nbgrader's commands, as in a terminal; the others hand in through
    the same exchange as JupyterLab's buttons do, which is much faster than a process for each.

    Args:
        course: created.
        submissions: what the class hands in.
        grading: further arguments of ``forwardpass grade``.
    """

    course: DemoCourse
    submissions: Sequence[Submission]
    grading: Sequence[str] = ()

    def stages(self) -> Iterator[Stage]:
        """The stages in order."""
        name = self.course.assignment
        yield [[self._nbgrader("generate_assignment", name)]]
        yield [[self._nbgrader("release_assignment", name)]]
        typing, others = self.submissions[0], self.submissions[1:]
        yield [
            [self._nbgrader("db student import", str(self.course.class_list))],
            [
                self._typed("fetch_assignment", typing),
                Step(f"{typing.student} works", lambda _: desk.write(self.course, typing)),
                self._typed("submit", typing),
            ],
            [Step("the others fetch, work and submit", partial(self._others_work, others))],
        ]
        yield [[self._nbgrader("collect", name)]]
        yield [[Step(f"forwardpass grade {name}", self._grade)]]
        yield [
            [
                self._nbgrader("generate_feedback", name),
                self._nbgrader("release_feedback", name),
                self._typed("fetch_feedback", typing),
            ],
            [
                self._nbgrader("export", "--to", str(self.course.grades)),
                Step(f"forwardpass report {name}", self._report),
            ],
        ]

    def _nbgrader(self, command: str, *arguments: str) -> Step:
        shown = " ".join([command, *(Path(a).name for a in arguments)])
        call = ["nbgrader", *command.split(), *arguments]
        return Step(f"nbgrader {shown}", lambda _: self._call(command, call, self.course.folder))

    def _typed(self, command: str, submission: Submission) -> Step:
        """A command of nbgrader's that a student types."""
        student = submission.student

        def run(_: Callable[[float], None]) -> None:
            call = ["nbgrader", command, self.course.assignment]
            call += desk.arguments(self.course, student)
            self._call(f"{command} {student}", call, desk.home(self.course, student))

        return Step(f"nbgrader {command} {self.course.assignment}, typed by {student}", run)

    def _others_work(
        self, submissions: Sequence[Submission], progress: Callable[[float], None]
    ) -> None:
        for done, submission in enumerate(submissions, start=1):
            desk.fetch(self.course, submission.student)
            desk.write(self.course, submission)
            desk.submit(self.course, submission.student)
            progress(done / len(submissions))

    def _grade(self, progress: Callable[[float], None]) -> None:
        name, folder = self.course.assignment, self.course.folder
        told = self.course.log("grade").with_suffix(".json")
        call = ["autograder.command", "grade", name, "--json", str(told), *self.grading]
        halves = (folder / "journal" / name, "*/*.json"), (folder / "autograded", f"*/{name}")

        def watch() -> None:
            done = sum(len(list(half.glob(pattern))) for half, pattern in halves)
            progress(done / len(self.submissions) / len(halves))

        # 1: something could not be graded. In this class something cannot; the table says what.
        self._call(
            "grade",
            call,
            folder,
            watch,
            accepted=lambda status: status == 0 or (status == 1 and told.exists()),
        )

    def _report(self, _: Callable[[float], None]) -> None:
        call = ["autograder.command", "report", self.course.assignment]
        self._call("report", [*call, "--output", str(self.course.report)], self.course.folder)

    def _call(
        self,
        step: str,
        module: Sequence[str],
        folder: Path,
        watch: Callable[[], None] = lambda: None,
        accepted: Callable[[int], bool] = lambda status: status == 0,
    ) -> None:
        """Run a Python module's command in a folder.

        Raises:
            CommandError: it failed; the message says how and where its output is.
        """
        log = self.course.log(step)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    watch()
                    time.sleep(POLL_SECONDS)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if not accepted(process.returncode):
            told = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            raise CommandError(
                f"`{' '.join(module)}` ended with status {process.returncode}; the end of its "
                f"output ({log}):\n" + "\n".join(f"  {line}" for line in told)
            )

    def _environment(self) -> dict[str, str]:
        """Our own environment, but out of reach of the user's own nbgrader settings."""
        jupyter = str(self.course.folder / ".jupyter")
        # nbgrader starts `alembic` by its name: it is beside this Python, activated or not.
        prepended = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
        own = {
            name: os.pathsep.join(filter(None, [first, os.environ.get(name)]))
            for name, first in prepended.items()
        }
        return {**os.environ, **own, "JUPYTER_CONFIG_DIR": jupyter, "JUPYTER_DATA_DIR": jupyter}
