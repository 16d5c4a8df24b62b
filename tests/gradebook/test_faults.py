"""A full disk, a read-only folder, a locked gradebook: told plainly, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from coursefolder import CourseFolder
from kill_storm import hand_in_class

GRADE = ("forwardpass", "grade", "ch15_gan")
Fault = Callable[[CourseFolder], AbstractContextManager[list[str]]]


@pytest.fixture(scope="module")
def ungraded(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    course = make_course()
    hand_in_class(course)
    course.run("nbgrader", "generate_assignment", course.assignment, stand_in=True)
    shutil.copy(course.root / "gradebook.db", course.root / "pristine.db")
    return course


@pytest.fixture
def course(ungraded: CourseFolder) -> CourseFolder:
    for name in ("journal", "autograded"):
        shutil.rmtree(ungraded.root / name, ignore_errors=True)
    shutil.copy(ungraded.root / "pristine.db", ungraded.root / "gradebook.db")
    return ungraded


@contextlib.contextmanager
def full_for_verdicts(_course: CourseFolder) -> Iterator[list[str]]:
    yield ["prlimit", "--fsize=900"]


@contextlib.contextmanager
def full_for_grades(_course: CourseFolder) -> Iterator[list[str]]:
    yield ["prlimit", "--fsize=8000"]


def mounted(script: str) -> list[str]:
    """A prefix that runs a command where something is mounted, seen by nothing else."""
    prefix = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts")
    return [*prefix, "sh", "-c", f'{script} && exec "$@"', "sh"]


@contextlib.contextmanager
def small_journal(course: CourseFolder) -> Iterator[list[str]]:
    (course.root / "journal").mkdir()
    yield mounted("mount -t tmpfs -o size=8k,nr_inodes=100 tmpfs journal")


@contextlib.contextmanager
def read_only_journal(course: CourseFolder) -> Iterator[list[str]]:
    (course.root / "journal").mkdir()
    yield mounted("mount -t tmpfs -o ro tmpfs journal")


@contextlib.contextmanager
def read_only_gradebook(_course: CourseFolder) -> Iterator[list[str]]:
    yield mounted("mount --bind gradebook.db gradebook.db && mount -o remount,bind,ro gradebook.db")


@contextlib.contextmanager
def locked(course: CourseFolder, how: str) -> Iterator[list[str]]:
    holder = sqlite3.connect(course.root / "gradebook.db", isolation_level=None)
    with contextlib.closing(holder):
        holder.execute(f"begin {how}")
        yield []


@contextlib.contextmanager
def damaged(course: CourseFolder) -> Iterator[list[str]]:
    path = course.root / "gradebook.db"
    content = path.read_bytes()
    path.write_bytes(b"not a gradebook" * 400)
    yield []
    path.write_bytes(content)


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "no space for verdicts": (
        full_for_verdicts,
        ("journal/ch15_gan/", "(File too large): free some space there, then grade again"),
    ),
    "no space for grades": (
        full_for_grades,
        ("the grades of 0 students were entered; all verdicts are kept", "gradebook.db",
         "free some space there"),
    ),
    "a small disk": (small_journal, ("(No space left on device): free some space",)),
    "a read-only journal": (
        read_only_journal,
        ("journal/ch15_gan cannot be written (Read-only file system)", "that you may write to"),
    ),
    "a read-only gradebook": (
        read_only_gradebook, ("gradebook.db may not be written: give yourself that right",)
    ),
    "a gradebook that is read elsewhere": (
        lambda course: locked(course, "immediate"),
        ("all verdicts are kept", "another program holds", "gradebook.db: close what has it open"),
    ),
    "a locked gradebook": (lambda course: locked(course, "exclusive"), ("another program holds",)),
    "a damaged gradebook": (damaged, ("gradebook.db is damaged: put a backup of it in its place",)),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_it_says_what_is_wrong_and_the_next_run_completes(course: CourseFolder, what: str) -> None:
    fault, told = FAULTS[what]
    with fault(course) as prefix:
        done = subprocess.run(
            [*prefix, *course.command(*GRADE, stand_in=True)],
            cwd=course.root, env=course.environment, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    for part in told:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("forwardpass grade: ")
    kept = course.records()
    again = course.run(*GRADE, status=1, stand_in=True)  # 1: dan's notebook is cut short
    assert f"{4 - len(kept)} notebooks graded, {len(kept)} unchanged" in again.stdout
    assert not course.disagreements()
    assert len(course.records()) == 4
    assert not list(Path(course.root).rglob(".*.part"))


@pytest.mark.parametrize("what", ["no space for verdicts", "a gradebook that is read elsewhere"])
def test_nbgraders_own_command_loses_nothing_either(course: CourseFolder, what: str) -> None:
    fault, _ = FAULTS[what]
    with fault(course) as prefix:
        done = subprocess.run(
            [*prefix, *course.command("nbgrader", "autograde", "ch15_gan", stand_in=True)],
            cwd=course.root, env=course.environment, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    course.run("nbgrader", "autograde", "ch15_gan", stand_in=True)
    assert not course.disagreements()
    assert len(course.records()) == 4
