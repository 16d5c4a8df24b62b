"""Course folders with their exchange."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from coursefolder import CourseFolder

from autograder.lesson import ROOT, Lesson

SETTINGS = """
c.Exchange.root = {exchange!r}
c.Exchange.cache = {cache!r}
c.ExchangeCollect.check_owner = False
"""


@pytest.fixture(scope="session")
def make_course(
    tmp_path_factory: pytest.TempPathFactory, losses: Lesson
) -> Callable[[], CourseFolder]:
    """Make a course folder as nbgrader_config.py says that one is made."""

    def made() -> CourseFolder:
        root = tmp_path_factory.mktemp("course")
        chapter = root / "source" / losses.chapter
        for folder in (chapter, root / "home", root / "exchange"):
            folder.mkdir(parents=True)
        (root / "exchange").chmod(0o777)
        shutil.copy(losses.source, chapter)
        settings = SETTINGS.format(
            exchange=str(root / "exchange"), cache=str(root / "home" / "cache")
        )
        config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
        (root / "nbgrader_config.py").write_text(config + settings, encoding="utf-8")
        return CourseFolder(root, losses)

    return made
