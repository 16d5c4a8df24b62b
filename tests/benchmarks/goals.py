"""What the figures were meant to be; where they are not, which stages cost it and what would help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

COMMAND = "gradebook, and the command's start"
ASIDE = ("first submission", "feedback pages (nbgrader)")
SMALL = "times nbgrader, in the small class"
REMEDIES = {
    "scenarios": "cases judged in one dtype where the other can tell nothing; the watch for "
    "forbidden calls on some of an answer's runs only",
    "scenarios on the fake device": "meta tensors alone wherever nothing asks for a device",
    "hidden tests": "less of our own around each case",
    "sandbox": "a smaller zygote: each fork copies its page table, each exit clears it",
    "recognition": "trying the mistakes that a class makes most first",
    "reference and mistakes": "a larger class: each is computed once a run, for all of it",
    "start of the zygote": "next to nothing in a large class; in a small one a nursery that stays "
    "from run to run",
    "comparison": "comparing a case's tensors in one piece",
    COMMAND: "in a small class mostly importing (nbgrader, and PyTorch in two processes): a grader "
    "that stays from run to run; in a large one nbgrader's steps, half of it copies and checks of "
    "the notebook: writing its gradebook and the graded notebook without nbconvert",
}


@dataclass(frozen=True)
class Goal:
    """One figure to be reached.

    Attributes:
        told: what is measured, with its unit.
        target: its bound.
        found: what was measured, or None.
        more_is_better: whether the bound is a lower one.
        of_cores: whether more cores would help: the small class mostly starts up.
    """

    told: str
    target: float
    found: float | None
    more_is_better: bool = False
    of_cores: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it was measured and reached."""
        if self.found is None:
            return False
        return self.found >= self.target if self.more_is_better else self.found <= self.target


def goals_of(told: Mapping[str, Any]) -> list[Goal]:
    """Every goal, from what the parts of a run found."""
    compared, thousand = told.get("compare", {}), told.get("thousand", {})
    apart = told.get("apart", {}).get("s a submission")
    each = thousand.get("s a submission")
    second = thousand.get("peak of the second quarter, MiB")
    last = thousand.get("peak of the last quarter, MiB")
    early = thousand.get("s a submission in the second quarter")
    late = thousand.get("s a submission in the last quarter")
    stock = compared.get("nbgrader, s each")
    large = stock / each if stock and each else None
    least = stock / apart if stock and apart else None
    return [
        Goal(SMALL, 40.0, compared.get("times nbgrader"), True),
        Goal("times nbgrader, in the large class", 40.0, large, True),
        Goal("times nbgrader, no two answers alike", 40.0, least, True, True),
        Goal("times the floor", 2.0, compared.get("times the floor")),
        Goal("seconds for 1,000, as drawn", 120.0, each and each * 1000, of_cores=True),
        Goal("seconds for 1,000, no two alike", 120.0, apart and apart * 1000, of_cores=True),
        Goal("MiB at the peak", 3072.0, thousand.get("peak, MiB")),
        Goal("memory, last quarter to second", 1.1, last / second if second else None),
        Goal("a submission's time, last quarter to second", 1.2, late / early if early else None),
        Goal("seconds for the class unchanged", 10.0, thousand.get("unchanged, s in all")),
    ]


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print which goals were reached; of time, where it goes and what would give some back."""
    goals = goals_of(told)
    table = Table("goal", "target", "found", "", title="Goals")
    for goal in goals:
        found = "not measured" if goal.found is None else f"{goal.found:.2f}"
        sign = "at least" if goal.more_is_better else "at most"
        state = "met" if goal.is_met else "" if goal.found is None else "NOT MET"
        table.add_row(goal.told, f"{sign} {goal.target:g}", found, state)
    console.print(table)
    slow = [goal for goal in goals[:6] if goal.found is not None and not goal.is_met]
    stages = {s: ms for s, ms in told.get("stages", {}).items() if s not in ASIDE}
    if not slow or not stages:
        return
    whole = sum(stages.values())
    rows = Table("stage", "share", "what would take less", title="Where the time goes")
    for stage, ms in sorted(stages.items(), key=lambda row: -row[1]):
        if ms / whole >= 0.03:
            rows.add_row(stage, f"{ms / whole:.0%}", REMEDIES.get(stage, ""))
    console.print(rows)
    cores = told.get("compare", {}).get("cores")
    for goal in slow:
        ratio = goal.target / (goal.found or goal.target)
        share = ratio if not goal.more_is_better else 1 / ratio
        says = f"{goal.told}: a submission may take {share:.0%} of what it takes now"
        if cores and goal.of_cores:
            says += (
                f", or {math.ceil(cores / share)} cores are needed where grading grows with them"
            )
        if goal.told == SMALL:
            says += large_enough(told, goal.target)
        console.print(says)
    floor = told.get("compare", {}).get("floor, s each")
    if floor and cores:
        least = 1000 * floor / cores
        console.print(
            f"{least:.0f} s are what 1,000 that are not alike take on {cores} cores without any "
            "isolation, gradebook or start"
        )


def large_enough(told: Mapping[str, Any], target: float) -> str:
    """From how many submissions on, none alike, the start no longer keeps a class from a target.

    The start is what the small class took beyond what as many of the large one's take.
    """
    compared, each = told.get("compare", {}), told.get("apart", {}).get("s a submission")
    cold = compared.get(f"{compared.get('cores')} jobs", {}).get("cold, s each")
    if not each or not cold:
        return ""
    start = compared["size"] * (cold - each)
    spare = compared["nbgrader, s each"] / target - each
    says = f"; {start:.0f} s of it are the start"
    if spare <= 0:
        return f"{says}, and without any start {compared['nbgrader, s each'] / each:.0f} times"
    return f"{says}: reached in classes of {math.ceil(start / spare)} and more"
