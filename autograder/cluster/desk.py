"""Grades on a worker, in the code that home shipped: notebooks in, replies out, one JSON a line.

A request is ``{"lesson", "name", "text"}``. It is answered by ``{"verdict"}``, ``{"unreadable"}``
(the notebook's fault), ``{"failure"}`` (of grading itself) or ``{"refused"}`` (the sandbox's, after
which nothing more is graded).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.scratch import sweep
from autograder.gradebook.classwork import persevering
from autograder.gradebook.grader import LIMIT_SECONDS, Grader, GradingRefused
from autograder.gradebook.parent import end_with_parent
from autograder.lesson import ROOT

IDLE_SECONDS = 180.0  # home was killed, and could not say that it is over


def options_of(
    device: str, without: Sequence[str], seconds: float, megabytes: int | None
) -> tuple[str, ...]:
    """The command line of a desk."""
    layers = [word for layer in without for word in ("--without-layer", layer)]
    memory = ["--megabytes", str(megabytes)] if megabytes else []
    return ("--device", device, "--seconds", str(seconds), *layers, *memory)


def main(arguments: Sequence[str], *, private: bool) -> None:
    """Serve on standard input and output until the worker, or the work, has ended.

    Args:
        arguments: as `options_of` makes them.
        private: whether nobody but this process sees the code that it runs.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without-layer", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=LIMIT_SECONDS)
    parser.add_argument("--megabytes", type=int, default=None)
    options = parser.parse_args(arguments)
    if not private:
        sweep(ROOT.parent)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ended = threading.Event()
    threading.Thread(target=end_with_parent, args=(0, ended), daemon=True).start()
    grader = Grader(options.device, options.without_layer, options.seconds, options.megabytes)
    try:
        while select.select([0], [], [], IDLE_SECONDS)[0] and (line := sys.stdin.readline()):
            print(json.dumps(_reply(json.loads(line), grader)), flush=True)
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        ended.set()
        grader.close()
    os._exit(0)  # not to flush into a pipe that nobody reads


def _reply(request: dict[str, Any], grader: Grader) -> dict[str, Any]:
    def verdict() -> dict[str, Any]:
        grader.prepare(request["lesson"], "")
        return grader.grade(request["lesson"], request["name"], request["text"]).to_dict()

    try:
        found, failure = persevering(verdict)
    except UnreadableNotebook as error:
        return {"unreadable": str(error)}
    except GradingRefused as error:
        return {"refused": str(error)}
    return {"verdict": found} if found else {"failure": failure}
