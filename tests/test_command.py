"""The command line: what is wrong is said in a line, and the exit status tells which kind it is."""

import json
import subprocess
import sys

import pytest

from autograder.command import main
from autograder.lesson import find_lesson
from course.command import main as students_main

UNGRADED, USAGE = 1, 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty; download or save it again"),
        ("not a notebook", "is not a notebook, or is cut short"),
        ('{"nbformat": 4, "cells": [{"cell_ty', "is not a notebook, or is cut short"),
        ('{"nbformat": 3, "worksheets": []}', "has notebook format 3, but format 4 is needed"),
        ('{"cells": []}', "is JSON but not a notebook: it has no nbformat"),
        ('{"nbformat": 4, "cells": []}', "which lesson this answers cannot be told"),
        (
            '{"nbformat": 4, "cells": [], "metadata": {"forwardpass": {"lesson": "../../etc"}}}',
            "the lessons are: ch03_gradients/derivatives",
        ),
    ],
)
def test_bad_notebooks_are_refused_with_the_reason(tmp_path, capsys, content, told):
    path = tmp_path / "handed_in.ipynb"
    path.write_text(content)
    assert main(["grade-notebook", str(path)]) == UNGRADED
    error = capsys.readouterr().err
    assert str(path) in error
    assert told in error
    assert "Traceback" not in error
    assert path.read_text() == content


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert main(["grade-notebook", str(tmp_path / "gone.ipynb")]) == UNGRADED
    assert "gone.ipynb does not exist" in capsys.readouterr().err


def test_an_unknown_device_and_command_are_wrong_usage(capsys):
    for arguments in (["grade-notebook"], ["bake"], ["grade-notebook", "x", "--device", "tpu"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == USAGE
    capsys.readouterr()


def test_cuda_where_there_is_none_is_wrong_usage(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["grade-notebook", str(tmp_path / "x.ipynb"), "--device", "cuda"]) == USAGE
    assert "PyTorch sees no CUDA device here" in capsys.readouterr().err


def test_a_notebook_is_graded_into_the_documented_json(tmp_path, fill, capsys):
    path, out = tmp_path / "any name.ipynb", tmp_path / "verdict.json"
    path.write_text(json.dumps(fill(generator_loss="def generator_loss(fake_logits):\n    pass\n")))
    assert main(["grade-notebook", str(path), "--json", str(out), "--seed", "3"]) == 0
    data = json.loads(out.read_text())
    assert set(data) >= {"lesson", "score", "max_score", "devices", "sandbox", "exercises"}
    assert data["lesson"] == "ch15_gan/losses"
    assert 0 < data["score"] < data["max_score"]
    exercise = next(e for e in data["exercises"] if e["name"] == "generator_loss")
    assert set(exercise) >= {"name", "score", "max_score", "mistake", "tests"}
    assert exercise["score"] == 0
    assert exercise["mistake"]
    assert set(exercise["tests"][0]) >= {"name", "outcome", "points", "message", "device"}
    printed = capsys.readouterr().out
    assert "ch15_gan/losses" in printed
    assert "landlock" in printed


def test_json_that_cannot_be_written_says_so(tmp_path, fill, capsys):
    path = tmp_path / "it.ipynb"
    path.write_text(json.dumps(fill()))
    out = tmp_path / "no such folder" / "verdict.json"
    assert main(["grade-notebook", str(path), "--json", str(out)]) == UNGRADED
    assert "verdict.json cannot be written: No such file or directory" in capsys.readouterr().err


def test_the_built_rooms_are_checked(capsys):
    assert main(["build", "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_a_stale_room_is_named(capsys, monkeypatch):
    lesson = find_lesson("ch15_gan/losses")
    monkeypatch.setattr(
        "autograder.commands.build.build", lambda _: {lesson.source: b"{}", lesson.release: b"{}"}
    )
    assert main(["build", "--check"]) == 1
    told = capsys.readouterr()
    assert "stale: source/ch15_gan/losses.ipynb" in told.out
    assert "nothing builds this, remove it: source/ch06_mlp/backprop.ipynb" in told.err
    assert "run `forwardpass build`" in told.err


def test_the_students_package_says_where_the_rest_is(capsys, monkeypatch):
    monkeypatch.setattr("course.command.find_spec", lambda _: None)
    assert students_main() == USAGE
    assert "open a lesson's notebook" in capsys.readouterr().err


def test_the_engine_imports_nothing_of_jupyter():
    program = (
        "import sys\n"
        "import autograder.engine.grading, autograder.laws.validation, autograder.spec\n"
        "from autograder.lesson import all_lessons\n"
        "[lesson.grader for lesson in all_lessons()]\n"
        "found = [m for m in sys.modules if m.split('.')[0] in "
        "('nbgrader', 'nbconvert', 'nbclient', 'jupytext', 'IPython', 'jupyter_client', 'rich')]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
