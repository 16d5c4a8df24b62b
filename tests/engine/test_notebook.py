"""Which cells of a submission run, however the notebook has been treated."""

import copy
import json

import pytest

from autograder.engine.grading import Plan
from autograder.engine.notebook import (
    UnreadableNotebook,
    parse_notebook,
    read_notebook,
    without_magics,
)


def names(plan, notebook):
    return [cell.name for cell in plan.job("x", notebook).cells]


@pytest.fixture
def plan(losses):
    return Plan(losses)


def test_demos_checks_and_training_never_run(plan, fill):
    cells = plan.job("x", fill()).cells
    assert {c.name for c in cells} == {"setup", *plan.stubs}
    assert [c.exercise for c in cells if c.exercise] == list(plan.stubs)


def test_the_students_own_cells_run_where_they_stand(plan, fill):
    notebook = fill()
    own = {"cell_type": "code", "id": "mine", "metadata": {}, "source": "helper = 1", "outputs": []}
    notebook["cells"].insert(3, own)
    assert [c for c in plan.job("x", notebook).cells if c.source == "helper = 1"]


def test_of_a_changed_demo_only_the_definitions_run(plan, fill):
    notebook = fill()
    demo = next(c for c in notebook["cells"] if c["metadata"]["forwardpass"]["role"] == "demo")
    demo["source"] += "\nimport math\n\ndef helper(x):\n    return x\n\ntrain_for_an_hour()\n"
    (changed,) = [c for c in plan.job("x", notebook).cells if c.name.startswith("number")]
    assert "def helper" in changed.source
    assert "train_for_an_hour" not in changed.source


def test_a_copy_left_untouched_does_not_undo_the_answer(plan, fill):
    notebook = fill()
    untouched = fill(**dict.fromkeys(plan.stubs))
    at = next(
        i for i, c in enumerate(notebook["cells"]) if "exercise" in c["metadata"]["forwardpass"]
    )
    notebook["cells"].append(copy.deepcopy(untouched["cells"][at]))
    chosen = [c for c in plan.job("x", notebook).cells if c.exercise == next(iter(plan.stubs))]
    assert len(chosen) == 1
    assert "NotImplementedError" not in chosen[0].source


def test_stripped_metadata_still_runs_the_answer(plan, fill):
    notebook = fill()
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id")
    sources = "\n".join(c.source for c in plan.job("x", notebook).cells)
    assert all(f"def {name}" in sources for name in plan.stubs)
    assert "### Exercise" not in sources


def test_lists_of_lines_and_odd_sources_are_read(plan, fill):
    notebook = fill()
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
    notebook["cells"].append({"cell_type": "code", "source": [1, None, {"a": 2}]})
    notebook["cells"].append({"cell_type": "code", "metadata": "text", "source": 7})
    assert set(names(plan, notebook)) == {"setup", *plan.stubs}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "x = 1"),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install torch\nx = 1", "pass\nx = 1"),
        ("if True:\n    %time x = 1", "if True:\n    pass"),
        ("x?\ny = 2", "pass\ny = 2"),
        ("%%time\nx = 1", "\nx = 1"),
        ("%%bash\nrm -rf /", ""),
        ("y = 7 % 4", "y = 7 % 4"),
    ],
)
def test_magics_are_left_out(source, expected):
    assert without_magics(source) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty; download or save it again"),
        ('{"nbformat": 4, "cells": [{"sour', "cut short"),
        ("PK\x03\x04", "is not a notebook"),
        ("[1, 2]", "has no nbformat"),
        ('{"nbformat": 3, "worksheets": []}', "has notebook format 3, but format 4 is needed"),
        ('{"nbformat": 4}', "has no list of cells"),
        ('{"nbformat": 4, "cells": ["text"]}', "has no list of cells"),
        ("[" * 100_000, "is not a notebook"),
        (json.dumps({"nbformat": 4, "cells": [{}] * 6000}), "has 6000 cells"),
        ("[" * 3_000_000, "far more cells and outputs than a notebook has"),
        (
            json.dumps(
                {"nbformat": 4, "cells": [{"cell_type": "code", "source": "x\n" * 200_000}] * 2}
            ),
            "holds 800000 characters of code; at most 500000 are read: take out cells",
        ),
    ],
)
def test_unreadable_notebooks_say_why(text, told):
    with pytest.raises(UnreadableNotebook, match=r"it\.ipynb.*") as error:
        parse_notebook(text, "it.ipynb")
    assert told in str(error.value)


def test_missing_and_binary_files_say_why(tmp_path):
    with pytest.raises(UnreadableNotebook, match="does not exist"):
        read_notebook(tmp_path / "gone.ipynb")
    (tmp_path / "photo.ipynb").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UnreadableNotebook, match="not UTF-8"):
        read_notebook(tmp_path / "photo.ipynb")
