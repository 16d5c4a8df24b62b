"""The visible checks say what to look at, in words a student can use."""

import pytest
import torch

from course import checking


def told(capsys, run):
    with checking("answer") as check:
        run(check)
    return check.passed, capsys.readouterr().out


def test_a_right_answer(capsys):
    passed, out = told(capsys, lambda c: c.close(torch.ones(2), torch.ones(2), "the sum"))
    assert passed
    assert out == "  ✓ the sum\n✅ answer: the visible checks pass.\n"


def unwritten(_check):
    raise NotImplementedError


def broken(_check):
    return torch.ones(2) @ torch.ones(3)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (unwritten, "✏️  answer is not written yet. Fill in its cell above"),
        (broken, "❌ answer stopped with RuntimeError"),
        (lambda c: c.close(None, torch.ones(2), "the sum"), "should be a tensor, but is None (is a `return` missing?)"),
        (lambda c: c.close(torch.ones(3), torch.ones(2), "the sum"), "the sum should have shape (2,), but has (3,)."),
        (lambda c: c.close(torch.ones(2, dtype=torch.float64), torch.ones(2), "the sum"), "should have dtype torch.float32"),
        (lambda c: c.close(torch.tensor([1.0, 3.0]), torch.ones(2), "the sum"),
         "the sum is off in 1 of 2 values; the first at index (1,): yours 3, expected 1."),
        (lambda c: c.close(torch.tensor([1.0, float("nan")]), torch.ones(2), "the sum"), "off in 1 of 2"),
        (lambda c: c.close("text", 1.0, "the loss"), "the loss should be a number, but is a str."),
        (lambda c: c.equal(3, 4, "the count"), "the count should be 4, but is 3."),
        (lambda c: c.true(False, "losses fall", "Look at the sign."), "losses fall. Look at the sign."),
        (lambda c: c.raises(ValueError, lambda: None, "p = 2"), "p = 2: expected ValueError, but nothing was raised."),
        (lambda c: c.raises(ValueError, lambda: 1 / 0, "p = 2"), "but got ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_escapes(capsys, run, message):
    passed, out = told(capsys, run)
    assert not passed
    assert message in out
    assert "Traceback" not in out


def test_interrupting_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), checking("answer"):
        raise KeyboardInterrupt
