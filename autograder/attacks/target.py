"""The lesson under attack, and its notebook as students would get it."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from autograder.attacks.attack import Attack, Notebook
from autograder.builder.solution import mark_solution
from autograder.lesson import ROOT, Lesson

CORPUS = ROOT / "tests" / "attacks"
PACKAGE = "attack_target"
SET_UP = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn"
CHECK = "print('looks right' if callable({name}) else 'where is it?')"
HIDDEN = "### BEGIN HIDDEN TESTS\nraise RuntimeError\n### END HIDDEN TESTS"


class Target(Lesson):
    """A lesson whose reference and grader stand beside the attacks, not in the course's rooms.

    Args:
        folder: where its source notebook is written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("ch00_attacks", "target", folder)
        if str(CORPUS) not in sys.path:
            sys.path.insert(0, str(CORPUS))
        self.source.parent.mkdir(parents=True, exist_ok=True)
        self.source.write_text(json.dumps(self._source()), encoding="utf-8")

    @property
    def reference_file(self) -> Path:
        return CORPUS / PACKAGE / "reference.py"

    @property
    def grader_file(self) -> Path:
        return CORPUS / PACKAGE / "grader.py"

    @cached_property
    def reference(self) -> ModuleType:
        return importlib.import_module(f"{PACKAGE}.reference")

    @cached_property
    def grader(self) -> ModuleType:
        return importlib.import_module(f"{PACKAGE}.grader")

    def honest(self) -> Notebook:
        """A submission in which everything is right."""
        notebook = self._source()
        notebook["cells"] = [copy.deepcopy(c) for c in notebook["cells"]]
        for cell in notebook["cells"]:
            cell["source"] = cell["source"].replace(HIDDEN, "# graded after you hand in")
        return notebook

    def submission(self, attack: Attack) -> Notebook | bytes:
        """The attack's notebook."""
        notebook = self.honest()
        cells = notebook["cells"]
        for cell in cells:
            name = cell["metadata"]["forwardpass"].get("exercise")
            if cell["metadata"]["forwardpass"]["role"] == "exercise" and name in attack.answers:
                cell["source"] = attack.answers[name]
        cells[1:1] = [own_cell(f"own-{i}", source) for i, source in enumerate(attack.before)]
        cells += [own_cell(f"late-{i}", source) for i, source in enumerate(attack.after)]
        return attack.notebook(notebook) if attack.notebook else notebook

    def _source(self) -> Notebook:
        cells = [_cell("target-00", SET_UP, {"role": "setup"})]
        for number, name in enumerate(self.exercises, start=1):
            told = {"role": "exercise", "exercise": name}
            source = mark_solution(self.reference_source(name))
            cells.append(_cell(f"target-{number}0", source, told, _nbgrader(name, solution=True)))
            check = CHECK.format(name=name)
            cells.append(_cell(f"target-{number}1", check, {"role": "check"}))
            hidden = {"role": "tests", "exercise": name}
            marks = _nbgrader(f"{name}_tests", solution=False)
            cells.append(_cell(f"target-{number}2", HIDDEN, hidden, marks))
        metadata = {
            "forwardpass": {"lesson": self.key},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        }
        return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def own_cell(key: str, source: str) -> dict[str, Any]:
    """A code cell that the student added."""
    return {**_cell(key, source, {}), "metadata": {}}


def _cell(
    key: str, source: str, told: dict[str, str], nbgrader: dict[str, Any] | None = None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"forwardpass": told}
    if nbgrader:
        metadata["nbgrader"] = nbgrader
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": key,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def _nbgrader(grade_id: str, *, solution: bool) -> dict[str, Any]:
    marks: dict[str, Any] = {"grade": not solution, "solution": solution, "locked": not solution}
    if not solution:
        marks["points"] = 1
    return {**marks, "grade_id": grade_id, "schema_version": 3, "task": False}
