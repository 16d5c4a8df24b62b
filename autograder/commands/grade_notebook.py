"""``forwardpass grade-notebook``: one notebook, no gradebook."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autograder.command import GRADED, UNGRADED, CommandError
from autograder.commands import options as shared
from autograder.engine.grading import NotBuilt, grade_notebooks, lesson_of
from autograder.engine.notebook import UnreadableNotebook, read_notebook
from autograder.engine.spawner import SandboxRefused, Zygote
from autograder.engine.standards import GraderDefect
from autograder.engine.verdict import PASSED, Verdict
from autograder.lesson import UnknownLesson


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", type=Path, metavar="FILE", help="a filled-in release notebook")
    parser.add_argument(
        "--seed", type=int, help="of the hidden inputs, to repeat a run (default: a secret one)"
    )
    shared.add_device(parser)
    shared.add_layers(parser)
    shared.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Grade one notebook, print the verdict, write it as JSON where asked."""
    policy = shared.policy_of(options)
    verdicts: list[Verdict] = []
    try:
        notebook = read_notebook(options.notebook)
        lesson = lesson_of(notebook, options.notebook)
        with Zygote(policy) as zygote:
            grade_notebooks(
                lesson,
                [(str(options.notebook), notebook)],
                zygote,
                lambda _, verdict: verdicts.append(verdict),
                seed=options.seed,
            )
    except (UnreadableNotebook, UnknownLesson, NotBuilt, SandboxRefused, GraderDefect) as error:
        raise CommandError(str(error)) from None
    (verdict,) = verdicts
    if options.json:
        shared.write_json(options.json, verdict.to_dict())
    _print(verdict)
    return UNGRADED if verdict.has_errors else GRADED


def _print(verdict: Verdict) -> None:
    console = Console()
    table = Table(title=f"{verdict.lesson}: {verdict.score:g} of {verdict.max_score:g}")
    table.add_column("exercise")
    table.add_column("points", justify="right")
    table.add_column("what to look at")
    for exercise in verdict.exercises:
        told = [exercise.hint, exercise.note]
        if not exercise.hint:
            told += [t.message for t in exercise.tests if t.outcome != PASSED][:1]
        text = escape("\n".join(part for part in told if part))
        table.add_row(exercise.name, f"{exercise.score:g}/{exercise.max_score:g}", text)
    console.print(table)
    for error in verdict.cell_errors:
        console.print(escape(error), style="yellow")
    dtypes = verdict.dtypes.items()
    judged = ", ".join(f"{device} ({', '.join(names)})" for device, names in dtypes)
    console.print(f"Judged on {judged}; sandbox: {', '.join(verdict.sandbox['in force'])}")
    if verdict.not_run:
        console.print(f"Not run: {', '.join(verdict.not_run)}", style="yellow")
    for layer, why in verdict.sandbox["missing"].items():
        console.print(f"Not in force: {layer} ({why})", style="yellow")
