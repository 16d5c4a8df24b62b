"""Notebooks that could be handed in: of junk, and the lesson's own mangled."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st
from plans import release

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["def generator_loss(x): return x", "%%bash\nls", "!ls", "\ud800", "import math", "x?", "'''",
     "# YOUR CODE HERE", "### BEGIN SOLUTION", "<script>alert(1)</script>", "\x00", "\u202e",
     "class discriminator_loss: pass", "def é(): pass", "-" * 3000 + "1", "(" * 300, "a" + ".b" * 999,
     "@x\n" * 99, "if 1:\n" * 99, "\\", "\f", "\r\r", "lambda:" * 500]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["generator_loss", "generator_loss_tests", "losses-03", "discriminator_loss"]
)
METADATA = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "nbgrader": ANYTHING | st.fixed_dictionaries({"grade_id": NAMES | ANYTHING}),
        "forwardpass": ANYTHING
        | st.fixed_dictionaries({"role": st.sampled_from(["exercise", "tests", "setup"]) | TEXTS}),
    },
)
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw"]) | ANYTHING,
        "source": TEXTS | st.lists(TEXTS) | ANYTHING,
        "metadata": METADATA,
        "id": NAMES | ANYTHING,
        "outputs": ANYTHING,
        "attachments": ANYTHING,
    },
)
JUNK = st.fixed_dictionaries(
    {"nbformat": st.just(4) | ANYTHING, "cells": st.lists(CELLS, max_size=8) | ANYTHING},
    optional={"metadata": METADATA, "nbformat_minor": ANYTHING},
)


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    """The lesson as handed out, with cells cut, doubled, moved, emptied and relabelled."""
    notebook: dict[str, Any] = copy.deepcopy(json.loads(release()))
    cells = notebook["cells"]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(cells) - 1)) if cells else 0
        what = draw(st.sampled_from(["drop", "double", "move", "change", "put", "relabel"]))
        if not cells or what == "put":
            cells.insert(at, draw(CELLS))
        elif what == "drop":
            del cells[at : at + draw(st.integers(1, 9))]
        elif what == "double":
            cells.append(copy.deepcopy(cells[at]))
        elif what == "move":
            cells.insert(draw(st.integers(0, len(cells))), cells.pop(at))
        elif what == "change":
            cells[at][draw(st.sampled_from(["source", "metadata", "id", "cell_type"]))] = draw(
                TEXTS | ANYTHING | METADATA
            )
        else:
            other = draw(st.integers(0, len(cells) - 1))
            for field in ("metadata", "id"):
                mine, theirs = cells[at].get(field), cells[other].get(field)
                cells[at][field], cells[other][field] = theirs, mine
    return notebook


@st.composite
def bent_text(draw: st.DrawFn) -> str:
    """A notebook's text with a stretch of it gone, doubled or replaced."""
    text = release()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 60))
        text = text[:start] + draw(st.sampled_from(["", text[start:end] * 2]) | TEXTS) + text[end:]
    return text
