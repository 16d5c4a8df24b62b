"""The key of a verdict: of a notebook's bytes and of everything that judged them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

from autograder.engine.verdict import COUNT
from autograder.lesson import ROOT, Lesson

# Of the checkout, what verdicts depend on beside the lesson's own files.
JUDGES = (
    "autograder/engine",
    "autograder/spec",
    "autograder/builder",
    "autograder/vendored",
    "course",
)
SUBMISSION = "submission"


@dataclass(frozen=True)
class Key:
    """Of a verdict.

    Attributes:
        basis: everything that the verdict depends on, by name: a setting, or a digest.
    """

    basis: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        return _digest(json.dumps(dict(self.basis), sort_keys=True).encode())

    def on(self, data: bytes) -> Key:
        """The key of the verdict on a notebook's bytes, where this one is of what judges them."""
        return Key({SUBMISSION: _digest(data), **self.basis})


def judges_of(
    lesson: Lesson, device: str, megabytes: int | None = None, device_points: str = COUNT
) -> Key:
    """Everything but the notebook that a verdict depends on."""
    engine = hashlib.sha256()
    for package in JUDGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            engine.update(hashlib.sha256(path.read_bytes()).digest())
    files = {
        "hidden tests": lesson.grader_file,
        "reference": lesson.reference_file,
        "lesson": lesson.source,
    }
    return Key(
        {
            **{name: _digest(p.read_bytes() if p.exists() else b"") for name, p in files.items()},
            "engine": engine.hexdigest(),
            "torch": version("torch"),
            "device": device,
            # With less memory, what was right may fail.
            "memory": f"{megabytes} MiB" if megabytes else "as each exercise says",
            "device points": device_points,
        }
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
