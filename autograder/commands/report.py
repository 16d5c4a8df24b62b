"""``forwardpass report``: the class report, one page that opens offline."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path

from rich.console import Console

from autograder.command import GRADED, CommandError
from autograder.commands import options as shared
from autograder.report.journal import UnreadableJournal, read_class
from autograder.report.page import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("assignment", metavar="ASSIGNMENT", help="as nbgrader calls it")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="(default: report-ASSIGNMENT.html)"
    )
    parser.add_argument(
        "--course",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where the journal and the gradebook are (default: here)",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page and say where."""
    assignment = Path(options.assignment).name
    try:
        record = read_class(options.course, assignment)
    except UnreadableJournal as error:
        raise CommandError(str(error)) from None
    if not record.entries:
        raise shared.UsageError(
            f"{options.course / 'journal' / assignment} holds no verdicts: run "
            f"`forwardpass grade {assignment}` in this course folder first"
        )
    output: Path = options.output or Path(f"report-{assignment}.html")
    page = render(record, datetime.now().astimezone())
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from None
    graded = sum(entry.verdict is not None for entry in record.entries)
    Console().print(f"{output}: {graded} notebooks graded", highlight=False)
    return GRADED
