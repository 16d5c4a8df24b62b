"""What is wrong with a lesson, a reference or a grader, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autograder.lesson import ROOT


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to be put right before anything is built.

    Attributes:
        file: where.
        line: counted from 1; 1 where the whole file is meant.
        message: what is wrong and what to do.
    """

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        where = self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file
        return f"{where}:{self.line}: {self.message}"


class BuildError(Exception):
    """A lesson cannot be built; every problem found is in ``problems``."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in sorted(problems)))
        self.problems = sorted(problems)
