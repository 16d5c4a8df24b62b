"""Killed at any moment, grading loses nothing, does nothing twice and leaves nothing running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from coursefolder import CourseFolder
from kill_storm import FORWARDPASS, NBGRADER, Storm, hand_in_class
from processes import survivors, tree_of

from autograder.gradebook.journal import Busy, Journal

SECOND = os.sysconf("SC_CLK_TCK")
ENDLESS = "def {name}(*_):\n    while True:\n        pass"


@pytest.fixture(scope="module")
def storm(make_course: Callable[[], CourseFolder]) -> Storm:
    course = make_course()
    hand_in_class(course)
    return Storm(course, seed=3, stand_in=True)


@pytest.mark.parametrize(
    ("kind", "program"), [("everything", FORWARDPASS), ("the command", NBGRADER)]
)
def test_the_next_run_comes_to_what_an_undisturbed_one_does(
    storm: Storm, kind: str, program: tuple[str, ...]
) -> None:
    strike = storm.strike(kind, program)
    assert not strike.wrong, str(strike)


@pytest.fixture
def endless(make_course: Callable[[], CourseFolder]) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the midst of a notebook that takes long, with all its processes."""
    course = make_course()
    course.run("nbgrader", "generate_assignment", course.assignment)
    names = list(course.lesson.exercises)
    course.hand_in("eve", course.answered(**{name: ENDLESS.format(name=name) for name in names}))
    command = course.command("forwardpass", "grade", course.assignment)
    process = subprocess.Popen(
        command, cwd=course.root, env=course.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 150
    while not any(_busy(one.pid) for one in tree_of(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def _busy(pid: int) -> bool:
    """Whether it is a worker, filtered more than we are, that has computed for a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return _filters(pid) > _filters(os.getpid()) and int(fields[11]) > SECOND
    except OSError:
        return False


def _filters(pid: int) -> int:
    found = re.search(r"Seccomp_filters:\s*(\d+)", Path(f"/proc/{pid}/status").read_text("utf-8"))
    return int(found[1]) if found else 0


def test_nothing_runs_on_when_the_command_is_killed(endless: subprocess.Popen[bytes]) -> None:
    tree = tree_of(endless.pid)
    assert len(tree) >= 4  # the command, a grader, a zygote and a worker
    endless.kill()
    endless.wait()
    assert not survivors(tree, 20)


def test_asked_to_end_the_command_ends_all(endless: subprocess.Popen[bytes]) -> None:
    tree = tree_of(endless.pid)
    endless.send_signal(signal.SIGTERM)
    endless.wait(timeout=60)
    assert not survivors(tree, 20)


def test_two_runs_do_not_grade_at_once(storm: Storm) -> None:
    course = storm.course
    with course.journal.alone():
        done = course.run(*FORWARDPASS, course.assignment, status=1, stand_in=True)
        assert "another run is grading ch15_gan: wait for it to end" in done.stderr
        done = course.run(*NBGRADER, course.assignment, status=1, stand_in=True)
        assert "another run is grading ch15_gan" in done.stderr
    with course.journal.alone(), pytest.raises(Busy):
        Journal(course.root / "journal", course.assignment).alone().__enter__()
