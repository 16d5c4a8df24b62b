"""Where attacks are tried: one zygote, the lesson under attack, and what must hold after each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autograder.attacks.attack import ALL, Attack
from autograder.attacks.bait import Bait, laid
from autograder.attacks.process import children_of
from autograder.attacks.sitting import Sitting
from autograder.attacks.target import Target
from autograder.engine import judge
from autograder.engine.notebook import UnreadableNotebook, parse_notebook
from autograder.engine.spawner import Policy, Zygote
from autograder.engine.verdict import Verdict

CELL_SECONDS, CELLS_SECONDS = 1.2, 4.0


@dataclass
class Outcome:
    """What came of one attack.

    Attributes:
        broken: everything that should not have happened; empty where the grader held.
        score: what it earned; None where the file was not graded.
        seconds: from handing in to the verdict.
    """

    family: str
    attack: str
    tries: str
    broken: list[str] = field(default_factory=list)
    score: float | None = None
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "held": self.held}


@dataclass
class Ground:
    """Tries attacks one after another on the same zygote."""

    zygote: Zygote
    target: Target
    bait: Bait
    _sitting: Sitting | None = None
    _full: Verdict | None = None

    def attempt(self, attack: Attack) -> Outcome:
        """Grade the attack, then an honest submission, and look at what is left behind."""
        outcome = Outcome(attack.family, attack.name, attack.tries)
        full = self._full or self._grade(json.dumps(self.target.honest()))
        self._full = full
        started = time.monotonic()
        try:
            verdict = self._grade(self._file(attack))
        except UnreadableNotebook as reason:
            if not attack.unreadable or not re.search(attack.unreadable, str(reason)):
                outcome.broken.append(f"it was not graded: {reason}")
        except Exception as error:
            outcome.broken.append(f"grading stopped: {type(error).__name__}: {error}")
        else:
            outcome.score = verdict.score
            outcome.broken += self._complaints(attack, verdict, full)
        outcome.seconds = time.monotonic() - started
        if outcome.seconds > attack.seconds:
            outcome.broken.append(f"it held the class up for {outcome.seconds:.0f} s")
        outcome.broken += [*self.bait.damage(), *self._left_behind()]
        if attack.earns == ALL:  # an honest submission itself
            return outcome
        following = self._grade(json.dumps(self.target.honest()))
        if following.score < following.max_score:
            outcome.broken.append(f"the next submission got {following.score:g}")
        return outcome

    def _file(self, attack: Attack) -> str | bytes:
        made = self.target.submission(attack)
        if isinstance(made, bytes):
            return made
        return self.bait.fill_in(json.dumps(made))

    def _grade(self, file: str | bytes) -> Verdict:
        text = file.decode("utf-8", errors="replace") if isinstance(file, bytes) else file
        notebook = parse_notebook(text, "it.ipynb")
        if self._sitting is None or self._sitting.over:
            self._sitting = Sitting(self.target, self.zygote)
        return self._sitting.grade(notebook)

    def close(self) -> None:
        """End the class."""
        if self._sitting is not None:
            self._sitting.close()

    def _complaints(self, attack: Attack, verdict: Verdict, full: Verdict) -> Iterator[str]:
        told = json.dumps(verdict.to_dict(), ensure_ascii=False)
        try:
            told.encode()
        except UnicodeEncodeError:
            yield "the verdict cannot be written as UTF-8"
        if len(told) > 2_000_000:
            yield f"the verdict holds {len(told)} characters"
        if self.bait.canary in told:
            yield "a secret is in the verdict"
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _texts(verdict)):
            yield "the verdict holds control characters"
        if verdict.has_errors:
            yield "the grader itself failed"
        if attack.told and not re.search(attack.told, told, re.DOTALL | re.IGNORECASE):
            yield f"the verdict does not say {attack.told!r}: {_messages(verdict)[:600]}"
        flags = "\n".join(flag for e in verdict.exercises for flag in e.flags)
        if attack.flagged and not re.search(attack.flagged, flags):
            yield f"no flag says {attack.flagged!r}, but: {flags[:300] or 'nothing'}"
        for result, right in zip(verdict.exercises, full.exercises, strict=True):
            deserved = _deserved(attack, result.name, right.max_score)
            if result.score > deserved:
                yield f"{result.name} got {result.score:g} points instead of {deserved:g}"
            if attack.earns == ALL and result.score < right.max_score:
                yield f"{result.name} lost points: {_messages(verdict)[:600]}"

    def _left_behind(self) -> Iterator[str]:
        deadline = time.monotonic() + 2
        while (left := children_of(self.zygote)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            yield f"processes are left: {left}"
        root = Path(self.zygote._scratch_root)
        folders = [entry for entry in root.iterdir() if entry.is_dir()]
        if folders:
            yield f"scratch folders are left: {len(folders)}"


@contextmanager
def ground(policy: Policy | None = None) -> Iterator[Ground]:
    """A running zygote with bait about it.

    Raises:
        SandboxRefused: a required layer is missing.
    """
    patient = judge.CELL_SECONDS, judge.CELLS_SECONDS
    judge.CELL_SECONDS, judge.CELLS_SECONDS = CELL_SECONDS, CELLS_SECONDS
    try:
        with (
            laid() as bait,
            TemporaryDirectory(prefix="forwardpass-target-") as folder,
            Zygote(policy or Policy()) as zygote,
        ):
            made = Ground(zygote, Target(Path(folder)), bait)
            try:
                yield made
            finally:
                made.close()
    finally:
        judge.CELL_SECONDS, judge.CELLS_SECONDS = patient


def _deserved(attack: Attack, exercise: str, maximum: float) -> float:
    if isinstance(attack.earns, str):
        return maximum
    touched = exercise in attack.answers or exercise in attack.earns
    return attack.earns.get(exercise, 0.0) if touched else maximum


def _messages(verdict: Verdict) -> str:
    failed = [t.message for e in verdict.exercises for t in e.tests if t.message]
    return " | ".join(dict.fromkeys([*failed, *verdict.cell_errors])) or "nothing"


def _texts(verdict: Verdict) -> str:
    parts: Sequence[str] = [
        text
        for e in verdict.exercises
        for text in (e.error, e.note, *e.flags, *(t.message for t in e.tests))
    ]
    return "\n".join([*parts, *verdict.cell_errors])
