"""A chapter's opening page and its glossary: what students read before the first lesson."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autograder.builder.problem import BuildError, Problem
from autograder.builder.text import LessonText, front_matter, read_text
from autograder.lesson import ROOT, Lesson, all_lessons

PAGE, GLOSSARY = "README.md", "glossary.md"
PLACE = "{{lessons}}"
LINKED = "Words and symbols: [the glossary](glossary.md).\n"


@dataclass(frozen=True)
class Chapter:
    """One chapter: ``course/<name>/index.md`` and the lessons beside it."""

    name: str
    root: Path = ROOT

    @property
    def text(self) -> Path:
        return self.root / "course" / self.name / "index.md"

    @property
    def glossary(self) -> Path:
        return self.root / "course" / GLOSSARY

    def pages(self) -> dict[Path, bytes]:
        """The opening page and the glossary, for ``source/`` and ``release/``.

        Raises:
            BuildError: the page is missing, or does not name the chapter's lessons.
        """
        front, body = _read(self.text)
        lessons = {lesson.name: lesson for lesson in self._lessons()}
        order = front.get("order")
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(lessons):
            told = ", ".join(sorted(lessons))
            raise BuildError(
                [Problem(self.text, 1, f"order: must name each lesson of the chapter once: {told}")]
            )
        if body.count(PLACE) != 1:
            raise BuildError(
                [Problem(self.text, 1, f"one line must be {PLACE}: the lessons' table goes there")]
            )
        table = _table([read_text(lessons[name].text) for name in order])
        page = f"{body.replace(PLACE, table).strip()}\n\n{LINKED}"
        _, glossary = _read(self.glossary)
        found: dict[Path, bytes] = {}
        for room in ("source", "release"):
            folder = self.root / room / self.name
            found[folder / PAGE] = page.encode()
            found[folder / GLOSSARY] = f"{glossary.strip()}\n".encode()
        return found

    def _lessons(self) -> list[Lesson]:
        return [lesson for lesson in all_lessons(self.root) if lesson.chapter == self.name]


def _read(file: Path) -> tuple[dict[str, object], str]:
    """A page's front matter and what follows it."""
    if not file.exists():
        raise BuildError([Problem(file, 1, "there is no such page; CONTRIBUTING shows one")])
    front, body = front_matter(file, file.read_text(encoding="utf-8"))
    if not isinstance(front, dict) or not isinstance(front.get("title"), str):
        raise BuildError([Problem(file, 1, "broken front matter: it has no title:")])
    return front, body


def _table(lessons: list[LessonText]) -> str:
    rows = ["| lesson | you write | minutes |", "|---|---|---|"]
    for number, lesson in enumerate(lessons, start=1):
        written = ", ".join(f"`{cell.exercise}`" for cell in lesson.of_role("exercise"))
        name = lesson.file.stem
        rows.append(f"| {number}. [{lesson.title}]({name}.ipynb) | {written} | {lesson.minutes} |")
    minutes = sum(lesson.minutes for lesson in lessons)
    rows.append(f"| all of it | | {minutes}, which is {_hours(minutes)} |")
    return "\n".join(rows)


def _hours(minutes: int) -> str:
    """To the half hour."""
    halves = max(1, round(minutes / 30))
    whole, half = divmod(halves, 2)
    told = f"{whole or ''}{'½' if half else ''}"
    return f"about {told} hour{'' if told in ('1', '½') else 's'}"
