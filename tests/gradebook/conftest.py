"""Course folders with their exchange."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from coursefolder import CourseFolder, made_course

from autograder.lesson import Lesson


@pytest.fixture(scope="session")
def make_course(
    tmp_path_factory: pytest.TempPathFactory, losses: Lesson
) -> Callable[[], CourseFolder]:
    """Make a course folder as nbgrader_config.py says that one is made."""
    return lambda: made_course(tmp_path_factory.mktemp("course"), losses)
