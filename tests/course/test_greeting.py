"""Unwritten exercises fail softly in a notebook; real mistakes keep their traceback."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from course import welcome


@pytest.fixture
def run():
    """Run cells in a fresh shell that has been welcomed."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    with capture_output() as greeting:
        welcome("A lesson")
    assert "A lesson: ready. Python" in greeting.stdout

    def cell(source):
        with capture_output() as captured:
            shell.run_cell(source)
        return captured.stdout

    yield cell
    InteractiveShell.clear_instance()


def test_an_unwritten_exercise_is_named(run):
    run("def adam_step():\n    raise NotImplementedError()")
    told = run("path = adam_step()")
    assert "uses an exercise that is not written yet: `adam_step`" in told
    assert "Traceback" not in told


def test_what_it_leaves_undefined_is_explained(run):
    run("raise NotImplementedError()")
    told = run("print(path)")
    assert "This cell uses `path`, which a cell above was to make" in told
    assert "Traceback" not in told


def test_a_misspelt_name_keeps_its_traceback(run):
    assert "NameError" in run("print(path)")


def test_other_errors_keep_their_traceback(run):
    run("raise NotImplementedError()")
    assert "ZeroDivisionError" in run("1 / 0")
