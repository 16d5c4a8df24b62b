"""A lesson: one path, five rooms, and the grader's exercises behind it."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.spec import Exercise

ROOT = Path(__file__).resolve().parents[1]


class UnknownLesson(LookupError):
    """No lesson of that name."""


@dataclass(frozen=True)
class Lesson:
    """One lesson of one chapter; everything about it follows from the two names."""

    chapter: str
    name: str
    root: Path = ROOT

    @property
    def key(self) -> str:
        return f"{self.chapter}/{self.name}"

    @property
    def text(self) -> Path:
        return self.root / "course" / self.chapter / f"{self.name}.md"

    @property
    def reference_file(self) -> Path:
        return self.root / "solutions" / self.chapter / f"{self.name}.py"

    @property
    def grader_file(self) -> Path:
        return self.root / "autograder" / "graders" / self.chapter / f"test_{self.name}.py"

    @property
    def source(self) -> Path:
        return self.root / "source" / self.chapter / f"{self.name}.ipynb"

    @property
    def release(self) -> Path:
        return self.root / "release" / self.chapter / f"{self.name}.ipynb"

    @cached_property
    def reference(self) -> ModuleType:
        return importlib.import_module(f"solutions.{self.chapter}.{self.name}")

    @cached_property
    def grader(self) -> ModuleType:
        return importlib.import_module(f"autograder.graders.{self.chapter}.test_{self.name}")

    @cached_property
    def earlier(self) -> dict[str, Lesson]:
        """The names that the references take from other lessons, and from which."""
        found: dict[str, Lesson] = {}
        for statement in ast.parse(self.reference_file.read_text(encoding="utf-8")).body:
            parts = (getattr(statement, "module", None) or "").split(".")
            if isinstance(statement, ast.ImportFrom) and parts[0] == "solutions":
                other = Lesson(parts[1], parts[2], self.root)
                found |= {alias.name: other for alias in statement.names}
        return found

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        """The exercises in the order in which the grader declares them."""
        # Here, not above: it brings in torch, which those who only need paths do without.
        from autograder.spec import Exercise

        found = (value for value in vars(self.grader).values() if isinstance(value, Exercise))
        return {exercise.name: exercise for exercise in found}

    @cached_property
    def _reference_sources(self) -> dict[str, str]:
        return {}

    def reference_source(self, exercise: str) -> str:
        """The source of one exercise's reference."""
        if exercise not in self._reference_sources:
            found = inspect.getsource(getattr(self.reference, exercise))
            self._reference_sources[exercise] = found
        return self._reference_sources[exercise]

    def implementation(self, exercise: str, source: str | None = None) -> Any:
        """An exercise's reference, or that of a rewritten source in the reference's place."""
        if source is None:
            return getattr(self.reference, exercise)
        namespace = dict(vars(self.reference))
        exec(_compiled(source, f"<{exercise} rewritten>"), namespace)
        return namespace[exercise]


@lru_cache(maxsize=4096)
def _compiled(source: str, file: str) -> CodeType:
    return compile(source, file, "exec", dont_inherit=True)


def all_lessons(root: Path = ROOT) -> list[Lesson]:
    """Every lesson that has a text, in the syllabus's order."""
    return [
        Lesson(path.parent.name, path.stem, root)
        for path in sorted((root / "course").glob("ch*/*.md"))
        if path.stem != "index"
    ]


def find_lesson(name: str) -> Lesson:
    """Find a lesson by ``chapter/lesson``, by its own name where only one has it, or by one of
    its five paths.

    Raises:
        UnknownLesson: none, or more than one, fits.
    """
    lessons = all_lessons()
    wanted = name.removesuffix("/")
    for lesson in lessons:
        rooms = (lesson.text, lesson.reference_file, lesson.grader_file, lesson.source)
        if wanted == lesson.key or Path(wanted).resolve() in (*rooms, lesson.release):
            return lesson
    fitting = [lesson for lesson in lessons if lesson.name == wanted]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(lesson.key for lesson in lessons)
    raise UnknownLesson(f"no lesson is called {name!r}; there are: {known}")
