"""How many grader processes a GPU has room for."""

import subprocess
from types import SimpleNamespace

import pytest

from autograder.gradebook import crowd
from autograder.gradebook.crowd import Unmeasured, fitting, jobs_on

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "context", "cores", "jobs"),
    [
        (80 * GIB, GIB // 2, 16, 16),  # memory for forty, and sixteen cores
        (16 * GIB, GIB // 2, 16, 8),
        (8 * GIB, GIB // 2, 2, 2),
        (GIB, GIB // 2, 16, 1),  # one must try
        (4 * GIB, 0, 16, 4),
        (4 * GIB, -1, 16, 4),  # another program gave memory back meanwhile
    ],
)
def test_as_many_as_fit(free, context, cores, jobs):
    assert fitting(free, context, cores) == jobs


def test_what_was_measured_counts(monkeypatch):
    ran = SimpleNamespace(
        stdout=f'{{"free": {6 * GIB}, "context": {GIB}}}\n', stderr="", returncode=0
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ran)
    assert jobs_on(16) == 2


def test_where_nothing_can_be_measured_it_is_said_why(monkeypatch):
    ran = SimpleNamespace(stdout="", stderr="Traceback\nRuntimeError: no GPU\n", returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ran)
    with pytest.raises(Unmeasured, match="RuntimeError: no GPU"):
        jobs_on(16)


def test_a_gpu_that_does_not_answer(monkeypatch):
    def late(*_, **__):
        raise subprocess.TimeoutExpired("it", crowd.SECONDS)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(Unmeasured, match="did not answer"):
        jobs_on(16)
