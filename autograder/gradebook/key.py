"""The key of a verdict: of a notebook's bytes and of everything that judged them."""

from __future__ import annotations

import hashlib
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


def fingerprint(
    lesson: Lesson, device: str, megabytes: int | None = None, device_points: str = COUNT
) -> str:
    """A digest of everything but the notebook that a verdict depends on."""
    told = f"{device}, torch {version('torch')}"
    if megabytes:  # with less memory, what was right may fail
        told += f", {megabytes} MiB"
    if device_points != COUNT:
        told += f", device points: {device_points}"
    digest = hashlib.sha256(told.encode())
    paths = [lesson.grader_file, lesson.reference_file, lesson.source]
    for package in JUDGES:
        paths += sorted((ROOT / package).rglob("*.py"))
    for path in paths:
        content = path.read_bytes() if path.exists() else b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def key_of(data: bytes, judged_by: str) -> str:
    """The key of a verdict: of the notebook's bytes and the fingerprint of what judged them."""
    return hashlib.sha256(hashlib.sha256(data).digest() + judged_by.encode()).hexdigest()
