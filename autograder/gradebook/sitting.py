"""One session of nbgrader's gradebook, in which all of its steps for a student work.

nbgrader opens the gradebook anew for every step, six to eight times a student, and asks it for
each cell by itself. In a sitting all of these gradebooks are one session; a notebook's cells and
grades are asked for together, and what the course is made of once a run; and what became of a
student stands at once when `Sitting.save` commits it, or not at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nbgrader.api
from nbgrader.api import (
    Assignment,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    Notebook,
    SolutionCell,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
)
from sqlalchemy.orm import scoped_session

OF_A_STUDENT = (Student, SubmittedAssignment, SubmittedNotebook, Grade, Comment)
OF_ALL_STUDENTS = {Assignment: ["submissions"], Notebook: ["submissions"]}


class Sitting:
    """The sessions, one for each gradebook, that nbgrader's steps share."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    @contextmanager
    def of_a_student(self) -> Iterator[None]:
        """Have all gradebooks that are opened in here share a session.

        The gradebook's file is open no longer than that.
        """
        sittings = _sittings()
        sittings.open, whole = self, False
        try:
            yield
            whole = True
        finally:
            sittings.open = None
            for session in self._sessions.values():
                session.leave()
            if not whole:  # what it knows of the course may be what went wrong
                self._sessions.clear()

    def session(self, factory: Any) -> _Session:
        """The session on the database that a factory's would be on."""
        database = factory.kw["bind"].url.render_as_string(hide_password=False)
        if database not in self._sessions:
            self._sessions[database] = _Session(factory)
        return self._sessions[database]

    def save(self) -> None:
        """Commit what nbgrader's steps have done for a student."""
        for session in self._sessions.values():
            session.save()


class _Session(scoped_session[Any]):
    """A session that goes on when a gradebook is closed, and of which only `save` commits.

    Attributes:
        found: what the course is made of, by what asked for it.
        found_here: what is the student's, by what asked for it; for one step only.
    """

    def __init__(self, factory: Any) -> None:
        factory.configure(expire_on_commit=False)
        super().__init__(factory)
        self._engine = factory.kw["bind"]
        self.found: dict[Any, Any] = {}
        self.found_here: dict[Any, Any] = {}

    def commit(self) -> None:
        if self.new:  # so that nbgrader sees what the database does not take
            self.flush()

    def remove(self) -> None:
        """End a step: the next reads what this one has changed, scores that are sums too."""
        if any(map(self.is_modified, self.dirty)) or self.new or self.deleted:
            self.flush()
            self.found_here.clear()
            for one in self._students():
                self.expire(one)

    def save(self) -> None:
        super().commit()

    def leave(self) -> None:
        """Keep nothing of a student, and no connection."""
        self.found_here.clear()
        self.rollback()
        self._engine.dispose()
        for one in self._students():
            self.expunge(one)
        for one in self.identity_map.values():
            if type(one) in OF_ALL_STUDENTS:
                self.expire(one, OF_ALL_STUDENTS[type(one)])

    def _students(self) -> list[Any]:
        return [one for one in self.identity_map.values() if isinstance(one, OF_A_STUDENT)]


class _Sittings:
    """Stands for ``nbgrader.api.scoped_session``; while there is a sitting, gives its session."""

    def __init__(self) -> None:
        self.open: Sitting | None = None

    def __call__(self, factory: Any) -> scoped_session[Any]:
        return self.open.session(factory) if self.open else scoped_session(factory)


@functools.cache
def _sittings() -> _Sittings:
    """Put in nbgrader's place, once in a process, what lets its gradebooks share a session."""
    sittings = nbgrader.api.scoped_session = _Sittings()
    for name in ("find_assignment", "find_notebook"):
        _remember(name, "found")
    for name in ("find_student", "find_submission", "find_submission_notebook"):
        _remember(name, "found_here")
    _together("find_source_cell", "found", _source_cells)
    _together("find_graded_cell", "found", _graded_cells)
    _together("find_grade", "found_here", _grades)
    _together("find_comment", "found_here", _comments)
    return sittings


def _remember(name: str, where: str) -> None:
    """Have one of a gradebook's methods look for the same thing once in a sitting."""
    find = getattr(Gradebook, name)

    @functools.wraps(find)
    def finding(gradebook: Gradebook, *asked: str) -> Any:
        if not isinstance(gradebook.db, _Session):
            return find(gradebook, *asked)
        found = getattr(gradebook.db, where)
        if (name, *asked) not in found:
            found[name, *asked] = find(gradebook, *asked)
        return found[name, *asked]

    setattr(Gradebook, name, finding)


def _together(name: str, where: str, members: Callable[..., dict[str, Any]]) -> None:
    """Have one of a gradebook's methods look for all of a notebook's cells when asked for one."""
    find = getattr(Gradebook, name)

    @functools.wraps(find)
    def finding(gradebook: Gradebook, cell: str, *notebook: str) -> Any:
        if not isinstance(gradebook.db, _Session):
            return find(gradebook, cell, *notebook)
        found = getattr(gradebook.db, where)
        if (name, *notebook) not in found:
            found[name, *notebook] = members(gradebook, *notebook)
        one = found[name, *notebook].get(cell)
        return find(gradebook, cell, *notebook) if one is None else one

    setattr(Gradebook, name, finding)


def _source_cells(gradebook: Gradebook, *notebook: str) -> dict[str, Any]:
    return {cell.name: cell for cell in gradebook.find_notebook(*notebook).source_cells}


def _graded_cells(gradebook: Gradebook, *notebook: str) -> dict[str, Any]:
    return _cells(gradebook, (TaskCell, GradeCell), *notebook)


def _grades(gradebook: Gradebook, *submitted: str) -> dict[str, Any]:
    """A student's grades; as nbgrader does, a test's where a task has the same name."""
    cells = _cells(gradebook, (TaskCell, GradeCell), *submitted[:2])
    return _of_cells(gradebook.find_submission_notebook(*submitted).grades, cells)


def _comments(gradebook: Gradebook, *submitted: str) -> dict[str, Any]:
    cells = _cells(gradebook, (TaskCell, SolutionCell), *submitted[:2])
    return _of_cells(gradebook.find_submission_notebook(*submitted).comments, cells)


def _cells(gradebook: Gradebook, kinds: tuple[type, ...], *notebook: str) -> dict[str, Any]:
    """A notebook's cells of some kinds, by their names; of two that share one, the later kind's."""
    found = gradebook.db.found
    if (kinds, *notebook) not in found:
        whole = gradebook.find_notebook(*notebook)
        cells = [gradebook.db.query(kind).filter_by(notebook_id=whole.id) for kind in kinds]
        found[kinds, *notebook] = {cell.name: cell for of_a_kind in cells for cell in of_a_kind}
    return found[kinds, *notebook]


def _of_cells(entries: list[Any], cells: dict[str, Any]) -> dict[str, Any]:
    by_cell = {entry.cell_id: entry for entry in entries}
    return {name: by_cell[cell.id] for name, cell in cells.items() if cell.id in by_cell}
