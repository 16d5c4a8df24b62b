"""What must hold between a lesson, its references and its grader before it is built."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator

from autograder.builder.problem import Problem
from autograder.builder.solution import mark_solution
from autograder.builder.text import LessonText, TextCell
from autograder.lesson import Lesson

DIFFICULTY = re.compile(r"\*\*Difficulty [1-5]/5 · about \d+ minutes?\*\*")
SHORT = 12  # expressions shorter than this say nothing that a docstring may not


def problems_of(lesson: Lesson, text: LessonText) -> list[Problem]:
    """Everything wrong with a lesson whose text could be read."""
    if not lesson.grader_file.exists():
        return [Problem(text.file, 1, f"the lesson has no grader: write {lesson.grader_file.name}")]
    if not lesson.reference_file.exists():
        return [Problem(text.file, 1, f"the lesson has no reference: {lesson.reference_file.name}")]
    found = [
        *_exercise_problems(lesson, text),
        *_grader_problems(lesson, text),
        *_earlier_problems(lesson, text),
    ]
    if not found:
        found = [*_reference_problems(lesson, text), *_order_problems(text)]
    return found


def _exercise_problems(lesson: Lesson, text: LessonText) -> Iterator[Problem]:
    seen: set[str] = set()
    for cell in text.of_role("exercise"):
        module, name = cell.module, cell.names[0]
        if module != f"solutions.{lesson.chapter}.{lesson.name}":
            told = f"import it from solutions.{lesson.chapter}.{lesson.name}"
            yield Problem(text.file, cell.line, f"{module} is another lesson's reference: {told}")
        elif not hasattr(lesson.reference, name):
            told = f"{name!r} names nothing in {lesson.reference_file.name}"
            yield Problem(text.file, cell.line, f"{told}: write the reference, or mend the name")
        elif name in seen:
            yield Problem(
                text.file, cell.line, f"the exercise {name!r} stands in this lesson twice"
            )
        seen.add(name)


def _earlier_problems(lesson: Lesson, text: LessonText) -> Iterator[Problem]:
    """What is wrong with what the lesson takes from earlier lessons of its chapter."""
    names: set[str] = set()
    for cell in text.of_role("earlier"):
        names |= set(cell.names)
        _, chapter, lesson_name = cell.module.split(".")
        other = Lesson(chapter, lesson_name, lesson.root)
        if other.chapter != lesson.chapter or other == lesson or not other.text.exists():
            told = f"{cell.module} is no other lesson of {lesson.chapter}: students have only those"
            yield Problem(text.file, cell.line, told)
            continue
        for name in cell.names:
            exercise = other.exercises.get(name)
            if exercise is None or exercise.oracle is None:
                told = f"{name!r} is no exercise of {other.key} with an oracle to stand in for it"
                yield Problem(text.file, cell.line, told)
    for name in sorted(names ^ set(lesson.earlier)):
        where = "the reference does not import it" if name in names else "no earlier cell does"
        told = f"lesson and reference must take the same names from earlier lessons: {name!r}"
        yield Problem(text.file, 1, f"{told}; {where}")


def _grader_problems(lesson: Lesson, text: LessonText) -> Iterator[Problem]:
    names = [cell.exercise for cell in text.of_role("exercise")]
    for name in names:
        if name not in lesson.exercises:
            cell = next(c for c in text.of_role("exercise") if c.exercise == name)
            told = f"{lesson.grader_file.name} does not grade it"
            yield Problem(text.file, cell.line, f"the exercise {name!r} has no grader: {told}")
    for name, exercise in lesson.exercises.items():
        line = _line_of(lesson.grader_file.read_text(encoding="utf-8"), f'"{name}"')
        if name not in names:
            told = "the lesson has no such exercise"
            yield Problem(lesson.grader_file, line, f"a grader for no exercise: {name!r}; {told}")
        elif not exercise.points:
            yield Problem(lesson.grader_file, line, f"{name!r} has no test, so it earns nothing")
    if list(lesson.exercises) != names and set(lesson.exercises) == set(names):
        told = ", ".join(str(name) for name in names)
        yield Problem(lesson.grader_file, 1, f"declare the exercises in the lesson's order: {told}")


def _reference_problems(lesson: Lesson, text: LessonText) -> Iterator[Problem]:
    whole = lesson.reference_file.read_text(encoding="utf-8")
    provided = set(dir(builtins)) | _defined_names(text.of_role("setup")) | set(lesson.earlier)
    for cell in text.of_role("exercise"):
        name = cell.exercise or ""
        source = lesson.reference_source(name)
        line = _line_of(whole, source.split("\n")[0])
        node = ast.parse(source).body[0]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from (
                Problem(lesson.reference_file, line, told) for told in _docstring_problems(node)
            )
        provided.add(name)
        for missing in sorted(_free_names(source) - provided):
            told = "import it in the lesson's setup cell, or define it there"
            message = f"{name!r} uses {missing!r}, which the notebook does not have: {told}"
            yield Problem(lesson.reference_file, line, message)
        if "### BEGIN SOLUTION" not in mark_solution(source):
            yield Problem(lesson.reference_file, line, f"{name!r} leaves nothing to be written")


def _docstring_problems(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    documented = ast.get_docstring(node)
    if not documented:
        yield f"{node.name!r} has no docstring: students would not know what to write"
    given_away: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            shown = _squeezed(f"{documented or ''}\n{ast.get_docstring(part) or ''}")
            for statement in part.body[1:] if ast.get_docstring(part) else part.body:
                told = _telling_expressions(statement)
                given_away |= {expression for expression in told if _squeezed(expression) in shown}
    for expression in sorted(given_away):
        yield f"the docstring of {node.name!r} holds the body's code: {expression!r}"


def _telling_expressions(statement: ast.stmt) -> Iterator[str]:
    """Computed values of a statement and those within it, long enough to give something away."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return):
            value = node.value
            if isinstance(value, ast.BinOp | ast.Call) and len(ast.unparse(value)) >= SHORT:
                yield ast.unparse(value)


