"""What a lesson takes from the notebook beside it, and what it says where that is not there yet."""

import json

import pytest

from course import earlier
from course.sibling import definitions_of

SETUP = "import torch\n\nSCALE = 2.0"
WRITTEN = "def double(x):\n    return SCALE * helper(x)"
HELPER = "def helper(x):\n    return x\n\nraise SystemError('a cell of their own, not run whole')"
STUB = 'def triple(x):\n    """Three times x."""\n    # YOUR CODE HERE\n    raise NotImplementedError()'


def code(source, role=None):
    metadata = {"forwardpass": {"role": role}} if role else {}
    return {"cell_type": "code", "metadata": metadata, "source": source.splitlines(keepends=True)}


@pytest.fixture
def beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def save(*cells):
        prose = {"cell_type": "markdown", "metadata": {}, "source": "text"}
        notebook = {"cells": [prose, *cells], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}
        (tmp_path / "backprop.ipynb").write_text(json.dumps(notebook))

    return save


def test_takes_what_the_student_wrote(beside, capsys):
    beside(code(SETUP, "setup"), code(WRITTEN, "exercise"), code(HELPER), code("1 / 0", "demo"))
    assert earlier("ch06_mlp/backprop", "double")(4.0) == 8.0
    assert capsys.readouterr().out == ""


def test_several_names_come_in_order(beside):
    beside(code("def a(): return 1", "exercise"), code("def b(): return 2", "exercise"))
    b, a = earlier("ch06_mlp/backprop", "b", "a")
    assert (a(), b()) == (1, 2)


def test_says_what_is_not_written_and_where(beside, capsys):
    beside(code(STUB, "exercise"))
    triple = earlier("ch06_mlp/backprop", "triple")
    told = "`triple` is not written yet in backprop.ipynb: write it there, save"
    assert told in capsys.readouterr().out
    with pytest.raises(NotImplementedError, match="`triple` is not written yet"):
        triple(1.0)


def test_a_filled_in_copy_counts(beside):
    beside(code(STUB, "exercise"), code("def triple(x):\n    return 3 * x"))
    assert earlier("ch06_mlp/backprop", "triple")(2) == 6


def test_says_that_the_notebook_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    double = earlier("ch06_mlp/backprop", "double")
    assert "backprop.ipynb is not beside this notebook" in capsys.readouterr().out
    with pytest.raises(NotImplementedError, match="put it there"):
        double(1.0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}'])
def test_a_broken_notebook_is_said_to_be_so(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backprop.ipynb").write_text(text)
    earlier("ch06_mlp/backprop", "double")
    assert "backprop.ipynb cannot be read as a notebook" in capsys.readouterr().out


def test_a_cell_that_stops_is_told(beside, capsys):
    beside(code("def double(x):\nreturn x", "exercise"))
    earlier("ch06_mlp/backprop", "double")
    told = capsys.readouterr().out
    assert "`double` could not be taken from backprop.ipynb, where a cell stops with" in told
    assert "IndentationError" in told


def test_only_definitions_of_other_cells_run():
    source = "import math\nx = 1 / 0\n\n@wraps\ndef f():\n    return 1\n\nclass A:\n    pass\nf()"
    expected = "import math\n@wraps\ndef f():\n    return 1\nclass A:\n    pass"
    assert definitions_of(source) == expected
    assert definitions_of("def broken(") == ""
