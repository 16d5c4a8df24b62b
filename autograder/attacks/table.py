"""All attacks in a row, with progress, and what came of them for a reader."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograder.attacks.corpus import corpus
from autograder.attacks.ground import Outcome, ground
from autograder.engine.spawner import Policy


def tried(policy: Policy) -> tuple[dict[str, object], list[Outcome]]:
    """Try every attack, one after another on the same zygote.

    Returns:
        The sandbox's layers, in force and missing; each attack's outcome.

    Raises:
        SandboxRefused: a required layer is missing.
    """
    attacks = corpus()
    outcomes = []
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as progress,
        ground(policy) as here,
    ):
        bar = progress.add_task("attacks", total=len(attacks))
        for attack in attacks:
            progress.update(bar, description=attack.family)
            outcomes.append(here.attempt(attack))
            progress.advance(bar)
        zygote = here.zygote
        layers: dict[str, object] = {"in force": zygote.layers, "missing": zygote.missing}
    return layers, outcomes


def table(outcomes: list[Outcome]) -> Table:
    """A row an attack: family, name, what it tried, whether the grader held."""
    rows = Table(title="Attacks", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("family", "attack", "what it tried"):
        rows.add_column(column)
    rows.add_column("", justify="right", no_wrap=True)
    last = ""
    for outcome in outcomes:
        family = "" if outcome.family == last else f"[bold]{outcome.family}[/bold]"
        last = outcome.family
        verdict = "[green]held[/green]" if outcome.held else "[red]broken[/red]"
        rows.add_row(family, escape(outcome.attack), escape(outcome.tries), verdict)
        for reason in outcome.broken:
            rows.add_row("", "", f"[red]{escape(reason)}[/red]", "")
    return rows


def summary(layers: dict[str, object], outcomes: list[Outcome]) -> str:
    """How many of each family were held, and by what."""
    families = Counter(outcome.family for outcome in outcomes)
    held = Counter(outcome.family for outcome in outcomes if outcome.held)
    told = ", ".join(f"{name} {held[name]}/{count}" for name, count in families.items())
    lost = sum(not outcome.held for outcome in outcomes)
    end = f"[red]{lost} succeeded[/red]" if lost else "[green]every attack was held[/green]"
    force = layers["in force"]
    by = ", ".join(str(layer) for layer in force) if isinstance(force, list) else ""
    missing = layers["missing"]
    without = f"; missing: {', '.join(missing)}" if isinstance(missing, dict) and missing else ""
    return f"{told}: {end}. Sandbox: {escape(by + without)}."
