"""Stands in for the grader process where grading itself is not what is tested.

It speaks the same lines and takes no time: each exercise earns a share of its points that
depends on the notebook's text alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

from autograder.engine.notebook import UnreadableNotebook, parse_notebook, read_notebook
from autograder.lesson import find_lesson

SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0.05"))
RUN = """
import sys
sys.modules["rfc3987_syntax"] = None  # jsonschema does without it; importing it takes seconds
from autograder.gradebook import grader
program = sys.argv.pop(1)
if program:
    grader.PROGRAM = (program,)
    grader.Nursery.start = lambda _: 0  # it forks nothing
if sys.argv[1] == "forwardpass":
    from autograder.command import main
    raise SystemExit(main(sys.argv[2:]))
from nbgrader.apps import NbGraderApp
NbGraderApp.launch_instance(sys.argv[2:])
"""


def verdict(lesson: str, text: str) -> dict[str, Any]:
    """A verdict such as the engine's, from a digest of the text."""
    exercises = []
    for cell in read_notebook(find_lesson(lesson).source)["cells"]:
        told = cell["metadata"].get("nbgrader", {})
        if told.get("grade"):
            name, points = cell["metadata"]["forwardpass"]["exercise"], float(told["points"])
            share = hashlib.sha256((name + text).encode()).digest()[0] % 5 / 4
            test = {
                "name": "whole", "outcome": "failed" if share < 1 else "passed",
                "points": share * points, "max_points": points, "message": "", "device": "cpu",
            }  # fmt: skip
            exercises.append(
                {"name": name, "score": share * points, "max_score": points, "tests": [test]}
            )
    return {
        "lesson": lesson,
        "score": sum(e["score"] for e in exercises),
        "max_score": sum(e["max_score"] for e in exercises),
        "devices": ["cpu"],
        "sandbox": {"in force": ["none: nothing ran"], "missing": {}},
        "exercises": exercises,
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["text"] is None:
        return {"prepared": True}
    try:
        parse_notebook(request["text"], request["name"])
    except UnreadableNotebook as error:
        return {"unreadable": str(error)}
    time.sleep(SECONDS)
    return {"verdict": verdict(request["lesson"], request["text"])}


if __name__ == "__main__":
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
