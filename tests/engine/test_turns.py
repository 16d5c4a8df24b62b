"""Grader processes that share a GPU: who ran out of its memory is judged again by itself."""

import subprocess
import sys
import time

import pytest

from autograder.engine import assessor as assessing
from autograder.engine.assessor import Assessor, Job
from autograder.engine.grading import Plan
from autograder.engine.judge import Judge
from autograder.engine.session import Session
from autograder.engine.turns import Turns

HOLDER = """
import sys
from pathlib import Path
from autograder.engine.turns import Turns
with getattr(Turns(Path(sys.argv[1])), sys.argv[2])():
    print("in", flush=True)
    sys.stdin.read()
"""
FULL = "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB.')"


@pytest.fixture
def holder(tmp_path):
    """Another process, in its turn once this returns; it ends when its input is closed."""
    started = []

    def hold(how):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "locks"), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            stream.close()


def is_in(process):
    return process.stdout.readline() == b"in\n"


def test_several_are_together(holder):
    assert is_in(holder("together"))
    assert is_in(holder("together"))


def test_nobody_comes_in_while_one_is_alone(holder):
    first = holder("alone")
    assert is_in(first)
    second = holder("together")
    time.sleep(3.0)  # long enough to start; were it let in, it would say so
    first.stdin.close()
    left = time.monotonic()
    assert is_in(second)
    assert first.wait(timeout=30) == 0
    assert time.monotonic() - left < 30


def test_whoever_wants_to_be_alone_is_not_passed_by(holder):
    early = holder("together")
    assert is_in(early)
    waits = holder("alone")
    time.sleep(3.0)
    late = holder("together")
    time.sleep(3.0)
    early.stdin.close()
    assert is_in(waits)
    waits.stdin.close()
    assert is_in(late)


def test_a_turn_ends_with_the_process(holder):
    killed = holder("alone")
    assert is_in(killed)
    killed.kill()
    assert is_in(holder("together"))


def test_a_folder_of_somebody_elses_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="is not ours"):
        Turns(tmp_path / "locks")


@pytest.mark.parametrize(("stub", "times"), [(FULL, 2), ("return fake_logits.mean()", 1)])
def test_who_ran_out_is_judged_again(losses, zygote, fill, monkeypatch, tmp_path, stub, times):
    monkeypatch.setattr(Assessor, "accelerator", "cuda")
    monkeypatch.setattr(assessing, "Turns", lambda: Turns(tmp_path / "locks"))
    seen = []

    class Counting(Judge):
        def __enter__(self):
            seen.append(1)
            return super().__enter__()

        def run(self, exercise, case, setting):
            setting = type(setting)(setting.dtype, "cpu")  # there is no GPU here
            return super().run(exercise, case, setting)

    source = f"def generator_loss(fake_logits):\n    {stub}\n"
    job = Plan(losses).job("ann", fill(generator_loss=source))
    session = Session(losses, zygote, 1, Counting)
    monkeypatch.setattr(
        session.standards, "reference", _on_cpu(session.standards.reference), raising=True
    )
    monkeypatch.setattr(session.standards, "standard", _on_cpu(session.standards.standard))
    session.grade([Job(job.key, job.cells, frozenset({"generator_loss"}))], lambda *_: None)
    assert len(seen) == times


def _on_cpu(method):
    return lambda exercise, case, setting: method(
        exercise, case, type(setting)(setting.dtype, "cpu")
    )
