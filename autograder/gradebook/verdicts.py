"""A submission's verdict: from the journal where nothing has changed, graded where it has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.verdict import COUNT, TELL, Verdict
from autograder.gradebook.grader import Grader
from autograder.gradebook.journal import Journal, Record
from autograder.gradebook.key import Key, judges_of
from autograder.gradebook.move import move_of
from autograder.gradebook.submission import Submission, text_of
from autograder.lesson import find_lesson


@dataclass
class Verdicts:
    """Finds or makes the verdicts of one assignment.

    Attributes:
        journal: where they are kept.
        device: judged on beside the CPU.
        megabytes: that a submission may allocate; None where each exercise says.
        device_points: whether failures on devices cost their tests' points, COUNT or TELL.
        fresh: grade again what is journaled already.
        keep_errors: take a journaled verdict as it is even where the grader itself failed;
            otherwise such a notebook is graded again.
    """

    journal: Journal
    device: str = "cpu"
    fresh: bool = False
    keep_errors: bool = False
    megabytes: int | None = None
    device_points: str = COUNT
    _judges: dict[str, Key] = field(default_factory=dict)

    def journaled(self, submission: Submission) -> Record | None:
        """The journaled verdict on this very file by these very graders, if there is one."""
        record = self.journal.read(submission.student, submission.name)
        if record is None or self.fresh or record.key != self.key(submission).digest:
            return None
        graded_in_vain = record.verdict is not None and record.verdict.has_errors
        return None if graded_in_vain and not self.keep_errors else record

    def of(self, submission: Submission, grader: Grader, patience: float | None = None) -> Record:
        """The verdict, graded and journaled where it was not.

        Args:
            submission: whose.
            grader: where it is graded.
            patience: as of `Grader.grade`.

        Raises:
            Postponed: as of `Grader.grade`.
            GradingRefused: a required sandbox layer is missing.
            GradingFailed: the hidden tests cannot be collected, or the process ended.
            NotKept: the verdict cannot be written to the journal.
        """
        found = self.journaled(submission)
        if found:
            return found
        data, verdict, failure = None, None, ""
        try:
            data = submission.read()
            text = text_of(data, submission.path.name)
            self.prepare(submission.lesson, grader)
            verdict = grader.grade(submission.lesson, submission.path.name, text, patience)
        except UnreadableNotebook as error:
            failure = str(error)
        return self.keep(submission, self.key(submission, data), verdict, failure)

    def keep(
        self, submission: Submission, key: Key, verdict: Verdict | None, failure: str = ""
    ) -> Record:
        """Journal a verdict, or why the notebook could not be read, under the file's key.

        Where a journaled verdict gives way to it, the record says how the grade moved and why.

        Raises:
            NotKept: as in `of`.
        """
        if verdict is not None and self.device_points == TELL:
            verdict = verdict.told_of_devices()
        record = Record(
            key.digest, submission.student, submission.lesson, verdict, failure, key.basis
        )
        earlier = self.journal.read(submission.student, submission.name)
        if earlier is not None:
            record = replace(record, moved=move_of(earlier, record) or earlier.moved)
        self.journal.write(submission.name, record)
        return record

    def prepare(self, lesson: str, grader: Grader) -> None:
        """Have a grader start and collect a lesson's hidden tests.

        Raises:
            GradingRefused, GradingFailed: as in `of`.
        """
        grader.prepare(lesson, self._judges_of(lesson).digest)

    def key(self, submission: Submission, data: bytes | None = None) -> Key:
        """The key of a verdict on a submission, or on these bytes of it."""
        if data is None:
            try:
                data = submission.read()
            except UnreadableNotebook as error:
                data = str(error).encode()
        return self._judges_of(submission.lesson).on(data)

    def _judges_of(self, lesson: str) -> Key:
        if lesson not in self._judges:
            self._judges[lesson] = judges_of(
                find_lesson(lesson), self.device, self.megabytes, self.device_points
            )
        return self._judges[lesson]
