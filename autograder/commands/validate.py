"""``forwardpass validate``: the laws, proven over lessons, seeds and devices."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autograder.command import CommandError
from autograder.commands import options as shared
from autograder.engine.spawner import Policy, SandboxRefused, Zygote
from autograder.engine.standards import GraderDefect
from autograder.laws.answers import MISTAKE, REFERENCE, STUB, VARIANT
from autograder.laws.validation import Finding, Findings, validate_lesson
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
        for outcome in _results(tasks, policy, options.exercise, options.jobs):
            progress.advance(bar)
            if isinstance(outcome, Findings):
                found.append(outcome)
            else:
                defects.append(outcome)
    findings = [finding for one in found for finding in one.found]
    console.print(_table(findings))
    for line in sorted({*_broken(findings), *defects}):
        console.print(f"[red]✗[/red] {line}", soft_wrap=True, markup=True, highlight=False)
    devices = sorted({device for one in found for device in one.devices})
    broken = bool(defects) or any(finding.broken for finding in findings)
    console.print(
        f"{len(findings)} verdicts on {', '.join(devices) or 'no device'}, seeds "
        f"{seeds.start} to {seeds.stop - 1}: "
        + ("[red]laws are broken[/red]" if broken else "[green]every law holds[/green]")
    )
    if options.json:
        data = {"devices": devices, "defects": defects, "broken": broken}
        shared.write_json(options.json, {**data, "findings": [f.to_dict() for f in found]})
    return 1 if broken or not findings else 0


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
    tasks: list[tuple[Lesson, int]], policy: Policy, only: str | None, jobs: int
) -> Iterator[Findings | str]:
    """Each task's findings as they come, or what made it impossible."""
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(jobs, len(tasks)))
    with ProcessPoolExecutor(workers, context, _start_zygote, (policy,)) as pool:
        waiting = {pool.submit(_validate, lesson.key, seed, only): lesson for lesson, seed in tasks}
        for done in as_completed(waiting):
            lesson = waiting[done]
            try:
                yield done.result()
            except (GraderDefect, RewriteError, SandboxRefused) as error:
                yield f"{lesson.key}: {error}"


_zygote: Zygote | None = None


def _start_zygote(policy: Policy) -> None:
    global _zygote
    import torch

    torch.set_num_threads(1)
    _zygote = Zygote(policy).__enter__()


def _validate(key: str, seed: int, only: str | None) -> Findings:
    assert _zygote is not None
    return validate_lesson(find_lesson(key), _zygote, seed, only=only)


def _table(findings: list[Finding]) -> Table:
    table = Table(title="The laws", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("exercise", "points", "reference", "stub", "mistakes", "named", "variants"):
        name = column == "exercise"
        table.add_column(column, justify="left" if name else "right", no_wrap=name)
    table.add_column("oracle", justify="right")
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.lesson, finding.exercise), []).append(finding)
    last = ""
    for (lesson, exercise), group in sorted(grouped.items(), key=lambda item: item[0][0]):
        mistakes = [f for f in group if f.kind == MISTAKE]
        if lesson != last:
            table.add_row(f"[bold]{lesson}[/bold]")
            last = lesson
        cells: list[Any] = [f"  {exercise}", f"{group[0].max_score:g}"]
        cells += [_share([f for f in group if f.kind == kind]) for kind in (REFERENCE, STUB)]
        cells.append(_count(sum(f.score < f.max_score for f in mistakes), len(mistakes)))
        cells.append(_count(sum(f.recognised == f.name for f in mistakes), len(mistakes)))
        cells += [_share([f for f in group if f.kind == kind]) for kind in (VARIANT, "oracle")]
        table.add_row(*cells)
    return table


def _share(findings: list[Finding]) -> str:
    return _count(sum(not f.broken for f in findings), len(findings))


def _count(good: int, total: int) -> str:
    if not total:
        return "–"
    return f"[green]{good}/{total}[/green]" if good == total else f"[red]{good}/{total}[/red]"


def _broken(findings: list[Finding]) -> Iterator[str]:
    by_answer: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.broken:
            told = (finding.lesson, finding.exercise, finding.kind, finding.name)
            by_answer.setdefault(told, []).append(finding)
    for (lesson, exercise, kind, name), group in by_answer.items():
        seeds = ", ".join(str(f.seed) for f in group)
        yield f"{lesson} {exercise}, {kind} {name!r} (seed {seeds}): {group[0].broken[:700]}"
