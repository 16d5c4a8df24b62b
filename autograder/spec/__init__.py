"""What a hidden grader is written with; CONTRIBUTING.md shows one being written."""

from autograder.spec.case import TRAINING, Case
from autograder.spec.exercise import Exercise
from autograder.spec.inputs import Make
from autograder.spec.probes import (
    gradients,
    load_parameters,
    load_weights,
    names_and_shapes,
    raised,
    tensors_of,
)
from autograder.spec.rewrite import Mistake, Variant

__all__ = [
    "TRAINING",
    "Case",
    "Exercise",
    "Make",
    "Mistake",
    "Variant",
    "gradients",
    "load_parameters",
    "load_weights",
    "names_and_shapes",
    "raised",
    "tensors_of",
]
