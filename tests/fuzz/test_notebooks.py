"""The notebook reader and the repair: a plan and a valid notebook, or a reason, in good time."""

from __future__ import annotations

import json
import time

import pytest
from effort import effort
from hypothesis import given
from hypothesis import strategies as st
from notebooks import JUNK, bent_text, mangled
from plans import check_notebook, release

from autograder.engine.notebook import UnreadableNotebook
from autograder.gradebook.submission import text_of


def test_the_lesson_as_handed_out_is_a_notebook() -> None:
    assert check_notebook(release())


@given(JUNK)
@effort(120)
def test_notebooks_of_junk(notebook: object) -> None:
    check_notebook(json.dumps(notebook))


@given(mangled())
@effort(60)
def test_the_lesson_mangled(notebook: object) -> None:
    check_notebook(json.dumps(notebook))


@given(bent_text() | st.text(max_size=60))
@effort(60)
def test_texts_bent(text: str) -> None:
    check_notebook(text)


@given(st.binary(max_size=60))
@effort(50)
def test_bytes(data: bytes) -> None:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        with pytest.raises(UnreadableNotebook, match="not UTF-8"):
            text_of(data, "it.ipynb")
    else:
        check_notebook(text_of(data, "it.ipynb"))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def cell(**fields: str) -> str:
    given = {"cell_type": '"code"', "source": '"x = 1"', "metadata": "{}", **fields}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in given.items()) + "}"


def notebook(*cells: str, nbformat: str = "4") -> str:
    return f'{{"nbformat": {nbformat}, "cells": [{", ".join(cells)}]}}'


WIDE = json.dumps("import a\n" * 40_000)
HEAVY = {
    "a deep id": notebook(cell(id=nested(960))),
    "a deep source": notebook(cell(source=nested(960))),
    "deep metadata": notebook(cell(metadata=nested(960))),
    "a deep cell type": notebook(cell(cell_type=nested(960))),
    "a deep format": notebook(nbformat=nested(960)),
    "a long format": notebook(nbformat=json.dumps("x" * 10**6)),
    "a long number": notebook(nbformat="9" * 10**6),
    "deep code": notebook(*[cell(source=json.dumps(s * 90_000 + "1")) for s in ("-", "(", "~", "a.")]),
    "nested code": notebook(cell(source=json.dumps("".join(" " * n + "if 1:\n" for n in range(99))))),
    "imports in one cell": notebook(cell(source=WIDE, metadata='{"forwardpass": {}}')),
    "imports without end": notebook(*[cell(source=WIDE, metadata='{"forwardpass": {}}')] * 20),
    "definitions on one line": notebook(
        cell(source=json.dumps("def f():\n" * 9 + ";" * 90_000), metadata='{"forwardpass": {}}')
    ),
    "thousands of cells": notebook(*[cell(source=f'"x = {n}"') for n in range(5_000)]),
    "a million cells": notebook(*["{}"] * 10**6),
    "a million parts of a source": notebook(cell(source=json.dumps(["x"] * 10**6))),
    "one long line": notebook(cell(source=json.dumps("x = 1;" * 60_000))),
    "thousands of copies": notebook(
        *[cell(metadata='{"nbgrader": {"grade_id": "generator_loss"}}')] * 5_000
    ),
    "200 MB of output": '{"nbformat": 4, "cells": [{"outputs": "' + "x" * 30_000_000 + '"}]}',
}  # fmt: skip


@pytest.mark.parametrize("what", HEAVY)
def test_heavy_notebooks_are_read_in_good_time(what: str) -> None:
    started = time.process_time()
    check_notebook(HEAVY[what], validate=False)
    assert time.process_time() - started < 20
