"""Verdicts on disk, so that an unchanged notebook is never graded twice.

``journal/<assignment>/<student>/<lesson>.json`` holds one verdict with the key of everything it
depends on; ``gradebook.state`` beside it says whether nbgrader's gradebook has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.engine.verdict import Verdict
from autograder.lesson import ROOT, Lesson

FOLDER = "journal"
STATE = "gradebook.state"
ENGINE = ("engine", "spec")


@dataclass(frozen=True)
class Record:
    """What grading one notebook came to.

    Attributes:
        key: of the notebook and of all that judged it.
        student: the student's id.
        lesson: as ``chapter/lesson``.
        verdict: None where the notebook could not be read.
        failure: why it could not; empty where it was graded.
    """

    key: str
    student: str
    lesson: str
    verdict: Verdict | None
    failure: str = ""

    @property
    def asks_for_review(self) -> bool:
        """Whether a person must look: it could not be read, or the grader itself failed."""
        return self.verdict is None or self.verdict.has_errors

    def to_dict(self) -> dict[str, Any]:
        verdict = self.verdict.to_dict() if self.verdict else None
        return {
            "key": self.key,
            "student": self.student,
            "lesson": self.lesson,
            "verdict": verdict,
            "failure": self.failure,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """Rebuild a record that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError: the data are of another version.
        """
        verdict = Verdict.from_dict(data["verdict"]) if data["verdict"] else None
        return cls(data["key"], data["student"], data["lesson"], verdict, data["failure"])


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
        """The record; None where there is none, or one of another version."""
        data = _read_json(self.path(student, name))
        try:
            return Record.from_dict(data) if data else None
        except (KeyError, TypeError):
            return None

    def write(self, name: str, record: Record) -> None:
        """Keep a record, whole or not at all."""
        _write_json(self.path(record.student, name), record.to_dict())

    def begin(self, student: str) -> None:
        """Remember that nbgrader is about to write this student's grades."""
        _write_json(self._state(student), {"finished": None})

    def finish(self, student: str, keys: dict[str, str]) -> None:
        """Remember that nbgrader has written the verdicts of these keys, by notebook."""
        _write_json(self._state(student), {"finished": keys})

    def finished(self, student: str) -> dict[str, str] | None:
        """The keys of the verdicts that nbgrader has written; None where it has not."""
        found = (_read_json(self._state(student)) or {}).get("finished")
        return found if isinstance(found, dict) else None

    def interrupted(self, student: str) -> bool:
        """Whether nbgrader began to write this student's grades and did not come to the end."""
        state = _read_json(self._state(student))
        return state is not None and state.get("finished") is None

    def _state(self, student: str) -> Path:
        return self.folder / self.assignment / student / STATE


def fingerprint(lesson: Lesson, device: str) -> str:
    """A digest of everything but the notebook that a verdict depends on."""
    digest = hashlib.sha256(device.encode())
    paths = [lesson.grader_file, lesson.reference_file, lesson.source]
    for package in ENGINE:
        paths += sorted((ROOT / "autograder" / package).rglob("*.py"))
    for path in paths:
        content = path.read_bytes() if path.exists() else b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def key_of(data: bytes, judged_by: str) -> str:
    """The key of a verdict: of the notebook's bytes and the fingerprint of what judged them."""
    return hashlib.sha256(hashlib.sha256(data).digest() + judged_by.encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # ASCII, so that a student's broken surrogates cannot stop the writing.
    text = json.dumps(data, indent=1) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
