"""A case: one scenario, the inputs it is run on, and what of its outcome is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from autograder.spec.inputs import Make

Scenario = Callable[..., Any]
FORMULA = (torch.float64, torch.float32)
TRAINING = (torch.bfloat16,)  # for a case of its own, where networks are trained in it


@dataclass(frozen=True)
class Case:
    """One thing that a student's code is asked to do.

    Attributes:
        title: what is looked at, in words that a student may read; no numbers of the inputs.
        scenario: ``scenario(impl, **inputs)``, run on the student's code in the worker and
            on the reference in the grader. ``impl`` is the function or class of the
            exercise's name. It returns tensors, numbers, strings, bools and None, nested in
            dicts (string keys), lists and tuples; the keys of dicts appear in feedback.
        inputs: ``inputs(make)`` draws the keyword arguments.
        observe: ``observe(outcome, inputs)``, run in the grader on either side's outcome
            before the two are compared: how random code is judged by its properties. Returns
            a dict; a key whose value is a bool is a sentence that should hold.
        dtypes: the floating dtypes that the case is judged in.
        seconds: wall clock that one run of the scenario may take.
        loosen: factor on the tolerance, for a scenario that amplifies rounding on purpose.
    """

    title: str
    scenario: Scenario
    inputs: Callable[[Make], dict[str, Any]]
    observe: Callable[[Any, dict[str, Any]], Any] | None = None
    dtypes: tuple[torch.dtype, ...] = FORMULA
    seconds: float = 10.0
    loosen: float = 1.0

    def __str__(self) -> str:
        return self.title
