"""Grading again: whose grade moved, and why."""

import json

import pytest

from autograder.engine.verdict import PASSED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.gradebook import verdicts as verdicts_module
from autograder.gradebook.journal import Journal, Record
from autograder.gradebook.key import Key
from autograder.gradebook.move import CHANCE, UNKNOWN, move_of
from autograder.gradebook.submission import Submission
from autograder.gradebook.verdicts import Verdicts

JUDGES = {"hidden tests": "a", "engine": "b", "torch": "2.13"}


def verdict(first, second=1.0):
    results = [
        ExerciseResult(name, score, 2.0, [Outcome("t", PASSED, score, 2.0, "", "cpu")])
        for name, score in (("first", first), ("second", second))
    ]
    sandbox = {"in force": [], "missing": {}}
    return Verdict("ch/it", first + second, 4.0, ["cpu"], sandbox, results)


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Journal a verdict on a file by judges that may have changed."""
    journal = Journal(tmp_path / "journal", "ch")
    path = tmp_path / "it.ipynb"

    def kept(found, file="{}", **changes):
        judges = Key(JUDGES | {name.replace("_", " "): v for name, v in changes.items()})
        monkeypatch.setattr(verdicts_module, "judges_of", lambda *_: judges)
        monkeypatch.setattr(verdicts_module, "find_lesson", lambda key: key)
        path.write_text(file)
        verdicts, submission = Verdicts(journal), Submission("ann", "it", path, "ch/it")
        return verdicts.keep(submission, verdicts.key(submission), found, "" if found else "cut")

    return kept


def test_a_first_grade_has_not_moved(keep):
    assert keep(verdict(1.0)).moved is None


def test_what_changed_is_named_with_the_exercises_that_moved(keep):
    keep(verdict(1.0))
    moved = keep(verdict(2.0), hidden_tests="other").moved
    assert (moved.before, moved.after) == (2.0, 3.0)
    assert moved.exercises == {"first": (1.0, 2.0)}
    assert moved.because == ("the hidden tests changed",)
    assert not moved.by_chance
    assert not moved.by_the_student


def test_points_that_change_places_are_a_move(keep):
    keep(verdict(1.0, 2.0))
    assert keep(verdict(2.0, 1.0), engine="c").moved.exercises.keys() == {"first", "second"}


def test_a_setting_is_named_with_both_values(keep):
    keep(verdict(1.0))
    assert keep(verdict(2.0), torch="2.14").moved.because == ("torch: 2.13, now 2.14",)


def test_another_file_is_the_students_own_doing(keep):
    keep(verdict(1.0))
    assert keep(verdict(2.0), file="{ }").moved.by_the_student


def test_a_move_without_a_reason_is_chance(keep):
    keep(verdict(1.0))
    moved = keep(verdict(0.5)).moved
    assert moved.because == (CHANCE,)
    assert moved.by_chance


def test_the_last_move_is_remembered_by_gradings_that_move_nothing(keep):
    keep(verdict(1.0))
    moved = keep(verdict(2.0), engine="c").moved
    again = keep(verdict(2.0), engine="d")
    assert again.moved == moved
    assert Record.from_dict(json.loads(json.dumps(again.to_dict()))) == again


def test_a_notebook_that_can_be_read_at_last_has_moved(keep):
    keep(None, file="{")
    moved = keep(verdict(1.0)).moved
    assert (moved.before, moved.after) == (None, 2.0)
    assert moved.exercises["first"] == (None, 1.0)


def test_records_of_earlier_versions_are_read_and_their_move_has_no_reason(keep):
    old = {k: v for k, v in keep(verdict(1.0)).to_dict().items() if k not in ("basis", "moved")}
    record = Record.from_dict(old)
    assert record.moved is None
    assert move_of(record, keep(verdict(2.0))).because == (UNKNOWN,)


@pytest.mark.parametrize("damage", [{"basis": 3}, {"moved": [1]}, {"moved": {"exercises": {}}}])
def test_damage_there_makes_no_record(keep, damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Record.from_dict({**keep(verdict(1.0)).to_dict(), **damage})


def test_the_key_changes_with_the_file_and_with_each_judge():
    key = Key(JUDGES)
    digests = {
        key.on(b"1").digest,
        key.on(b"2").digest,
        Key(JUDGES | {"engine": "c"}).on(b"1").digest,
    }
    assert len(digests) == 3
    assert key.on(b"1").digest == Key(dict(reversed(JUDGES.items()))).on(b"1").digest
