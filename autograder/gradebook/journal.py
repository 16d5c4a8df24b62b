"""Verdicts on disk, so that an unchanged notebook is never graded twice.

``journal/<assignment>/<student>/<lesson>.json`` holds one verdict with the key of everything it
depends on; ``gradebook.state`` beside it says which verdicts nbgrader's gradebook has.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.engine.verdict import Verdict
from autograder.gradebook.jsonfile import PART, not_kept, read_json, write_json
from autograder.gradebook.move import Move

FOLDER = "journal"
STATE = "gradebook.state"
SLACK = 1e-3  # points are rounded


class Busy(RuntimeError):
    """Another run is grading the same assignment."""


@dataclass(frozen=True)
class Record:
    """What grading one notebook came to.

    Attributes:
        key: of the notebook and of all that judged it.
        student: the student's id.
        lesson: as ``chapter/lesson``.
        verdict: None where the notebook could not be read.
        failure: why it could not; empty where it was graded.
        basis: what the key is the digest of, by name; empty in records of earlier versions.
        moved: how the grade last moved when the notebook was graded again; None if it never did.
    """

    key: str
    student: str
    lesson: str
    verdict: Verdict | None
    failure: str = ""
    basis: Mapping[str, str] = field(default_factory=dict)
    moved: Move | None = None

    @property
    def asks_for_review(self) -> bool:
        """Whether a person must look: it could not be read, or the grader itself failed."""
        return self.verdict is None or self.verdict.has_errors

    @property
    def seal(self) -> str:
        """A digest of all of it: two gradings of one file share a key, and may differ in this."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        verdict = self.verdict.to_dict() if self.verdict else None
        return {
            "key": self.key,
            "student": self.student,
            "lesson": self.lesson,
            "verdict": verdict,
            "failure": self.failure,
            "basis": dict(self.basis),
            "moved": self.moved.to_dict() if self.moved else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """Rebuild a record that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError, ValueError: the data are of another version, or damaged.
        """
        try:
            basis = {str(name): str(value) for name, value in data.get("basis", {}).items()}
            moved = Move.from_dict(data["moved"]) if data.get("moved") else None
        except AttributeError as error:
            raise TypeError(f"a record's basis or move is none: {error}") from None
        verdict = Verdict.from_dict(data["verdict"]) if data["verdict"] is not None else None
        texts = [data[name] for name in ("key", "student", "lesson", "failure")]
        if not all(isinstance(text, str) for text in texts) or (verdict is None) != bool(texts[3]):
            raise TypeError("a record's fields are not what they should be")
        if verdict is not None:
            _check(verdict)
        key, student, lesson, failure = texts
        return cls(key, student, lesson, verdict, failure, basis, moved)


@dataclass(frozen=True)
class Journal:
    """One assignment's records.

    Attributes:
        folder: ``journal/`` in the course folder.
        assignment: its name.
    """

    folder: Path
    assignment: str

    def path(self, student: str, name: str) -> Path:
        """Where the record of a student's notebook is."""
        return self.folder / self.assignment / student / f"{name}.json"

    def read(self, student: str, name: str) -> Record | None:
        """The record; None where there is none, or one of another version or student."""
        data = read_json(self.path(student, name))
        try:
            record = Record.from_dict(data) if data else None
        except (KeyError, TypeError, ValueError):
            return None
        return record if record and record.student == student else None

    def write(self, name: str, record: Record) -> None:
        """Keep a record, whole or not at all.

        Raises:
            NotKept: the disk is full, or the folder may not be written.
        """
        write_json(self.path(record.student, name), record.to_dict())

    def begin(self, student: str) -> None:
        """Remember that nbgrader is about to write this student's grades.

        Raises:
            NotKept: as in `write`.
        """
        write_json(self._state(student), {"finished": None})

    def finish(self, student: str, written: dict[str, Any]) -> None:
        """Remember what nbgrader has written of this student's.

        Raises:
            NotKept: as in `write`.
        """
        write_json(self._state(student), {"finished": written})

    def finished(self, student: str) -> dict[str, Any] | None:
        """What nbgrader has written; None where it has not come to the end."""
        found = (read_json(self._state(student)) or {}).get("finished")
        return found if isinstance(found, dict) else None

    def interrupted(self, student: str) -> bool:
        """Whether nbgrader began to write this student's grades and did not come to the end."""
        state = read_json(self._state(student))
        return state is not None and state.get("finished") is None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the assignment's journal, so that two runs do not write at once.

        What a run that was killed had half written is removed.

        Raises:
            Busy: another run holds it.
            NotKept: as in `write`.
        """
        folder = self.folder / self.assignment
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("w")
        except OSError as error:
            raise not_kept(folder, error) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"another run is grading {self.assignment}: wait for it to end"
                ) from None
            except OSError as error:
                raise not_kept(folder, error) from None
            for half in folder.glob(f"*/.*{PART}"):
                half.unlink(missing_ok=True)
            yield

    def _state(self, student: str) -> Path:
        return self.folder / self.assignment / student / STATE


def _check(verdict: Verdict) -> None:
    scores = [(verdict.score, verdict.max_score)]
    scores += [(e.score, e.max_score) for e in verdict.exercises]
    for score, most in scores:
        numbers = isinstance(score, int | float) and isinstance(most, int | float)
        if not numbers or not -SLACK <= score <= most + SLACK < math.inf:
            raise ValueError(f"a score of {score!r} of {most!r}")
