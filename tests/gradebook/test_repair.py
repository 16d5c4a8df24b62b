"""A submission rebuilt on the lesson's own notebook, whatever became of its cells."""

from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest

from autograder.engine.notebook import grade_id, source_of
from autograder.gradebook.repair import Repair, handed_out

Notebook = dict[str, Any]


def code(source: str, **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": "x", "metadata": metadata, "source": source,
        "outputs": [], "execution_count": None,
    }  # fmt: skip


SOLUTION = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
STUB = "def f(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
TESTS = "# f: 2 points.\n### BEGIN HIDDEN TESTS\nraise RuntimeError()\n### END HIDDEN TESTS"


@pytest.fixture
def source() -> Notebook:
    def told(name: str, **more: Any) -> dict[str, Any]:
        return {"grade_id": name, "schema_version": 3, "task": False, **more}

    solution = told("f", grade=False, solution=True, locked=False)
    tests = told("f_tests", grade=True, solution=False, locked=True, points=2)
    cells = [
        {"cell_type": "markdown", "metadata": {"forwardpass": {"role": "prose"}}, "source": "# F"},
        code("import torch", forwardpass={"role": "setup"}),
        code(SOLUTION, forwardpass={"role": "exercise", "exercise": "f"}, nbgrader=solution),
        code("f(1)", forwardpass={"role": "check"}),
        code(TESTS, forwardpass={"role": "tests", "exercise": "f"}, nbgrader=tests),
    ]
    for i, cell in enumerate(cells):
        cell["id"] = f"f-{i}"
    metadata = {
        "forwardpass": {"lesson": "ch/f"},
        "kernelspec": {"name": "python3", "display_name": "3"},
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def release(source: Notebook) -> Notebook:
    release = copy.deepcopy(source)
    for cell in release["cells"]:
        cell["source"] = handed_out(cell)
    return release


def texts(notebook: Notebook) -> list[str]:
    return [source_of(cell) for cell in notebook["cells"]]


def rebuilt(source: Notebook, submitted: Notebook) -> tuple[Notebook, list[str]]:
    """The rebuilt notebook, which is always a valid one with the lesson's cells in order."""
    repair = Repair(source)
    notebook = repair.rebuild(json.loads(json.dumps(submitted)))
    nbformat.validate(nbformat.from_dict(notebook))
    json.dumps(notebook, ensure_ascii=False).encode()
    ids = [cell["id"] for cell in notebook["cells"]]
    assert [i for i in ids if i.startswith("f-")] == [cell["id"] for cell in source["cells"]]
    assert len(set(ids)) == len(ids)
    graded = {grade_id(cell): cell["metadata"] for cell in source["cells"] if grade_id(cell)}
    assert {grade_id(c): c["metadata"] for c in notebook["cells"] if grade_id(c)} == graded
    return notebook, repair.notes


def test_what_is_handed_out_holds_neither_solution_nor_tests(release: Notebook) -> None:
    assert texts(release) == ["# F", "import torch", STUB, "f(1)", "# f: 2 points."]


def test_answers_and_own_cells_stay_in_their_places(source: Notebook, release: Notebook) -> None:
    release["cells"][2]["source"] = "def f(x): return 2 * x"
    release["cells"].insert(2, code("import math"))
    release["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "the end"})
    notebook, notes = rebuilt(source, release)
    expected = ["# F", "import torch", "import math", "def f(x): return 2 * x", "f(1)", TESTS]
    assert texts(notebook) == [*expected, "the end"]
    assert notes == []


@pytest.mark.parametrize("kept", ["metadata", "ids", "neither"])
def test_answers_are_found_without_ids_or_metadata(
    source: Notebook, release: Notebook, kept: str
) -> None:
    release["cells"][2]["source"] = "def f(x): return 2 * x"
    for cell in release["cells"]:
        if kept != "metadata":
            cell["metadata"] = {}
        if kept != "ids":
            del cell["id"]
    notebook, _ = rebuilt(source, release)
    assert texts(notebook) == ["# F", "import torch", "def f(x): return 2 * x", "f(1)", TESTS]


def test_a_deleted_exercise_stands_as_handed_out(source: Notebook, release: Notebook) -> None:
    del release["cells"][2:4]
    notebook, notes = rebuilt(source, release)
    assert texts(notebook)[2] == STUB
    assert notes == ["The cell of `f` was not in your notebook; it stands here as handed out."]


def test_of_two_copies_the_last_written_one_counts(source: Notebook, release: Notebook) -> None:
    first, untouched, last = (copy.deepcopy(release["cells"][2]) for _ in range(3))
    first["source"], last["source"] = "def f(x): return 1", "def f(x): return 2"
    release["cells"][2:3] = [first, last, untouched]
    notebook, notes = rebuilt(source, release)
    assert texts(notebook)[2:4] == ["def f(x): return 1", "def f(x): return 2"]
    assert grade_id(notebook["cells"][3]) == "f"
    assert notes == ["Your notebook had more than one cell of `f`; the last one counts."]


def test_what_was_written_over_the_tests_stays_visible(source: Notebook, release: Notebook) -> None:
    release["cells"][4]["source"] = "print('2')"
    notebook, _ = rebuilt(source, release)
    assert texts(notebook)[4:] == [TESTS, "print('2')"]


def test_an_answer_in_a_markdown_cell_is_told_of(source: Notebook, release: Notebook) -> None:
    release["cells"][2] |= {"cell_type": "markdown", "source": "def f(x): return 2"}
    notebook, notes = rebuilt(source, release)
    assert notebook["cells"][2]["cell_type"] == "code"
    assert notes == ["Your cell of `f` was not a code cell, so it did not run."]


def test_nothing_active_reaches_a_graders_browser(source: Notebook, release: Notebook) -> None:
    script = "<script>alert(1)</script>"
    output = {"output_type": "display_data", "data": {"text/html": script}, "metadata": {}}
    release["cells"][0]["source"] = f"# F {script}"
    release["cells"][3]["outputs"] = [output]
    release["cells"].insert(
        1,
        {"cell_type": "raw", "metadata": {"raw_mimetype": "text/html"}, "source": script},
    )
    release["cells"].insert(
        2,
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": "![](attachment:a) $a<b$",
            "attachments": {"a": {"text/html": script}},
        },
    )
    link = {"cell_type": "markdown", "metadata": {}, "source": "[x](javascript:alert(1))"}
    endless = {"cell_type": "code", "metadata": {}, "source": "." * 99_999}
    release["cells"] += [link, endless]
    notebook, _ = rebuilt(source, release)
    assert "](javascript" not in json.dumps(notebook)
    assert "." * 999 not in json.dumps(notebook)
    assert "<script" not in json.dumps(notebook)
    assert texts(notebook)[0] == "# F &lt;script>alert(1)&lt;/script>"


@pytest.mark.parametrize(
    "junk",
    [{}, {"cell_type": "code"}, {"cell_type": 7, "source": 7}, {"source": ["a", 7]},
     {"cell_type": "heading", "source": "x"}, {"cell_type": "code", "source": "'\ud800'"},
     {"cell_type": "code", "metadata": 7, "source": "1"}, {"cell_type": "code", "id": ["f-2"]},
     {"cell_type": "code", "metadata": {"nbgrader": {"grade_id": []}}, "source": "1"},
     {"cell_type": "markdown", "source": "x" * 500_000}],
)  # fmt: skip
def test_junk_does_no_harm(source: Notebook, release: Notebook, junk: dict[str, Any]) -> None:
    release["cells"].insert(2, junk)
    notebook, _ = rebuilt(source, release)
    assert TESTS in texts(notebook)


def test_an_unreadable_submission_shows_the_lesson_as_handed_out(
    source: Notebook, release: Notebook
) -> None:
    notebook = Repair(source).without("it is empty")
    assert texts(notebook) == texts(release)
    assert notebook["metadata"]["forwardpass"]["unreadable"] == "it is empty"
