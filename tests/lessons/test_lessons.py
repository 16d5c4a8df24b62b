"""Every lesson runs top to bottom, and an untouched one fails softly."""

import copy
import json
import shutil
import time

import nbformat
import pytest
from nbclient import NotebookClient

from autograder.lesson import all_lessons

LESSONS = all_lessons()
SECONDS = 600  # a loaded machine; the lessons themselves aim at less than a minute


def executed(notebook, folder, kernels, *, allow_errors):
    node = nbformat.reads(json.dumps(notebook), as_version=4)
    client = NotebookClient(
        node, timeout=SECONDS, allow_errors=allow_errors, kernel_manager_class=kernels,
        resources={"metadata": {"path": folder}},
    )  # fmt: skip
    started = time.monotonic()
    client.execute()
    print(f"ran in {time.monotonic() - started:.0f} s")
    return node


def errors_of(node):
    return [
        (cell.source[:200], output.ename, output.evalue)
        for cell in node.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    ]


def text_of(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_the_lesson_runs_and_its_checks_pass(lesson, tmp_path, warm_kernels):
    source = json.loads(lesson.source.read_text())
    # nbgrader's hidden cells raise on purpose; a reader of the lesson does not run them.
    source["cells"] = [
        c for c in source["cells"] if c["metadata"]["forwardpass"]["role"] != "tests"
    ]
    beside = {*lesson.earlier.values()}
    while beside:  # what an earlier lesson takes from others is beside the notebook, too
        other = beside.pop()
        shutil.copy(other.source, tmp_path)
        beside |= {*other.earlier.values()}
    node = executed(source, str(tmp_path), warm_kernels, allow_errors=False)
    assert errors_of(node) == []
    roles = [cell.metadata.forwardpass.role for cell in node.cells]
    for cell, role in zip(node.cells, roles, strict=True):
        if role == "environment":
            assert "ready. Python" in text_of(cell)
        if role == "check":
            assert "✅" in text_of(cell), cell.source
            assert "❌" not in text_of(cell), text_of(cell)
    pictures = [o for c in node.cells if c.cell_type == "code" for o in c.outputs
                if "image/png" in o.get("data", {})]  # fmt: skip
    assert len(pictures) >= 2, "a lesson has an idea's picture and a payoff's"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_an_untouched_lesson_fails_softly(lesson, tmp_path, warm_kernels):
    release = copy.deepcopy(json.loads(lesson.release.read_text()))
    node = executed(release, str(tmp_path), warm_kernels, allow_errors=True)
    assert errors_of(node) == [], "a student would see a traceback"
    for cell in node.cells:
        if cell.metadata.forwardpass.role == "check":
            assert "not written yet" in text_of(cell), cell.source
