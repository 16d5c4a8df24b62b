"""What the demo prints when it is done."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autograder.demo.course import DemoCourse
from autograder.demo.outcome import Outcome, recognised_in


def show(console: Console, course: DemoCourse, outcomes: list[Outcome]) -> None:
    """Print the grade table, what was recognised, and where everything is."""
    console.print(grade_table(outcomes))
    console.print(mistake_table(outcomes))
    for outcome in outcomes:
        for surprise in outcome.surprises:
            told = escape(f"{outcome.submission.student}: {surprise}")
            console.print(f"[red]✗[/red] {told}", soft_wrap=True, highlight=False)
    places = {
        "gradebook": course.gradebook,
        "feedback": course.feedback("ada-perfect").parents[2],
        "one page": course.feedback(outcomes[0].submission.student),
        "grades": course.grades,
        "report": course.report,
    }
    for name, path in places.items():
        console.print(f"{name:>10}  {path}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{'formgrader':>10}  cd {course.folder} && jupyter lab  (Nbgrader, Formgrader)",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def grade_table(outcomes: list[Outcome]) -> Table:
    """Every student: the score, what was recognised, and whether that was expected."""
    table = Table(title="The class", title_justify="left")
    table.add_column("student", no_wrap=True)
    table.add_column("story")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("recognised")
    table.add_column("as expected", justify="center")
    for outcome in outcomes:
        verdict = outcome.entry.verdict if outcome.entry else None
        most = f"/{verdict.max_score:g}" if verdict else ""
        score = "–" if outcome.gradebook is None else f"{outcome.gradebook:.4g}{most}"
        found = "\n".join(f"{exercise}: {mistake}" for exercise, mistake in outcome.recognised)
        if outcome.entry and outcome.entry.verdict is None:
            found = "cannot be read"
        mark = "[red]✗[/red]" if outcome.surprises else "[green]✓[/green]"
        story = outcome.submission.story
        table.add_row(outcome.submission.student, escape(story), score, escape(found), mark)
    return table


def mistake_table(outcomes: list[Outcome]) -> Table:
    """The recognised mistakes and how often."""
    table = Table(title="Mistakes recognised", title_justify="left")
    table.add_column("exercise", no_wrap=True)
    table.add_column("mistake")
    table.add_column("students", justify="right")
    for (exercise, mistake), count in recognised_in(outcomes).most_common():
        table.add_row(exercise, escape(mistake), str(count))
    return table
