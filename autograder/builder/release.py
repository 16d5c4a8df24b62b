"""The release notebook: nbgrader's own preprocessors, and a proof that nothing leaks."""

from __future__ import annotations

import json
from typing import Any

import nbformat
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from autograder.builder.solution import BEGIN, END

# generate_assignment's order, without the step that writes to the gradebook.
PREPROCESSORS = (
    LockCells,
    ClearSolutions,
    ClearOutput,
    CheckCellMetadata,
    ComputeChecksums,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
    CheckCellMetadata,
)
TELLING = 12  # a shorter line of a solution says nothing by itself


class Leak(AssertionError):
    """A release notebook holds something of a solution or of a hidden test."""


def build_release(source: dict[str, Any]) -> dict[str, Any]:
    """Make the students' notebook from a source notebook.

    Raises:
        Leak: something of a solution or of a hidden test is left.
    """
    notebook = nbformat.reads(json.dumps(source), as_version=4)
    resources: dict[str, Any] = {}
    for preprocessor in PREPROCESSORS:
        notebook, resources = preprocessor().preprocess(notebook, resources)
    release: dict[str, Any] = json.loads(json.dumps(notebook))
    leaks = leaks_of(source, release)
    if leaks:
        raise Leak("the release would leak: " + "; ".join(leaks))
    return release


def leaks_of(source: dict[str, Any], release: dict[str, Any]) -> list[str]:
    """What of the solutions and hidden tests a release still holds.

    An exercise's own cell must hold no telling line of its solution; no cell, its metadata and
    outputs included, may hold a solution's markers, a whole solution, or a hidden test.
    """
    leaks = []
    everything = json.dumps(release, ensure_ascii=False)
    for word in ("BEGIN SOLUTION", "HIDDEN TESTS", 'raise RuntimeError(\\n    \\"This cell is'):
        if word in everything:
            leaks.append(f"the words {word!r}")
    texts = [cell["source"] for cell in release["cells"]]
    by_id = {cell["id"]: cell for cell in release["cells"]}
    for cell in source["cells"]:
        if cell["metadata"]["forwardpass"]["role"] != "exercise":
            continue
        name = cell["metadata"]["forwardpass"]["exercise"]
        stub = by_id[cell["id"]]["source"].split("\n")
        for region in _regions(cell["source"]):
            lines = [line.strip() for line in region if len(line.strip()) >= TELLING]
            leaks += [f"{name}: {line!r}" for line in lines if line in (s.strip() for s in stub)]
            whole = "\n".join(region)
            if len(lines) > 1 and any(whole in text for text in texts):
                leaks.append(f"{name}: its whole solution")
    for cell in release["cells"]:
        if cell.get("outputs") or cell.get("execution_count"):
            leaks.append(f"outputs of cell {cell['id']}")
    return leaks


def _regions(marked: str) -> list[list[str]]:
    regions: list[list[str]] = []
    inside = False
    for line in marked.split("\n"):
        if BEGIN in line:
            inside = True
            regions.append([])
        elif END in line:
            inside = False
        elif inside:
            regions[-1].append(line)
    return regions
