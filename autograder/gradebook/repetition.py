"""What nbgrader does again for every student, done once a run.

It makes a database engine for each of its steps, six to eight times a student, for which
SQLAlchemy compiles every statement anew; with each it looks for every table and for the course;
and for each cell it has the schema of cells' metadata checked before the cell. That is more than
half of the time that entering grades takes. Closing the gradebook still closes its connections.
"""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from typing import Any

import jsonschema
import nbgrader.api
from nbgrader.nbgraderformat import common
from sqlalchemy import inspect
from sqlalchemy.engine import Engine


def spare_repetition() -> None:
    """Have nbgrader keep engines, tables' presence and schemas from now on, in this process."""
    made = nbgrader.api.create_engine
    if hasattr(made, "cache_info"):
        return
    nbgrader.api.create_engine = functools.cache(made)
    base, gradebook = nbgrader.api.Base.metadata, nbgrader.api.Gradebook
    tables = base.create_all = _Tables(base.create_all)
    gradebook.check_course = tables.sparing(gradebook.check_course)
    nbgrader.api.inspect = tables.inspecting(nbgrader.api.inspect)
    common.jsonschema = _Schemas()
    gc.freeze()  # all that was imported; the collector would go through it for every few students


class _Tables:
    """Creates a database's tables when it is first met, and when it has lost them since."""

    def __init__(self, create_all: Any) -> None:
        self._create_all = create_all
        self._met: dict[Engine, set[str]] = {}  # with the courses that are in it

    def __call__(self, bind: Engine) -> None:
        if bind not in self._met or _is_empty(bind):
            self._create_all(bind=bind)
            self._met[bind] = set()

    def sparing(self, check_course: Any) -> Any:
        """``Gradebook.check_course`` for courses that the tables do not hold as yet."""

        def checking(gradebook: Any, course_id: str = "default_course") -> None:
            courses = self._met[gradebook.engine]
            if course_id not in courses:
                check_course(gradebook, course_id=course_id)
                courses.add(course_id)

        return checking

    def inspecting(self, inspect: Any) -> Any:
        """SQLAlchemy's ``inspect``, as far as nbgrader asks it: whether there is any table."""

        def inspected(bind: Engine) -> Any:
            return _Inspected() if bind in self._met and not _is_empty(bind) else inspect(bind)

        return inspected


class _Inspected:
    def get_table_names(self) -> list[str]:
        return ["course"]


def _is_empty(bind: Engine) -> bool:
    """Whether a database has nothing in it; one that is a file, without opening it."""
    file = bind.url.database if bind.url.get_backend_name() == "sqlite" else None
    if file and file != ":memory:":
        return not Path(file).exists() or Path(file).stat().st_size == 0
    return not inspect(bind).get_table_names()


class _Schemas:
    """``jsonschema.validate`` that checks a schema itself once."""

    def __init__(self) -> None:
        self._validators: dict[int, tuple[Any, Any]] = {}  # the schema kept, so that its id stays

    def validate(self, instance: Any, schema: Any) -> None:
        if id(schema) not in self._validators:
            kind = jsonschema.validators.validator_for(schema)
            kind.check_schema(schema)
            self._validators[id(schema)] = schema, kind(schema)
        error = jsonschema.exceptions.best_match(
            self._validators[id(schema)][1].iter_errors(instance)
        )
        if error is not None:
            raise error
