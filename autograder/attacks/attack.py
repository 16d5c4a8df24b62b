"""One attack, declared: what it tries, with which cells, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Notebook = dict[str, Any]
ALL = "all"


@dataclass(frozen=True)
class Attack:
    """A submission of the lesson under attack; what it does not say is answered rightly.

    In sources and in what ``notebook`` returns, ``@BAIT@`` stands for a folder of files that
    must not be read or changed, ``@ESCAPE@`` for the start of a file's name that must not appear
    anywhere, ``@ROOT@`` for the checkout, ``@GRADER@`` for the grader's process id.

    Attributes:
        name: unique within the family.
        tries: what would be gained, as a phrase.
        answers: exercise to the source in its cell.
        before: the student's own cells ahead of the exercises, after the set-up.
        after: the student's own cells behind them.
        notebook: changes the finished notebook; returns it, or the file's bytes.
        earns: the points that are honestly earned of each exercise attacked; 0 where it is not
            named. ``ALL`` means full marks, for a submission that must not suffer.
        told: a regular expression that the verdict, as JSON, must contain: a proof that the
            attack was really tried, or what the student is told.
        flagged: a regular expression for a flag that a person must be shown; empty for none.
        unreadable: a regular expression for the reason why the file is not graded at all.
        seconds: wall clock within which all must be over.
    """

    name: str
    tries: str
    answers: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    notebook: Callable[[Notebook], Notebook | bytes] | None = None
    earns: Mapping[str, float] | str = field(default_factory=dict)
    told: str = ""
    flagged: str = ""
    unreadable: str = ""
    seconds: float = 12.0
    family: str = ""

    @property
    def key(self) -> str:
        return f"{self.family}: {self.name}"
