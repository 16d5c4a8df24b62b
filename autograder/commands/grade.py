"""``forwardpass grade``: a class, into nbgrader's gradebook."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autograder.command import GRADED, UNGRADED, CommandError
from autograder.commands import options as shared
from autograder.feedback.outline import number
from autograder.gradebook.bookkeeper import Bookkeeper, Busy, NotWritten
from autograder.gradebook.classwork import Classwork, Graded
from autograder.gradebook.course import Course, Handed, UnfitCourse
from autograder.gradebook.grader import GradingRefused
from autograder.gradebook.verdicts import Verdicts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("assignment", metavar="ASSIGNMENT", help="as nbgrader calls it")
    parser.add_argument("--student", nargs="+", metavar="ID", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=shared.cores(), help="(default: the cores)")
    parser.add_argument(
        "--force", action="store_true", help="grade again what has not changed since it was graded"
    )
    parser.add_argument(
        "--course",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="with submitted/ and the gradebook (default: here)",
    )
    shared.add_device(parser)
    parser.set_defaults(device=None)  # the course's nbgrader_config.py says, or else the CPU
    shared.add_layers(parser)
    shared.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Grade, enter the grades, print what came of it; 1 where something needs a person."""
    if options.jobs < 1:
        raise shared.UsageError(f"--jobs {options.jobs}: at least 1 is needed")
    if options.json:
        options.json = options.json.absolute()
    try:
        course = Course(options.course, Path(options.assignment).name)
    except (UnfitCourse, OSError) as error:
        raise CommandError(str(error)) from None
    options.device = options.device or course.device
    policy = shared.policy_of(options)
    handed = _chosen(course, options.student)
    verdicts = Verdicts(course.journal, policy.device, fresh=options.force)
    submissions = [submission for one in handed for submission in one.submissions]
    jobs = max(1, min(options.jobs, len(submissions)))
    work = Classwork(verdicts, policy.device, policy.without, jobs)
    bookkeeper = Bookkeeper(course, policy.device)
    report = _Report(course, handed)
    try:
        with bookkeeper.alone(), _progress() as progress:
            bar = progress.add_task("notebooks", total=len(submissions))
            for graded in work.grade(submissions):
                report.add(graded, progress.console)
                progress.advance(bar)
            students = report.to_write()
            bar = progress.add_task("gradebook", total=len(students))
            for student in students:
                report.write(student, bookkeeper)
                progress.advance(bar)
    except (GradingRefused, Busy) as error:
        raise CommandError(f"nothing was entered in the gradebook: {error}") from None
    report.print(Console())
    if options.json:
        shared.write_json(options.json, report.to_dict())
    return UNGRADED if report.troubles else GRADED


def _chosen(course: Course, wanted: list[str] | None) -> list[Handed]:
    handed = course.handed_in()
    if not handed:
        raise CommandError(
            f"no submissions of {course.assignment} in {course.coursedir.submitted_directory}/: "
            f"run `nbgrader collect {course.assignment}` first"
        )
    unknown = set(wanted or ()) - {one.student for one in handed}
    if unknown:
        raise shared.UsageError(
            f"no submission of {course.assignment} by {', '.join(sorted(unknown))}; there are "
            f"submissions by {', '.join(one.student for one in handed)}"
        )
    return [one for one in handed if not wanted or one.student in wanted]


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@dataclass
class _Report:
    course: Course
    handed: list[Handed]
    graded: dict[str, list[Graded]] = field(default_factory=lambda: defaultdict(list))
    troubles: list[tuple[str, str]] = field(default_factory=list)
    entered: int = 0

    def __post_init__(self) -> None:
        for one in self.handed:
            found = {submission.name for submission in one.submissions}
            missing = [name for name in self.course.lessons if name not in found]
            if missing and one.strays:
                told = ", ".join(f"{name}.ipynb" for name in one.strays)
                wanted = " and ".join(f"{name}.ipynb" for name in missing)
                self.troubles.append(
                    (one.student, f"{told} is none of the lessons; is it {wanted}? Rename it.")
                )
            elif not one.submissions:
                self.troubles.append((one.student, "the submission holds no notebook"))

    def add(self, graded: Graded, console: Console) -> None:
        submission, record = graded.submission, graded.record
        self.graded[submission.student].append(graded)
        where = f"{submission.student} {submission.name}"
        if record is None:
            self.troubles.append((submission.student, f"{submission.name}: {graded.failure}"))
        elif record.verdict is None:
            self.troubles.append((submission.student, f"could not be read: {record.failure}"))
        elif record.verdict.has_errors:
            self.troubles.append(
                (submission.student, f"{submission.name}: a hidden test itself failed; look at it")
            )
        if record is not None and record.verdict is not None and not graded.reused:
            verdict = record.verdict
            console.print(
                f"{where}: {number(verdict.score)} of {number(verdict.max_score)}",
                markup=False,
                highlight=False,
            )

    def to_write(self) -> list[str]:
        """Students all of whose notebooks have a verdict; the others stay out of the gradebook."""
        return sorted(s for s, all_of in self.graded.items() if all(g.record for g in all_of))

    def write(self, student: str, bookkeeper: Bookkeeper) -> None:
        mine = self.graded[student]
        records = {g.submission: g.record for g in mine if g.record is not None}
        if all(g.reused for g in mine) and bookkeeper.is_written(records):
            return
        try:
            bookkeeper.write(student)
            self.entered += 1
        except NotWritten as error:
            self.troubles.append((student, f"nbgrader could not enter the grades: {error}"))

    def print(self, console: Console) -> None:
        reused = sum(g.reused for g in self._all())
        console.print(
            f"{self.course.assignment}: {len(self._all()) - reused} notebooks graded, {reused} "
            f"unchanged; grades of {self.entered} students entered in the gradebook.",
            highlight=False,
        )
        for student, trouble in self.troubles:
            console.print(f"{student}: {trouble}", style="yellow", markup=False, highlight=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "assignment": self.course.assignment,
            "submissions": [_entry(graded) for graded in self._all()],
            "troubles": [{"student": s, "message": message} for s, message in self.troubles],
        }

    def _all(self) -> list[Graded]:
        return [graded for student in sorted(self.graded) for graded in self.graded[student]]


def _entry(graded: Graded) -> dict[str, Any]:
    record = graded.record
    verdict = record.verdict if record else None
    return {
        "student": graded.submission.student,
        "lesson": graded.submission.lesson,
        "score": verdict.score if verdict else None,
        "max_score": verdict.max_score if verdict else None,
        "unchanged": graded.reused,
        "failure": graded.failure or (record.failure if record else ""),
        "verdict": verdict.to_dict() if verdict else None,
    }
