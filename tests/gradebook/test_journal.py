"""Verdicts on disk: whole or not there, and only as long as nothing has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest

from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.verdict import ERROR, PASSED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.gradebook.grader import Grader, TookTooLong
from autograder.gradebook.journal import Journal, Record
from autograder.gradebook.jsonfile import NotKept
from autograder.gradebook.submission import Submission, read_file, strangers_in
from autograder.gradebook.verdicts import Verdicts
from autograder.lesson import Lesson


def verdict(outcome: str = PASSED) -> Verdict:
    tests = [Outcome("whole", outcome, 1.0, 1.0, "", "cpu")]
    return Verdict("ch/it", 1.0, 1.0, ["cpu"], {}, [ExerciseResult("f", 1.0, 1.0, tests)])


class CountingGrader(Grader):
    """Grades nothing, and counts how often it was asked."""

    def __init__(self, outcome: str = PASSED) -> None:
        super().__init__()
        self.asked = 0
        self._outcome = outcome

    def prepare(self, lesson: str, fingerprint: str) -> None:
        pass

    def grade(self, lesson: str, name: str, text: str, _: float | None) -> Verdict:  # noqa: ARG002
        self.asked += 1
        return verdict(self._outcome)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", "ch")


@pytest.fixture
def submission(tmp_path: Path, losses: Lesson) -> Submission:
    path = tmp_path / "it.ipynb"
    path.write_text("{}")
    return Submission("ann", "it", path, losses.key)


def test_records_come_back_as_they_were(journal: Journal) -> None:
    for record in (
        Record("k", "ann", "ch/it", verdict()),
        Record("k", "bob", "ch/it", None, "cut short \ud800"),
    ):
        journal.write("it", record)
        assert journal.read(record.student, "it") == record
    assert [path.name for path in journal.path("ann", "it").parent.iterdir()] == ["it.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": "k"}'])
def test_a_damaged_record_counts_as_none(journal: Journal, text: str) -> None:
    path = journal.path("ann", "it")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert journal.read("ann", "it") is None


def test_what_a_killed_run_had_half_written_goes(journal: Journal) -> None:
    journal.write("it", Record("k", "ann", "ch/it", verdict()))
    half = journal.path("ann", "it").with_name(".abc.part")
    half.write_text('{"key": "k", "stud')
    with journal.alone():
        assert not half.exists()
    assert journal.read("ann", "it") is not None


def test_where_it_cannot_write_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    journal = Journal(tmp_path / "journal", "ch")
    told = "cannot be written .*: make it a place that you may write to, then grade again"
    with pytest.raises(NotKept, match=told):
        journal.write("it", Record("k", "ann", "ch/it", verdict()))
    with pytest.raises(NotKept, match=told), journal.alone():
        pass


def test_one_that_takes_for_ever_is_given_up(tmp_path: Path) -> None:
    program = tmp_path / "slow.py"
    program.write_text("import time\nprint('{}', flush=True)\ntime.sleep(60)")
    started = time.monotonic()
    grader = Grader(seconds=0.5)
    with (
        mock.patch("autograder.gradebook.grader.PROGRAM", (str(program),)),
        pytest.raises(TookTooLong, match=r"longer than 0\.5 s"),
    ):
        grader.prepare("ch/it", "")
    grader.close()
    assert time.monotonic() - started < 20


def test_what_was_begun_and_not_finished_was_interrupted(journal: Journal) -> None:
    assert not journal.interrupted("ann")
    journal.begin("ann")
    assert journal.interrupted("ann")
    journal.finish("ann", {"it": "k"})
    assert not journal.interrupted("ann")
    assert journal.finished("ann") == {"it": "k"}


def test_only_what_changed_is_graded_again(journal: Journal, submission: Submission) -> None:
    grader = CountingGrader()
    Verdicts(journal).of(submission, grader)
    Verdicts(journal).of(submission, grader)
    assert grader.asked == 1
    submission.path.write_text("{} ")
    Verdicts(journal).of(submission, grader)
    assert grader.asked == 2
    Verdicts(journal, device="cuda").of(submission, grader)
    assert grader.asked == 3
    Verdicts(journal, device="cuda", fresh=True).of(submission, grader)
    assert grader.asked == 4


def test_where_the_grader_itself_failed_it_is_asked_again(
    journal: Journal, submission: Submission
) -> None:
    grader = CountingGrader(ERROR)
    for _ in range(2):
        assert Verdicts(journal).of(submission, grader).asks_for_review
    assert grader.asked == 2
    assert Verdicts(journal, keep_errors=True).journaled(submission) is not None


def test_nothing_but_ordinary_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "secret")
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name, why in (
        ("link", "is a link to another file, and links are not followed"),
        ("folder", "is not a file"),
        ("pipe", "is not a file"),
        ("gone", "was not handed in"),
    ):
        with pytest.raises(UnreadableNotebook, match=f"{name}.ipynb {why}"):
            read_file(tmp_path / f"{name}.ipynb")
    found = {path.name for path, _ in strangers_in(tmp_path)}
    assert found == {"link.ipynb", "pipe.ipynb"}
