"""``source/`` and ``release/`` as they should be, and as they are."""

from __future__ import annotations

from pathlib import Path

from autograder.builder.chapter import Chapter
from autograder.builder.notebook import build_source, to_bytes
from autograder.builder.problem import BuildError, Problem
from autograder.builder.release import build_release
from autograder.lesson import ROOT, Lesson, all_lessons


def build(lessons: list[Lesson]) -> dict[Path, bytes]:
    """The files of the given lessons and of their chapters.

    Raises:
        BuildError: with everything wrong in any of them.
    """
    files: dict[Path, bytes] = {}
    problems: list[Problem] = []
    for lesson in lessons:
        try:
            source = build_source(lesson)
        except BuildError as error:
            problems += error.problems
            continue
        files[lesson.source] = to_bytes(source)
        files[lesson.release] = to_bytes(build_release(source))
    for chapter in sorted({(lesson.chapter, lesson.root) for lesson in lessons}):
        try:
            files |= Chapter(*chapter).pages()
        except BuildError as error:
            problems += error.problems
    if problems:
        raise BuildError(problems)
    return files


def graders_without_lesson(root: Path = ROOT) -> list[Problem]:
    """Graders and references that no lesson uses."""
    keys = {(lesson.chapter, lesson.name) for lesson in all_lessons(root)}
    graders = [
        (f, f.stem.removeprefix("test_")) for f in root.glob("autograder/graders/ch*/test_*.py")
    ]
    references = [(f, f.stem) for f in root.glob("solutions/ch*/*.py") if f.stem != "__init__"]
    return [
        Problem(file, 1, f"no lesson course/{file.parent.name}/{name}.md uses this")
        for file, name in sorted(graders + references)
        if (file.parent.name, name) not in keys
    ]


def stale(files: dict[Path, bytes]) -> list[Path]:
    """Which of the files are missing on disk or differ."""
    return [path for path, data in files.items() if not path.exists() or path.read_bytes() != data]


def surplus(files: dict[Path, bytes], root: Path = ROOT) -> list[Path]:
    """Files in the built rooms that nothing builds; students would get them as they are."""
    present = [
        path
        for room in ("source", "release")
        for path in (root / room).rglob("*")
        if path.is_file() and ".ipynb_checkpoints" not in path.parts
    ]
    return sorted(path for path in present if path not in files)


def write(files: dict[Path, bytes]) -> None:
    """Write each file whole or not at all."""
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(data)
        temporary.replace(path)
