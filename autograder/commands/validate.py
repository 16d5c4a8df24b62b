"""``forwardpass validate``: the laws, proven over lessons, seeds and devices."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autograder.command import CommandError
from autograder.commands import options as shared
from autograder.engine.spawner import Policy, SandboxRefused, Zygote
from autograder.engine.standards import GraderDefect
from autograder.laws.numbers import Numbers, numbers_of
from autograder.laws.table import broken_laws, laws_table, numbers_table, thin_margins
from autograder.laws.validation import Findings, validate_lesson
from autograder.lesson import Lesson, find_lesson
from autograder.spec.rewrite import RewriteError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "lessons", nargs="*", metavar="PATH", help="graders, lessons or chapters (default: all)"
    )
    parser.add_argument("--exercise", help="only this exercise of the lessons")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="run the answers in this process, without workers: an author's quick first look",
    )
    parser.add_argument(
        "--numbers",
        action="store_true",
        help="show, instead, each case's own error, bound, nearest mistake and margin",
    )
    parser.add_argument(
        "--attacks", action="store_true", help="try the attacks on the grader instead of the laws"
    )
    parser.add_argument("--jobs", type=int, default=shared.cores(), help="(default: the cores)")
    shared.add_device(parser)
    shared.add_layers(parser)
    shared.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check every law and print the table; 1 where one is broken."""
    policy = shared.policy_of(options)
    if options.attacks:
        return _try_attacks(policy, options.json)
    lessons = shared.lessons_of(options.lessons)
    if options.numbers:
        return _show_numbers(lessons, options)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tasks = [(lesson, seed) for lesson in lessons for seed in seeds]
    console = Console()
    found: list[Findings] = []
    defects: list[str] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        bar = progress.add_task("lessons × seeds", total=len(tasks))
        for outcome in _results(tasks, policy, options):
            progress.advance(bar)
            if isinstance(outcome, Findings):
                found.append(outcome)
            else:
                defects.append(outcome)
    findings = [finding for one in found for finding in one.found]
    console.print(laws_table(findings))
    for line in sorted({*broken_laws(findings), *defects}):
        console.print(f"[red]✗[/red] {line}", soft_wrap=True, markup=True, highlight=False)
    devices = sorted({device for one in found for device in one.devices})
    broken = bool(defects) or any(finding.broken for finding in findings)
    console.print(
        f"{len(findings)} verdicts on {', '.join(devices) or 'no device'}, seeds "
        f"{seeds.start} to {seeds.stop - 1}"
        + (", rehearsed without the sandbox: " if options.rehearse else ": ")
        + ("[red]laws are broken[/red]" if broken else "[green]every law holds[/green]")
    )
    if options.json:
        data = {"devices": devices, "defects": defects, "broken": broken}
        shared.write_json(options.json, {**data, "findings": [f.to_dict() for f in found]})
    return 1 if broken or not findings else 0


def _show_numbers(lessons: list[Lesson], options: argparse.Namespace) -> int:
    """Print every case's numbers; 1 where a margin is thin."""
    console = Console()
    rows: list[Numbers] = []
    for lesson in lessons:
        with console.status(f"{lesson.key} …"):
            found = list(numbers_of(lesson, options.first_seed, options.exercise))
        console.print(numbers_table(found))
        rows += found
    thin = list(thin_margins(rows))
    for line in thin:
        console.print(f"[red]✗[/red] {line}", soft_wrap=True, highlight=False)
    console.print(
        f"{len(rows)} cases by dtype, seed {options.first_seed}: "
        + ("[red]margins are thin[/red]" if thin else "[green]no margin is thin[/green]")
    )
    if options.json:
        data = {"seed": options.first_seed, "broken": bool(thin), "thin": thin}
        shared.write_json(options.json, {**data, "numbers": [row.to_dict() for row in rows]})
    return 1 if thin or not rows else 0


def _try_attacks(policy: Policy, json: Path | None) -> int:
    """Try every attack on this machine and print the table; 1 where one succeeds."""
    from autograder.attacks.table import summary, table, tried  # the laws do without them

    console = Console()
    try:
        layers, outcomes = tried(policy)
    except SandboxRefused as error:
        raise CommandError(str(error)) from None
    console.print(table(outcomes))
    console.print(summary(layers, outcomes))
    broken = not outcomes or not all(outcome.held for outcome in outcomes)
    if json:
        found = [outcome.to_dict() for outcome in outcomes]
        shared.write_json(json, {"sandbox": layers, "broken": broken, "attacks": found})
    return 1 if broken else 0


def _results(
    tasks: list[tuple[Lesson, int]], policy: Policy, options: argparse.Namespace
) -> Iterator[Findings | str]:
    """Each task's findings as they come, or what made it impossible."""
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(options.jobs, len(tasks)))
    only, rehearse = options.exercise, options.rehearse
    with ProcessPoolExecutor(workers, context, _start_zygote, (policy, rehearse)) as pool:
        waiting = {
            pool.submit(_validate, lesson.key, seed, only, rehearse): lesson
            for lesson, seed in tasks
        }
        for done in as_completed(waiting):
            lesson = waiting[done]
            try:
                yield done.result()
            except (GraderDefect, RewriteError, SandboxRefused) as error:
                yield f"{lesson.key}: {error}"


_zygote: Zygote | None = None


def _start_zygote(policy: Policy, rehearse: bool) -> None:
    global _zygote
    import torch

    torch.set_num_threads(1)
    _zygote = Zygote(policy) if rehearse else Zygote(policy).__enter__()


def _validate(key: str, seed: int, only: str | None, rehearse: bool) -> Findings:
    assert _zygote is not None
    return validate_lesson(find_lesson(key), _zygote, seed, only=only, rehearse=rehearse)
