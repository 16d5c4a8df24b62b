"""What our own code did is computed once for all processes of a run, whoever of them dies."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from autograder.engine.assessor import Job
from autograder.engine.outcomes import HEAD, Outcomes
from autograder.engine.session import Session
from autograder.engine.spawner import Zygote
from autograder.engine.standards import Standards
from autograder.laws.answers import Answer, answers_of, job_of
from autograder.lesson import Lesson

NAMES = 40
PROCESSES = 4
# Each asks for all, in an order of its own; what it computes says who it was.
PROGRAM = """
import random, sys
from autograder.engine.outcomes import Outcomes

descriptor, who, names = int(sys.argv[1]), sys.argv[2], [str(n) for n in range(int(sys.argv[3]))]
outcomes = Outcomes(descriptor)
random.Random(who).shuffle(names)
computed = []

def compute(name):
    computed.append(name)
    return f"{name} by {who} ".encode() * 5000

found = {name: outcomes.of(name, lambda: compute(name)) for name in names}
print(len(computed), *sorted(value.decode()[:20].partition(" by")[0] for value in found.values()))
"""
DIES_COMPUTING = """
import os, sys
from autograder.engine.outcomes import Outcomes
Outcomes(int(sys.argv[1])).of("a", lambda: os._exit(0))
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def start(descriptor: int, program: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(descriptor), *map(str, given)]
    return subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True)


def test_each_is_computed_by_one_of_the_processes_and_had_by_all(descriptor: int) -> None:
    running = [start(descriptor, PROGRAM, who, NAMES) for who in range(PROCESSES)]
    told = [process.communicate(timeout=60)[0].split() for process in running]
    assert sum(int(count) for count, *_ in told) == NAMES
    assert all(names == sorted(str(n) for n in range(NAMES)) for _, *names in told)


def test_who_dies_computing_holds_nobody_up(descriptor: int) -> None:
    with start(descriptor, DIES_COMPUTING) as process:
        assert process.wait(timeout=60) == 0
    assert Outcomes(descriptor).of("a", lambda: b"found") == b"found"


@pytest.mark.parametrize("left", [5, HEAD.size, HEAD.size + 7])
def test_who_dies_adding_leaves_nothing(left: int, descriptor: int) -> None:
    Outcomes(descriptor).of("a", lambda: b"first")
    end = os.fstat(descriptor).st_size
    Outcomes(descriptor).of("b", lambda: b"not to be, as it was never whole")
    os.ftruncate(descriptor, end + left)
    later = Outcomes(descriptor)
    assert later.of("b", lambda: b"second") == b"second"
    assert later.of("c", lambda: b"third") == b"third"
    for name, found in (("a", b"first"), ("b", b"second"), ("c", b"third")):
        assert Outcomes(descriptor).of(name, lambda: pytest.fail("it is there")) == found


def test_where_nothing_can_be_kept_it_is_still_computed() -> None:
    descriptor = os.open("/dev/full", os.O_RDWR)
    try:
        outcomes = Outcomes(descriptor)
        assert [outcomes.of("a", lambda: b"found") for _ in range(2)] == [b"found"] * 2
    finally:
        os.close(descriptor)


def test_a_second_grader_runs_neither_reference_nor_mistake(
    losses: Lesson, zygote: Zygote, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Answer] = list(answers_of(losses, "wasserstein_generator_loss"))
    ran: list[object] = []
    run = Standards._run

    def counted(self: Standards, *given: Any) -> bytes:
        ran.append(given)
        return run(self, *given)

    monkeypatch.setattr(Standards, "_run", counted)

    def grade() -> tuple[int | None, list[Any], int]:
        ran.clear()
        told: list[Any] = []
        session = Session(losses, zygote, outcomes=Outcomes(descriptor))
        jobs: list[Job] = [job_of(losses, answer) for answer in answers]
        session.grade(jobs, lambda _, verdict: told.append(verdict.to_dict()))
        return session.seed, told, len(ran)

    seed, verdicts, count = grade()
    again, others, second = grade()
    assert count > 0
    assert second == 0
    assert (again, others) == (seed, verdicts)
    assert Session(losses, zygote).seed != seed
