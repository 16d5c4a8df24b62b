"""Kill grading at random moments, over and over, and see that nothing is lost.

    python tests/gradebook/kill_storm.py --kills 50

Each kill strikes a class that is graded from the start: the command alone, everything that came
of it, or one process of it. Then grading is run again, and everything must be as if nothing had
happened. What each kill met is printed; the exit status is 1 where something was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from coursefolder import CourseFolder, made_course
from processes import survivors, tree_of

from autograder.gradebook.jsonfile import PART
from autograder.lesson import find_lesson

FORWARDPASS, NBGRADER = ("forwardpass", "grade"), ("nbgrader", "autograde")
GONE_SECONDS = 30.0
KINDS = {"everything": 5, "the command": 4, "one process": 1}
SAID = re.compile(r"(\d+) notebooks graded, (\d+) unchanged")

Grades = dict[str, dict[str, tuple[float | None, bool]]]


@dataclass
class Strike:
    """One kill: when (seconds past a step), of what, with how much done, and what was wrong afterwards."""

    command: str
    kind: str
    after: float
    steps: int = 0
    kept: int = 0
    entered: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = "; ".join(self.wrong) or "nothing lost"
        since = f" past step {self.steps}" if self.steps else ""
        return (
            f"{self.command}, {self.kind} killed {self.after:.2f} s{since}: {self.kept} verdicts "
            f"kept, {self.entered} students entered; {told}"
        )


@dataclass
class Storm:
    """A class in a course folder, to be graded undisturbed and then under kills."""

    course: CourseFolder
    seed: int
    stand_in: bool = False

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.course.run("nbgrader", "generate_assignment", self.course.assignment)
        self._pristine = self.course.root / "pristine.db"
        shutil.copy(self.course.root / "gradebook.db", self._pristine)
        started = time.monotonic()
        self.status = self._run(*FORWARDPASS).returncode
        self.seconds = time.monotonic() - started
        self.grades = self._grades()
        assert self.grades
        assert not self.course.disagreements()

    def strike(self, kind: str = "", program: tuple[str, ...] = ()) -> Strike:
        """Grade from the start, kill, grade again, compare."""
        self._reset()
        program = program or self._random.choice([FORWARDPASS, FORWARDPASS, NBGRADER])
        kind = kind or self._random.choices(list(KINDS), list(KINDS.values()))[0]
        # At any moment; or, as before the first verdict there is little to lose, soon after so
        # many verdicts are kept and students entered, however fast the machine is just now.
        steps = self._random.choice([0, self._random.randint(1, 2 * len(self.grades))])
        after = self._random.uniform(0, self.seconds if steps == 0 else 1.0)
        strike = Strike(program[0], kind, after, steps)
        self._kill(strike, program)
        before = self._contents()
        strike.kept, strike.entered = len(before), self._finished()
        again = self._random.choice([FORWARDPASS, FORWARDPASS, NBGRADER])
        done = self._run(*again)
        self._check(strike, before, done)
        return strike

    def _kill(self, strike: Strike, program: tuple[str, ...]) -> None:
        process = subprocess.Popen(
            self.course.command(*program, self.course.assignment, stand_in=self.stand_in),
            cwd=self.course.root,
            env=self.course.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and self._steps() < strike.steps:
            time.sleep(0.01)
        time.sleep(strike.after)
        tree = tree_of(process.pid)
        if strike.kind == "one process" and len(tree) > 1:
            self._random.choice(tree[1:]).kill()
            process.wait(timeout=200)
        elif strike.kind == "everything":
            for one in tree:
                one.kill()
        else:
            process.kill()
        process.wait(timeout=200)
        for one in survivors(tree, GONE_SECONDS):
            strike.wrong.append(f"still runs: {one.command}")
            one.kill()

    def _check(
        self, strike: Strike, before: dict[Path, bytes], done: subprocess.CompletedProcess[str]
    ) -> None:
        wrong = strike.wrong
        if done.returncode not in (self.status, 0):
            wrong.append(f"the next run ended with {done.returncode}: {done.stderr[-300:]}")
        said = SAID.search(done.stdout)
        if said and int(said[2]) < len(before):
            wrong.append(f"{len(before) - int(said[2])} graded twice")
        if any(path.read_bytes() != content for path, content in before.items()):
            wrong.append("a verdict was changed")
        if self._grades() != self.grades:
            wrong.append("grades differ from the undisturbed run's")
        wrong += self.course.disagreements()
        if len(self._contents()) != len(self.grades):
            wrong.append("verdicts are missing")
        if self._finished() != len(self.grades):
            wrong.append("students are not entered")
        wrong += [f"left behind: {p.name}" for p in self.course.root.rglob(f".*{PART}")]

    def _reset(self) -> None:
        for name in ("journal", "autograded"):
            shutil.rmtree(self.course.root / name, ignore_errors=True)
        for path in self.course.root.glob("gradebook.db*"):
            path.unlink()
        shutil.copy(self._pristine, self.course.root / "gradebook.db")

    def _run(self, *program: str) -> subprocess.CompletedProcess[str]:
        return self.course.run(
            *program, self.course.assignment, status=None, stand_in=self.stand_in
        )

    def _grades(self) -> Grades:
        return {student: self.course.grades(student) for student in self.course.students()}

    def _contents(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.course.root.glob("journal/*/*/[!.]*.json")}

    def _steps(self) -> int:
        return len(list(self.course.root.glob("journal/*/*/[!.]*.json"))) + self._finished()

    def _finished(self) -> int:
        journal = self.course.journal
        return sum(journal.finished(student) is not None for student in self.course.students())


def hand_in_class(course: CourseFolder, copies: int = 1) -> None:
    """Right, half right and broken notebooks, each so many times."""
    names = list(course.lesson.exercises)
    perfect = course.answered()
    for number in range(copies):
        course.hand_in(f"ann-{number}", perfect)
        course.hand_in(f"bob-{number}", course.answered(**{names[0]: None}))
        course.hand_in(f"cyd-{number}", course.answered(**dict.fromkeys(names[1:])))
        course.hand_in(f"dan-{number}", '{"nbformat": 4, "cells": [{"sou')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--stand-in", action="store_true", help="grade nothing, in no time")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        course = made_course(Path(folder), find_lesson("ch15_gan/losses"))
        hand_in_class(course, options.copies)
        storm = Storm(course, seed, options.stand_in)
        print(
            f"seed {seed}: {len(storm.grades)} submissions; undisturbed, {storm.seconds:.1f} s",
            flush=True,
        )
        strikes = []
        for number in range(1, options.kills + 1):
            strikes.append(storm.strike())
            print(f"{number:3}. {strikes[-1]}", flush=True)
    lost = [strike for strike in strikes if strike.wrong]
    kinds = Counter(f"{strike.command}, {strike.kind}" for strike in strikes)
    print(f"{len(strikes)} kills, {len(lost)} with something lost; {dict(kinds)}")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
