"""``forwardpass demo``: a small class through the whole cycle, from source/ to the report."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from autograder.command import GRADED, UNGRADED, CommandError
from autograder.commands import options as shared
from autograder.demo.course import DemoCourse
from autograder.demo.cycle import Cycle, Step
from autograder.demo.outcome import absences_missed, outcomes_of
from autograder.demo.roster import ABSENT, whole_class
from autograder.demo.table import show
from autograder.lesson import ROOT, UnknownLesson, find_lesson
from autograder.report.journal import read_class

DEFAULT_LESSON = "ch07_optimization/adam"
PLAIN_WIDTH = 110  # of the table, where there is no terminal to fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "lesson",
        nargs="?",
        default=DEFAULT_LESSON,
        metavar="LESSON",
        help="whose notebook the class fills in (default: %(default)s)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "demo",
        help="where the class lives; an earlier demo there is replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="stop rather than replace an earlier demo"
    )
    parser.add_argument("--jobs", type=int, default=shared.cores(), help="(default: the cores)")
    shared.add_device(parser)
    shared.add_layers(parser)


def run(options: argparse.Namespace) -> int:
    """Run the cycle, print what came out; 1 where anything came out other than expected."""
    policy = shared.policy_of(options)
    try:
        lesson = find_lesson(options.lesson)
    except UnknownLesson as error:
        raise shared.UsageError(str(error)) from None
    if not lesson.release.exists():
        raise CommandError(f"{lesson.release} does not exist: run `forwardpass build` first")
    course = DemoCourse(options.folder.absolute(), lesson)
    submissions = whole_class(lesson, course.folder)
    students = [submission.student for submission in submissions]
    course.create([*students, *ABSENT], keep=options.keep)
    grading = [f"--jobs={options.jobs}", f"--device={policy.device}"]
    grading += [f"--without-layer={layer}" for layer in policy.without]
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(
        f"{len(students)} submissions to {course.assignment}, in {course.folder}",
        soft_wrap=True,
        highlight=False,
    )
    _run(Cycle(course, submissions, grading), console)
    record = read_class(course.folder, course.assignment)
    outcomes = outcomes_of(course, submissions, record)
    show(console, course, outcomes)
    missed = absences_missed(record, ABSENT)
    for line in missed:
        console.print(f"[red]✗[/red] {line}", highlight=False)
    surprised = sum(bool(outcome.surprises) for outcome in outcomes) + len(missed)
    if surprised:
        console.print(f"[red]{surprised} came out other than expected[/red]")
        return UNGRADED
    console.print(f"[green]All {len(outcomes)} came out as expected[/green]")
    return GRADED


def _run(cycle: Cycle, console: Console) -> None:
    stages = list(cycle.stages())
    with (
        Progress(
            SpinnerColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        ) as progress,
        ThreadPoolExecutor(max(map(len, stages))) as pool,
    ):
        whole = progress.add_task("the whole cycle", total=sum(map(len, chain(*stages))))
        for stage in stages:
            tracks = [pool.submit(_walk, track, progress, whole) for track in stage]
            for track in tracks:
                track.result()


def _walk(track: list[Step], progress: Progress, whole: TaskID) -> None:
    for step in track:
        started = time.monotonic()
        bar = progress.add_task(step.title, total=1)
        step.run(partial(_advance, progress, bar))
        progress.remove_task(bar)
        progress.advance(whole)
        seconds = f"{time.monotonic() - started:5.1f} s"
        progress.console.print(f"[green]✓[/green] {seconds}  {step.title}", highlight=False)


def _advance(progress: Progress, bar: TaskID, share: float) -> None:
    progress.update(bar, completed=share)
