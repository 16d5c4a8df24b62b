"""``forwardpass grade``: a class, into nbgrader's gradebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from autograder.cluster.trouble import ClusterTrouble
from autograder.command import GRADED, UNGRADED, CommandError
from autograder.commands import options as shared
from autograder.gradebook.bookkeeper import Bookkeeper
from autograder.gradebook.classwork import Classwork
from autograder.gradebook.course import Course, Handed, UnfitCourse
from autograder.gradebook.crowd import Unmeasured, jobs_on
from autograder.gradebook.fault import Unwritable
from autograder.gradebook.grader import LIMIT_SECONDS, GradingRefused
from autograder.gradebook.journal import Busy
from autograder.gradebook.jsonfile import NotKept
from autograder.gradebook.memory import UnfitMemory, mebibytes
from autograder.gradebook.since import UnfitMoment, handed_since, moment
from autograder.gradebook.submission import Submission
from autograder.gradebook.tally import Tally
from autograder.gradebook.verdicts import Verdicts

if TYPE_CHECKING:
    from autograder.cluster.fleet import Fleet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("assignment", metavar="ASSIGNMENT", help="as nbgrader calls it")
    parser.add_argument("--student", nargs="+", metavar="ID", help="only these (default: all)")
    parser.add_argument(
        "--jobs",
        type=int,
        help="grader processes (default: the cores; with --device cuda, as many of them as are "
        "measured to fit in the GPU's memory)",
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="grade on the workers of this Dask scheduler (or scheduler file) instead of here; "
        "docs/scaling.md says how",
    )
    parser.add_argument(
        "--force", action="store_true", help="grade again what has not changed since it was graded"
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="only what was handed in since then, such as 2026-03-01 or '2026-03-01 18:00 +0100' "
        "(UTC where no zone is named)",
    )
    parser.add_argument(
        "--limit-seconds",
        type=float,
        default=LIMIT_SECONDS,
        metavar="N",
        help="give a notebook up after so long, for a person to look at (default: %(default)g)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="that a submission's code may use, such as 512MiB or 2GiB (default: the course's "
        "nbgrader_config.py says, or else each exercise)",
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
    """Grade, enter the grades, print what came of it; 1 where something needs a person.

    Raises:
        CommandError: nothing could be graded, or not all of it could be kept; what was kept
            is not graded again.
    """
    if options.jobs is not None and options.jobs < 1:
        raise shared.UsageError(f"--jobs {options.jobs}: at least 1 is needed")
    if not options.limit_seconds > 0:
        raise shared.UsageError(f"--limit-seconds {options.limit_seconds:g}: more than 0 is needed")
    since = _since(options)
    if options.json:
        options.json = options.json.absolute()
    if options.dask and Path(options.dask).is_file():
        options.dask = str(Path(options.dask).absolute())
    course = _course(options)
    options.device = options.device or course.device
    options.memory = options.memory or course.memory
    megabytes = _megabytes(options)
    device = options.device if options.dask else shared.device_of(options)
    handed = _chosen(course, options.student, since)
    verdicts = Verdicts(
        course.journal,
        device,
        fresh=options.force,
        megabytes=megabytes,
        device_points=course.device_points,
    )
    submissions = [submission for one in handed for submission in one.submissions]
    bookkeeper = Bookkeeper(course, device, options.memory)
    tally = Tally(course, handed)
    try:
        with course.journal.alone(), _progress() as progress:
            work = _work(options, verdicts, len(submissions), progress.console)
            _grade(work, submissions, tally, bookkeeper, progress)
    except (ClusterTrouble, GradingRefused, Busy, NotKept) as error:
        entered = f"the grades of {tally.entered} students were" if tally.entered else "nothing was"
        raise CommandError(f"{entered} entered in the gradebook: {error}") from None
    except Unwritable as error:
        raise CommandError(
            f"the grades of {tally.entered} students were entered; all verdicts are kept in "
            f"{course.journal.folder}: {error}"
        ) from None
    tally.print(Console())
    if options.json:
        shared.write_json(options.json, tally.to_dict())
    return UNGRADED if tally.troubles else GRADED


def _grade(
    work: Classwork | Fleet,
    submissions: Sequence[Submission],
    tally: Tally,
    bookkeeper: Bookkeeper,
    progress: Progress,
) -> None:
    """Grade, and enter the grades of whoever is done while others are being graded.

    Raises:
        Unwritable: the gradebook cannot be written to; all the same, everybody is graded first.
    """
    stuck: Unwritable | None = None
    students = {submission.student for submission in submissions}
    notebooks = progress.add_task("notebooks", total=len(submissions), told="")
    gradebook = progress.add_task("gradebook", total=len(students), told="")
    for graded in work.grade(submissions):
        tally.add(graded, progress.console)
        progress.update(notebooks, advance=1, told=tally.standing())
        student = graded.submission.student
        if stuck is None and tally.is_ready(student):
            try:
                tally.write(student, bookkeeper)
            except Unwritable as error:
                stuck = error
            progress.advance(gradebook)
    if stuck:
        raise stuck


def _course(options: argparse.Namespace) -> Course:
    try:
        return Course(options.course, Path(options.assignment).name)
    except UnfitCourse as error:
        kind = shared.UsageError if error.unknown else CommandError
        raise kind(str(error)) from None
    except OSError as error:
        raise shared.UsageError(f"--course {options.course}: {error.strerror}") from None


def _work(
    options: argparse.Namespace, verdicts: Verdicts, notebooks: int, console: Console
) -> Classwork | Fleet:
    """What grades: processes here, or the workers of a cluster."""
    device, without, seconds = verdicts.device, options.without_layer, options.limit_seconds
    if options.dask:
        from autograder.cluster.fleet import Fleet  # here: those who grade at home do without

        say = console.print
        return Fleet(verdicts, options.dask, device, without, seconds, verdicts.megabytes, say)
    jobs = max(1, min(options.jobs or _fitting_jobs(device, console), notebooks))
    return Classwork(verdicts, device, without, jobs, seconds, verdicts.megabytes)


def _fitting_jobs(device: str, console: Console) -> int:
    """As many grader processes as there are cores, and as fit on the GPU."""
    if device != "cuda":
        return shared.cores()
    try:
        return jobs_on(shared.cores())
    except Unmeasured as error:
        console.print(f"{error}; grading one notebook at a time", style="yellow")
        return 1


def _since(options: argparse.Namespace) -> datetime | None:
    try:
        return moment(options.since) if options.since is not None else None
    except UnfitMoment as error:
        raise shared.UsageError(f"--since {error}") from None


def _megabytes(options: argparse.Namespace) -> int | None:
    try:
        return mebibytes(options.memory)
    except UnfitMemory as error:
        raise shared.UsageError(f"--memory {error}") from None


def _chosen(course: Course, wanted: list[str] | None, since: datetime | None) -> list[Handed]:
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
    chosen = [one for one in handed if not wanted or one.student in wanted]
    if since is None:
        return chosen
    late_enough = handed_since(chosen, since)
    if not late_enough:
        Console().print(f"{course.assignment}: nothing was handed in since {since} UTC.")
    return late_enough


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(text_format="", show_speed=True),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
