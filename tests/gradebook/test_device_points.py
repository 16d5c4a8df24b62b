"""What failures on devices cost: the instructor's choice, kept in the journal."""

import json

import pytest

from autograder.engine.verdict import COUNT, FAILED, TELL
from autograder.gradebook.journal import Journal
from autograder.gradebook.submission import Submission
from autograder.gradebook.verdicts import Verdicts

ON_THE_CPU = """
def hinge_generator_loss(fake_logits):
    return -(fake_logits + torch.zeros(fake_logits.shape, dtype=fake_logits.dtype)).mean()
"""


@pytest.fixture
def kept(tmp_path, losses, fill, grade):
    """The journaled verdict on an answer, under a choice of the instructor's."""
    journal = Journal(tmp_path / "journal", "ch15_gan")
    path = tmp_path / "losses.ipynb"

    def under(choice, **answers):
        path.write_text(json.dumps(fill(**answers)), encoding="utf-8")
        verdicts = Verdicts(journal, device_points=choice)
        submission = Submission("ann", "losses", path, losses.key)
        record = verdicts.keep(submission, verdicts.key(submission), grade(fill(**answers)))
        return record.verdict, verdicts.key(submission)

    return under


def test_a_failure_on_a_device_costs_its_test_or_is_told(kept):
    counted, key = kept(COUNT, hinge_generator_loss=ON_THE_CPU)
    told, other_key = kept(TELL, hinge_generator_loss=ON_THE_CPU)
    assert 0 < counted.score < counted.max_score
    assert told.score == told.max_score
    assert key != other_key  # a change of mind grades again
    (failed,) = [t for e in told.exercises for t in e.tests if t.outcome == FAILED]
    assert failed.points == failed.max_points
    assert "costs no points here" in failed.message


def test_what_is_wrong_on_the_cpu_costs_the_same(kept):
    wrong = "def hinge_generator_loss(fake_logits):\n    return fake_logits.mean()\n"
    for answer in (wrong, None):
        counted, _ = kept(COUNT, hinge_generator_loss=answer)
        told, _ = kept(TELL, hinge_generator_loss=answer)
        assert told.score == counted.score < told.max_score
