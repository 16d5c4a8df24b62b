"""Runs that are sent to a worker before a hidden test asks for them.

So the worker goes from one to the next while the grader judges the one before: neither waits for
the other, and nobody pays for waking up a processor that fell asleep between two of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograder.engine.hold import Worker, WorkerDied
from autograder.engine.observation import RunKey, Setting, run_key
from autograder.spec import Case, Exercise

MOST_RUNS = 8
MOST_BYTES = 48 << 10
SLOW = 0.5


@dataclass(frozen=True)
class Run:
    """One case of one exercise, where and in what dtype it is judged."""

    exercise: Exercise
    case: Case
    setting: Setting

    @cached_property
    def key(self) -> RunKey:
        """What tells it from others."""
        return run_key(self.exercise, self.case, self.setting)


@dataclass(frozen=True)
class _Sent:
    run: Run
    token: bytes
    size: int


class Ahead:
    """Asks one submission's workers for runs, and for those after them in good time.

    What it foresaw and nobody asked for after all costs the submission nothing: where the worker
    died of it or took long over it, that is forgotten, and no more is foreseen of that exercise.

    Args:
        request: what a worker is to be sent for a run.
        reply_bytes: how long its reply may be; None where it is not to be run.
        foreseen: by exercise, the runs that its tests ask an answer for that is right.

    Attributes:
        unasked_seconds: that were spent waiting for what nobody had asked for.
    """

    def __init__(
        self,
        request: Callable[[Run], dict[str, Any]],
        reply_bytes: Callable[[Run], int | None],
        foreseen: Mapping[str, Sequence[Run]],
    ) -> None:
        self._request = request
        self._reply_bytes = reply_bytes
        self._foreseen = foreseen
        self._worker: Worker | None = None
        self._sent: deque[_Sent] = deque()
        self._replies: dict[RunKey, dict[str, Any]] = {}
        self._surprised: set[str] = set()
        self.unasked_seconds = 0.0

    def reply(self, run: Run, seconds: float, ready: Callable[[], Worker]) -> dict[str, Any]:
        """Give what the worker replies to a run.

        Args:
            run: asked for.
            seconds: that it may take.
            ready: gives a worker in which the submission's cells have run.

        Raises:
            WorkerDied: no valid reply within the time.
        """
        while run.key not in self._replies:
            worker = self._asked(ready())
            if not self._is_on_its_way(run):
                if self._sent:
                    self._receive(worker, run, seconds)
                    continue
                token = worker.send("run", seconds, **self._request(run))
                self._sent.append(_Sent(run, token, 0))
            self._send_more(worker, run)
            self._receive(worker, run, seconds)
        return self._replies.pop(run.key)

    def _asked(self, worker: Worker) -> Worker:
        """The worker; another than before has been sent nothing."""
        if worker is not self._worker:
            self._worker = worker
            self._sent.clear()
        return worker

    def _is_on_its_way(self, run: Run) -> bool:
        return any(sent.run.key == run.key for sent in self._sent)

    def _send_more(self, worker: Worker, run: Run) -> None:
        name = run.exercise.name
        if name in self._surprised:
            return
        room = min(MOST_BYTES, worker.room_ahead) - sum(sent.size for sent in self._sent)
        for following in self._after(run):
            if len(self._sent) >= MOST_RUNS:
                return
            if self._is_on_its_way(following) or following.key in self._replies:
                continue
            if self._reply_bytes(following) is None:
                continue
            sent = worker.send_ahead(room, "run", **self._request(following))
            if sent is None:
                return
            token, size = sent
            room -= size
            self._sent.append(_Sent(following, token, size))

    def _after(self, run: Run) -> Sequence[Run]:
        runs = self._foreseen.get(run.exercise.name, ())
        place = next((i for i, other in enumerate(runs) if other.key == run.key), len(runs))
        return runs[place + 1 : place + 1 + 2 * MOST_RUNS]

    def _receive(self, worker: Worker, asked: Run, seconds: float) -> None:
        """Take the next reply, be it the one asked for or not."""
        sent = self._sent.popleft()
        limit = self._reply_bytes(sent.run) or 0
        if sent.run.key == asked.key:
            self._replies[sent.run.key] = worker.receive(sent.token, seconds, limit)
            return
        began, died = time.monotonic(), False
        try:
            allowed = min(seconds, sent.run.case.seconds)
            self._replies[sent.run.key] = worker.receive(sent.token, allowed, limit)
        except WorkerDied:
            died = True
        waited = time.monotonic() - began
        self.unasked_seconds += waited
        if died or waited > SLOW:
            self._surprised.add(sent.run.exercise.name)
