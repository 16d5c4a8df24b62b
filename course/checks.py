"""The visible checks: what a student runs under each exercise, before handing anything in."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """A visible check did not hold; the message says what to look at."""


class checking:  # noqa: N801 - read as a statement: "with checking(...) as check"
    """Run the checks of one exercise and say in a line how each went.

    Use it as a context manager::

        with checking("adam_step") as check:
            check.close(adam_step(...), expected, "after one step")

    An exercise that is not written yet is said to be so; a check that fails, and an error in
    the student's code, are told in a few lines instead of a page of traceback. Nothing raised
    inside the block leaves it, so the cells below still run; ``check.passed`` tells how it went.

    Args:
        exercise: the exercise's name.
    """

    def __init__(self, exercise: str) -> None:
        self.exercise = exercise
        self.passed = False

    def __enter__(self) -> checking:
        return self

    def close(
        self, actual: Any, expected: Any, what: str, rtol: float = 1e-4, atol: float = 1e-6
    ) -> None:
        """Check that a tensor or number is as expected: type, shape, dtype, then values.

        Args:
            actual: what the student's code returned.
            expected: a tensor of any shape, or a number.
            what: names the thing compared, such as ``"the gradient of W"``.
            rtol: tolerated difference relative to ``expected``.
            atol: tolerated difference besides.

        Raises:
            CheckFailed: with the first thing that differs.
        """
        if isinstance(expected, Tensor):
            if not isinstance(actual, Tensor):
                raise CheckFailed(f"{what} should be a tensor, but is {_kind(actual)}.")
            if actual.shape != expected.shape:
                raise CheckFailed(
                    f"{what} should have shape {tuple(expected.shape)}, "
                    f"but has {tuple(actual.shape)}."
                )
            if actual.dtype != expected.dtype:
                raise CheckFailed(
                    f"{what} should have dtype {expected.dtype}, but has {actual.dtype}."
                )
        try:
            a = torch.as_tensor(actual).detach().to(torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckFailed(f"{what} should be a number, but is {_kind(actual)}.") from error
        e = torch.as_tensor(expected).detach().to(torch.float64)
        wrong = ~torch.isclose(a, e.expand_as(a), rtol=rtol, atol=atol, equal_nan=True)
        if wrong.any():
            self._raise_mismatch(a, e.expand_as(a), wrong, what)
        print(f"  ✓ {what}")

    def equal(self, actual: Any, expected: Any, what: str) -> None:
        """Check that two plain values are equal; tensors are compared exactly."""
        if isinstance(expected, Tensor):
            self.close(actual, expected, what, rtol=0.0, atol=0.0)
            return
        if actual != expected:
            raise CheckFailed(f"{what} should be {expected!r}, but is {actual!r}.")
        print(f"  ✓ {what}")

    def true(self, condition: Any, what: str, hint: str = "") -> None:
        """Check that a condition holds; ``what`` is a sentence, ``hint`` says where to look."""
        if not bool(condition):
            raise CheckFailed(f"This should hold, but does not: {what}. {hint}".strip())
        print(f"  ✓ {what}")

    def raises(self, kind: type[BaseException], call: Any, what: str) -> None:
        """Check that ``call()`` raises an exception of a kind."""
        try:
            call()
        except NotImplementedError:
            raise
        except kind:
            print(f"  ✓ {what}")
            return
        except Exception as error:
            raise CheckFailed(
                f"{what}: expected {kind.__name__}, but got {type(error).__name__}: {error}"
            ) from error
        raise CheckFailed(f"{what}: expected {kind.__name__}, but nothing was raised.")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self.passed = True
            print(f"✅ {self.exercise}: the visible checks pass.")
            return True
        if not isinstance(error, Exception):
            return False
        if isinstance(error, NotImplementedError):
            told = str(error) or (
                f"{self.exercise} is not written yet. Fill in its cell above, run that cell, "
                "then run this one again."
            )
            print(f"✏️  {told}")
        elif isinstance(error, CheckFailed):
            print(f"❌ {self.exercise}: {error}")
        else:
            line = traceback.extract_tb(trace)[-1]
            print(
                f"❌ {self.exercise} stopped with {type(error).__name__}: {error}\n"
                f"   in {line.name}, line {line.lineno}: {line.line}"
            )
        return True

    @staticmethod
    def _raise_mismatch(actual: Tensor, expected: Tensor, wrong: Tensor, what: str) -> None:
        count, total = int(wrong.sum()), wrong.numel()
        first = tuple(int(i) for i in wrong.nonzero()[0])
        where = f" at index {first}" if first else ""
        raise CheckFailed(
            f"{what} is off in {count} of {total} values; the first{where}: "
            f"yours {actual[first].item():.6g}, expected {expected[first].item():.6g}."
        )


def _kind(value: Any) -> str:
    if value is None:
        return "None (is a `return` missing?)"
    return f"a {type(value).__name__}"
