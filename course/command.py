"""The command ``forwardpass``: all of it from a checkout, advice from a student's wheel."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> int:
    """Hand over to the instructor's command where there is one.

    Returns:
        The exit status; 2 where only the students' part is installed.
    """
    if find_spec("autograder") is None:
        print(
            "forwardpass: this is the students' package: open a lesson's notebook to use it.\n"
            "Building and grading need a checkout of the course, installed with\n"
            "    pip install -e '.[instructor]'",
            file=sys.stderr,
        )
        return 2
    from autograder.command import main as instructor_main

    return instructor_main()
