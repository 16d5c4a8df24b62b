"""``forwardpass build``: lessons and references to ``source/`` and ``release/``."""

from __future__ import annotations

import argparse
import sys

from autograder.builder.problem import BuildError
from autograder.builder.rooms import build, graders_without_lesson, stale, surplus, write
from autograder.command import CommandError
from autograder.lesson import ROOT, all_lessons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name what is stale and exit 1"
    )


def run(options: argparse.Namespace) -> int:
    """Build every lesson, or say what is stale."""
    lessons = all_lessons()
    try:
        files = build(lessons)
    except BuildError as error:
        count = len(error.problems)
        raise CommandError(f"{count} to be put right, nothing was written\n{error}") from None
    strays = graders_without_lesson()
    if strays:
        raise CommandError("\n".join(str(problem) for problem in strays))
    old = stale(files)
    unbuilt = surplus(files)
    for path in old:
        print(f"{'stale' if options.check else 'built'}: {path.relative_to(ROOT)}")
    for path in unbuilt:
        print(f"nothing builds this, remove it: {path.relative_to(ROOT)}", file=sys.stderr)
    if options.check:
        if old:
            print("run `forwardpass build` and commit what it writes", file=sys.stderr)
        return 1 if old or unbuilt else 0
    write({path: files[path] for path in old})
    print(f"{len(lessons)} lessons, {len(old)} files written, {len(files) - len(old)} fresh")
    return 1 if unbuilt else 0
