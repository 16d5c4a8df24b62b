"""A process of its own that grades: notebooks in, verdicts out, one JSON object a line.

It lives apart from nbgrader and from Jupyter's server so that torch, pytest and the hidden
graders never load there, and so that the next run sees the graders as they are by then. The
notebooks of one lesson share a session: its hidden tests are collected once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

import torch

from autograder.engine.grading import NotBuilt, grade_notebooks
from autograder.engine.notebook import UnreadableNotebook, parse_notebook
from autograder.engine.outcomes import Outcomes
from autograder.engine.spawner import Policy, SandboxRefused, Zygote, ZygoteEnded
from autograder.engine.standards import GraderDefect
from autograder.engine.verdict import Verdict
from autograder.gradebook.parent import end_with_parent
from autograder.lesson import Lesson, find_lesson

Request = dict[str, Any]


class Desk:
    """Answers requests until they end.

    A request is ``{"lesson", "name", "text"}``; without a text it asks whether the lesson's
    hidden tests can be collected. With ``"patience"`` others wait for so many seconds and no
    longer. It is answered by ``{"verdict"}``, ``{"prepared"}``, ``{"postponed"}``,
    ``{"unreadable"}`` (the notebook's fault), ``{"defect"}`` (the grader's) or ``{"refused"}``
    (the sandbox's, after which nothing more is graded).
    """

    def __init__(self, requests: TextIO, replies: TextIO, outcomes: Outcomes) -> None:
        self._requests = requests
        self._replies = replies
        self._outcomes = outcomes
        self._next: Request | None = None

    def serve(self, policy: Policy, nursery: int | None) -> None:
        """Have the nursery fork a zygote, say so, and grade."""
        if policy.device == "cuda" and not torch.cuda.is_available():
            self._reply(refused="to be judged on CUDA, but PyTorch sees no CUDA device here")
            return
        try:
            with Zygote(policy, nursery) as zygote:
                self._reply(ready=True)
                self._advance()
                while self._next is not None:
                    self._grade(find_lesson(self._next["lesson"]), zygote)
        except ZygoteEnded as error:
            sys.exit(f"forwardpass: {error}")  # who asked asks another process
        except SandboxRefused as error:
            self._reply(refused=str(error))

    def _grade(self, lesson: Lesson, zygote: Zygote) -> None:
        try:
            notebooks = self._notebooks(lesson.key)
            grade_notebooks(
                lesson,
                notebooks,
                zygote,
                self._deliver,
                outcomes=self._outcomes,
                patience=self._patience,
                postpone=lambda _: self._reply(postponed=True),
            )
        except SandboxRefused:
            raise
        except (GraderDefect, NotBuilt) as error:
            self._reply(defect=str(error))
            self._advance()
        except Exception:
            self._reply(defect=traceback.format_exc())
            self._advance()

    def _notebooks(self, lesson: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The notebooks of this lesson, as they are asked for, until another lesson's."""
        while self._next is not None and self._next["lesson"] == lesson:
            if self._next.get("text") is None:
                self._reply(prepared=True)
            else:
                try:
                    notebook = parse_notebook(self._next["text"], self._next["name"])
                except UnreadableNotebook as error:
                    self._reply(unreadable=str(error))
                else:
                    yield self._next["name"], notebook
            self._advance()

    def _deliver(self, _name: str, verdict: Verdict) -> None:
        self._reply(verdict=verdict.to_dict())

    def _patience(self) -> float:
        """Of the request at hand."""
        return float((self._next or {}).get("patience") or math.inf)

    def _advance(self) -> None:
        line = self._requests.readline()
        self._next = json.loads(line) if line else None

    def _reply(self, **reply: Any) -> None:
        self._replies.write(json.dumps(reply) + "\n")
        self._replies.flush()


def main() -> None:
    """Serve on standard input and output, out of reach of whatever prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without-layer", action="append", default=[])
    parser.add_argument("--megabytes", type=int, default=None)
    parser.add_argument("--outcomes", type=int, default=None)
    parser.add_argument("--nursery", type=int, default=None)
    options = parser.parse_args()
    # An interrupt unwinds through pytest, so that the zygote and its workers are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    requests, replies = os.dup(0), os.dup(1)
    ended = threading.Event()
    threading.Thread(target=end_with_parent, args=(requests, ended), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        with tempfile.TemporaryFile() as own:
            shared = own.fileno() if options.outcomes is None else options.outcomes
            desk = Desk(
                os.fdopen(requests, encoding="utf-8"),
                os.fdopen(replies, "w", encoding="utf-8"),
                Outcomes(shared),
            )
            without = tuple(options.without_layer)
            policy = Policy(options.device, without, megabytes=options.megabytes)
            desk.serve(policy, options.nursery)
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
    finally:
        ended.set()


if __name__ == "__main__":
    main()
    os._exit(0)  # Python would take PyTorch apart first, which takes a second
