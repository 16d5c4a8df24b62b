"""What one run of a scenario did, where and in what dtype."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from autograder.engine import codec
from autograder.engine.comparison import ANYTHING, Mismatch, Standard, compare
from autograder.engine.fingerprint import Fingerprint, fingerprint
from autograder.spec import Case, Exercise


@dataclass(frozen=True)
class Setting:
    """Where and in what dtype a case is judged."""

    dtype: torch.dtype
    device: str = "cpu"


EXACT = Setting(torch.float64)  # where truth is computed
RunKey = tuple[str, str, int, Setting]


def run_key(exercise: Exercise, case: Case, setting: Setting) -> RunKey:
    """What tells a run from all others of its lesson."""
    return (exercise.name, case.title, id(case), setting)


@dataclass
class Observation:
    """What one run of a scenario did, normalised the same way on either side.

    Attributes:
        status: "returned", "raised", "died", "undefined" or "unjudged".
        outcome: what the scenario returned, after ``observe`` where the case has one.
        raw: what it returned before that.
        changed: inputs changed in place.
        error: type, message and the student's frames where it raised; what happened where it died.
        called: forbidden names that the student's lines called.
        blinded: whether the watch for them no longer saw anything when the run was over.
        bytes: how long the reply was, where it is one of ours.
    """

    status: str
    outcome: Any = None
    raw: Any = None
    changed: list[str] = field(default_factory=list)
    error: dict[str, Any] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    blinded: bool = False
    bytes: int = 0
    _fingerprints: list[Fingerprint | None] = field(default_factory=list, repr=False)

    def fingerprint(self, dtype: torch.dtype, loosen: float) -> Fingerprint | None:
        """The outcome laid flat; of one case in one setting, and so made once."""
        if not self._fingerprints:
            self._fingerprints.append(fingerprint(self.outcome, dtype, loosen))
        return self._fingerprints[0]


def misshapen(raw: Any, reference: Observation, setting: Setting) -> Mismatch | None:
    """How an outcome differs from the reference's in form, whatever its values."""
    form = _form(reference.raw)
    return compare(raw, Standard(form, form, setting.dtype))


def _form(tree: Any) -> Any:
    """A tree's structure, shapes and dtypes without its values."""
    if isinstance(tree, codec.Array):
        return codec.Array(tree.dtype, tree.shape, tree.device, None)
    if isinstance(tree, dict):
        return {key: _form(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_form(value) for value in tree)
    return ANYTHING


def texts(value: Any) -> list[str]:
    """The texts of what should be a list of them."""
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
