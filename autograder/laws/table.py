"""The laws' findings and the cases' numbers, as tables in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from autograder.laws.answers import MISTAKE, REFERENCE, STUB, VARIANT
from autograder.laws.numbers import THIN, Numbers
from autograder.laws.validation import Finding


def laws_table(findings: Sequence[Finding]) -> Table:
    """Each exercise with how its answers fared."""
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


def broken_laws(findings: Sequence[Finding]) -> Iterator[str]:
    """Each broken law in a line, with the seeds that broke it."""
    by_answer: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.broken:
            told = (finding.lesson, finding.exercise, finding.kind, finding.name)
            by_answer.setdefault(told, []).append(finding)
    for (lesson, exercise, kind, name), group in by_answer.items():
        seeds = ", ".join(str(f.seed) for f in group)
        yield f"{lesson} {exercise}, {kind} {name!r} (seed {seeds}): {group[0].broken[:700]}"


def numbers_table(rows: Sequence[Numbers]) -> Table:
    """Each case with the reference's own error, the bound and the nearest mistake."""
    table = Table(title="Numbers", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("case")
    table.add_column("dtype")
    for column in ("own error", "bound"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("nearest mistake")
    for column in ("its error", "margin"):
        table.add_column(column, justify="right", no_wrap=True)
    last = ""
    for row in rows:
        key = f"{row.lesson} {row.exercise}"
        if key != last:
            table.add_row(f"[bold]{key}[/bold]")
            last = key
        found = math.isfinite(row.margin)
        margin = f"{row.margin:.1e}" if found else "–"
        cells = [f"  {row.case}", row.dtype, f"{row.own_error:.1e}", f"{row.bound:.1e}"]
        cells += [row.nearest or "–", f"{row.nearest_error:.1e}" if found else "–"]
        table.add_row(*cells, f"[red]{margin}[/red]" if row.thin else margin)
    return table


def thin_margins(rows: Sequence[Numbers]) -> Iterator[str]:
    """Each mistake that no case keeps far enough from what is right, in a line."""
    for row in rows:
        for mistake in row.thin:
            yield (
                f"{row.lesson} {row.exercise}, mistake {mistake!r}: nowhere further than "
                f"{THIN:g} bounds from the truth; the furthest is {row.case!r} in {row.dtype}: add "
                "an input at which it shows"
            )
