"""What a float32 constant in a float64 computation costs: the points of dtypes and devices.

The formula is right, so its own tests keep their points. What is wrong is what the tests on
devices ask for: that new tensors take after the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from autograder.engine.verdict import FAILED, PASSED, ExerciseResult, TestResult

TOLD = (
    "Where the inputs are float64, your results are only as exact as float32: new tensors should "
    "take the dtype of the inputs, as they should take their device."
)


def take_from_devices(result: ExerciseResult, rounded: Sequence[TestResult]) -> None:
    """Give rounded tests their points back, and take those of the tests on devices.

    Args:
        result: of an answer in which nothing is wrong but rounding; is changed.
        rounded: those of its tests that failed for it.
    """
    elsewhere = [t for t in result.tests if t.device != "cpu" and t.max_points > 0]
    if not elsewhere:
        return  # somewhere it must cost points
    for test in rounded:
        test.outcome, test.points, test.message = PASSED, test.max_points, ""
    for test in elsewhere:
        test.outcome, test.points, test.message = FAILED, 0.0, TOLD
    lost = sum(test.max_points - test.points for test in result.tests)
    result.score = round(result.max_score - lost, 4)
