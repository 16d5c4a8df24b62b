"""The side of nbgrader and of ``forwardpass grade`` of a grader process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.nursery import Nursery
from autograder.engine.verdict import Postponed, Verdict
from autograder.lesson import ROOT

END_SECONDS = 10.0
LIMIT_SECONDS = 3600.0
PROGRAM = ("-m", "autograder.gradebook.grader_process")


class GradingRefused(RuntimeError):
    """The sandbox cannot be put in force: nothing is graded, and no score is given."""


class GradingFailed(RuntimeError):
    """A hidden grader cannot be collected, or the grader process ended."""


class TookTooLong(GradingFailed):
    """A notebook took longer than any may; it would again."""


class Grader:
    """A grader process: started when first needed, asked one thing at a time.

    Args:
        device: to judge on beside the CPU's stand-in: "cpu" or "cuda".
        without: required sandbox layers that the instructor has agreed to do without.
        seconds: that a notebook may take in all; a backstop behind the engine's own limits.
        megabytes: that a submission's code may allocate; None where each exercise says.
        outcomes: the file that the run's grader processes share.
        nursery: that the run's grader processes share; one of its own where it is None.
    """

    def __init__(
        self,
        device: str = "cpu",
        without: Sequence[str] = (),
        seconds: float = LIMIT_SECONDS,
        megabytes: int | None = None,
        outcomes: int | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self._outcomes = outcomes
        self._nursery = nursery or Nursery()
        self._shares = nursery is not None
        self._seconds = seconds
        self._megabytes = megabytes
        self._device = device
        self._without = tuple(without)
        self._process: subprocess.Popen[str] | None = None
        self._prepared: dict[str, str] = {}
        self._starting = threading.Lock()
        self._asking = False
        self._stopped = False

    def prepare(self, lesson: str, fingerprint: str) -> None:
        """Start, and collect a lesson's hidden tests.

        Args:
            lesson: as ``chapter/lesson``.
            fingerprint: of its grader; where it has changed, the process starts afresh.

        Raises:
            GradingRefused: a required sandbox layer is missing.
            GradingFailed: the hidden tests cannot be collected.
        """
        if not self._running or self._prepared.get(lesson, fingerprint) != fingerprint:
            self.close()
            self._start()
        if lesson not in self._prepared:
            self._ask(lesson=lesson, name=lesson, text=None)
            self._prepared[lesson] = fingerprint

    def grade(self, lesson: str, name: str, text: str, patience: float | None = None) -> Verdict:
        """Grade a notebook of a prepared lesson.

        Args:
            lesson: as ``chapter/lesson``.
            name: of the notebook, for messages.
            text: the file's.
            patience: seconds that others wait for one of its cells or runs; None waits as long
                as these may take.

        Raises:
            Postponed: one takes longer than that.
            UnreadableNotebook: the text is not that of a notebook.
            GradingRefused, GradingFailed: as in `prepare`.
        """
        request = {"lesson": lesson, "name": name, "text": text, "patience": patience}
        return Verdict.from_dict(self._ask(**request)["verdict"])

    def close(self) -> None:
        """End the process, whatever it is doing; its zygote and workers end with it."""
        process, self._process, self._prepared = self._process, None, {}
        if process is None:
            return
        if not self._asking and process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()  # it ends by itself, and says first what is to be said
        else:
            process.terminate()
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        if not self._shares:
            self._nursery.close()

    def stop(self) -> None:
        """Close for good; another thread that is asking gets `GradingFailed`."""
        with self._starting:
            self._stopped = True
        self.close()

    @property
    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        self._prepared = {}
        command = [sys.executable, *PROGRAM, "--device", self._device]
        for layer in self._without:
            command += ["--without-layer", layer]
        if self._megabytes:
            command += ["--megabytes", str(self._megabytes)]
        with self._starting:
            if self._stopped:
                raise GradingFailed("grading was stopped")
            shared = {"--nursery": self._nursery.start()}
            if self._outcomes is not None:
                shared["--outcomes"] = self._outcomes
            for name, descriptor in shared.items():
                command += [name, str(descriptor)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=tuple(shared.values()),
                encoding="utf-8",
                cwd=ROOT,
                env={**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # so that Ctrl-C reaches us first, and ends it in order
            )
        self._read()

    def _ask(self, **request: Any) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise GradingFailed("the grader process has ended: grade again")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            raise GradingFailed(self._how_it_ended()) from None
        return self._read()

    def _read(self) -> dict[str, Any]:
        process = self._process
        self._asking = True
        late = threading.Event()
        timer = threading.Timer(self._seconds, self._give_up, (process, late))
        timer.start()
        try:
            line = process.stdout.readline() if process and process.stdout else ""
        except (OSError, ValueError):  # closed by another thread
            line = ""
        finally:
            self._asking = False
            timer.cancel()
        if late.is_set():
            raise TookTooLong(f"it took longer than {self._seconds:g} s, and was given up")
        if not line:
            raise GradingFailed(self._how_it_ended())
        reply: dict[str, Any] = json.loads(line, object_hook=_writable)
        if "refused" in reply:
            raise GradingRefused(str(reply["refused"]))
        if "defect" in reply:
            raise GradingFailed(str(reply["defect"]))
        if "postponed" in reply:
            raise Postponed
        if "unreadable" in reply:
            raise UnreadableNotebook(str(reply["unreadable"]))
        return reply

    @staticmethod
    def _give_up(process: subprocess.Popen[str] | None, late: threading.Event) -> None:
        late.set()
        if process is not None:
            process.kill()

    def _how_it_ended(self) -> str:
        status = self._process.wait() if self._process else None
        return f"the grader process has ended (exit status {status}): grade again"


def _writable(data: dict[str, Any]) -> dict[str, Any]:
    """Without the halves of surrogate pairs that a student's error may hold; no file takes them."""
    return {key: _whole(value) for key, value in data.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return [_whole(part) for part in value] if isinstance(value, list) else value


_shared: dict[tuple[str, tuple[str, ...], int | None], Grader] = {}


def shared_grader(device: str, without: Sequence[str], megabytes: int | None = None) -> Grader:
    """The one grader of this process for a policy, kept for the next notebook."""
    policy = (device, tuple(without), megabytes)
    if policy not in _shared:
        _shared[policy] = Grader(device, without, megabytes=megabytes)
        atexit.register(_shared[policy].close)
    return _shared[policy]