def _order_problems(text: LessonText) -> Iterator[Problem]:
    prose = ""
    cells = list(text.cells)
    if not text.of_role("setup"):
        yield Problem(text.file, 1, "the lesson has no setup cell: tag its imports `setup`")
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if cell.role == "prose":
            prose = cell.source
        elif cell.role == "exercise":
            if not DIFFICULTY.search(prose):
                told = "write **Difficulty d/5 · about m minutes** in the text before it"
                yield Problem(text.file, cell.line, f"{cell.exercise!r} has no difficulty: {told}")
            if following is None or following.role not in ("check", "prose"):
                yield Problem(text.file, cell.line, f"{cell.exercise!r} has no visible check")
            prose = ""
    for exercise, block in _blocks(cells):
        if not any(cell.role == "check" for cell in block):
            yield Problem(text.file, exercise.line, f"{exercise.exercise!r} has no visible check")


def _blocks(cells: list[TextCell]) -> Iterator[tuple[TextCell, list[TextCell]]]:
    """Each exercise with the cells up to the next one."""
    at = [i for i, cell in enumerate(cells) if cell.role == "exercise"]
    for i, end in zip(at, [*at[1:], len(cells)], strict=True):
        yield cells[i], cells[i + 1 : end]


def _defined_names(cells: list[TextCell]) -> set[str]:
    names: set[str] = set()
    for cell in cells:
        table = symtable.symtable(cell.source, "setup", "exec")
        names |= {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
        names |= {s.get_name() for s in table.get_symbols() if s.is_namespace()}
    return names


def _free_names(source: str) -> set[str]:
    """Names that a definition takes from the notebook around it."""
    top = symtable.symtable(source, "reference", "exec")
    own = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_namespace()}
    found: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            outside = symbol.is_global() or table is top
            if outside and symbol.is_referenced():
                found.add(symbol.get_name())
    return found - own - {"__class__"}


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _line_of(text: str, wanted: str) -> int:
    for number, line in enumerate(text.split("\n"), start=1):
        if wanted in line:
            return number
    return 1
