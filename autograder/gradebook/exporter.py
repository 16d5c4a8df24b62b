"""The one seam through which nbgrader's Autograde reads submissions: its exporter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat.notebooknode import from_dict
from nbgrader.converters import Autograde, NbGraderException
from traitlets import Bool, Enum, List, Unicode, default

from autograder.engine.notebook import UnreadableNotebook, parse_notebook
from autograder.engine.verdict import COUNT, TELL
from autograder.gradebook import preflight
from autograder.gradebook.grader import Grader, GradingFailed, GradingRefused, shared_grader
from autograder.gradebook.intake import Intake
from autograder.gradebook.journal import FOLDER, Busy, Journal, Record
from autograder.gradebook.jsonfile import NotKept
from autograder.gradebook.memory import UnfitMemory, mebibytes
from autograder.gradebook.repair import Repair
from autograder.gradebook.scores import forget_unscored, seconds_late
from autograder.gradebook.submission import Submission, text_of
from autograder.gradebook.timestamp import existing_timestamp, timestamp_in
from autograder.gradebook.verdicts import Verdicts

Hook = Callable[..., Any]


class SubmissionExporter(NotebookExporter):
    """Reads every submission, however broken, and knows the engine's verdict on it.

    nbgrader makes it when it knows the submissions and has touched none, so whatever would
    make grading wrong for all of them is found here and stops the command.
    """

    device = Enum(
        ["cpu", "cuda"], "cpu", help="Judge on CUDA beside the CPU, or on the CPU alone."
    ).tag(config=True)
    memory = Unicode(
        "",
        help='That a submission may allocate, such as "2GiB"; empty: as each exercise says.',
    ).tag(config=True)
    device_points = Enum(
        [COUNT, TELL],
        COUNT,
        help="Failures that show only where inputs are not on the CPU cost their tests' points "
        "(count), or are told and cost nothing (tell).",
    ).tag(config=True)
    without_layers = List(
        Unicode(),
        help="Required sandbox layers to grade without: only where every submission is trusted.",
    ).tag(config=True)
    journal_folder = Unicode(
        FOLDER, help="Where verdicts are kept, relative to the course folder."
    ).tag(config=True)
    journal_only = Bool(
        False, help="Take verdicts as they are journaled, such as `forwardpass grade` made them."
    ).tag(config=True)

    @default("optimistic_validation")
    def _look_through_it_once(self) -> bool:
        return True  # not after each of nbgrader's steps

    _not_begun: NotKept | None = None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if isinstance(self.parent, Autograde):
            try:
                self._prepare(self.parent)
            except (NbGraderException, GradingRefused, GradingFailed, UnfitMemory) as error:
                self.log.error("Nothing was graded: %s", error)
                raise NbGraderException(str(error)) from None

    def from_filename(
        self, filename: str, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Read a submission as nbgrader's sanitizing step should see it: repaired."""
        if self._not_begun:
            raise self._not_begun
        told = (resources or {}).get("nbgrader")
        if told is None or not self._is_submission(filename):
            return super().from_filename(filename, resources=resources, **kw)
        notebook = from_dict(self._repaired(told["notebook"], Path(filename)))
        resources = {**(resources or {}), "metadata": {"name": told["notebook"], "path": ""}}
        return self.from_notebook_node(notebook, resources=resources, **kw)

    def verdict(self, student: str, name: str) -> Record:
        """The verdict on a student's notebook, graded now where it is not journaled."""
        grader = self._grader()
        try:
            record = self._verdicts.of(self._submission(student, name), grader)
        except (GradingRefused, GradingFailed):
            forget_unscored(self._coursedir, student)
            raise
        self._seals[name] = record.seal
        return record

    def _grader(self) -> Grader:
        return shared_grader(self.device, self.without_layers, self._megabytes)

    def _prepare(self, converter: Autograde) -> None:
        coursedir = converter.coursedir
        self._coursedir = coursedir
        self._sources = self._checked_sources()
        self._journal = Journal(Path(coursedir.root, self.journal_folder), coursedir.assignment_id)
        self._megabytes = mebibytes(self.memory)
        self._verdicts = self._verdicts_of(self._journal)
        self._seals: dict[str, str] = {}
        coursedir.get_existing_timestamp = existing_timestamp
        self._intake = Intake(converter, self._journal, self._sources)
        self._intake.leave_out_strays()
        self._intake.leave_out_strangers()
        self._start_grader(converter)
        converter.pre_convert_hook = self._after(converter.pre_convert_hook, self._begin)
        converter.post_convert_hook = self._after(converter.post_convert_hook, self._finish)
        converter.convert_notebooks = self._alone(converter.convert_notebooks)

    def _checked_sources(self) -> dict[str, dict[str, Any]]:
        sources = preflight.source_notebooks(self._coursedir)
        preflight.check_gradebook(self._coursedir, sources)
        return sources

    def _verdicts_of(self, journal: Journal) -> Verdicts:
        return Verdicts(
            journal,
            self.device,
            keep_errors=self.journal_only,
            megabytes=self._megabytes,
            device_points=self.device_points,
        )

    def _alone(self, convert: Callable[[], None]) -> Callable[[], None]:
        """Have nbgrader write while no other run does, and nothing that was half written stand."""

        def alone() -> None:
            # `forwardpass grade` holds the journal while it has nbgrader write.
            holding = contextlib.nullcontext() if self.journal_only else self._journal.alone()
            try:
                with holding:
                    self._intake.discard_interrupted()
                    convert()
            except (Busy, NotKept) as error:
                self.log.error("Nothing was graded: %s", error)
                raise NbGraderException(str(error)) from None

        return alone

    def _start_grader(self, converter: Autograde) -> None:
        """Start the engine before any submission is touched, where one is to be graded."""
        for folder, notebooks in converter.assignments.items():
            for path in notebooks:
                name = Path(path).stem
                if name not in self._sources:
                    continue
                submission = self._submission(self._student(folder), name)
                if not self._verdicts.journaled(submission):
                    self._verdicts.prepare(submission.lesson, self._grader())

    def _begin(self, notebooks: list[str]) -> None:
        self._seals, self._not_begun = {}, None
        try:
            self._journal.begin(self._student(str(Path(notebooks[0]).parent)))
        except NotKept as error:  # nbgrader takes no notice of what a hook raises
            self._not_begun = error

    def _finish(self, notebooks: list[str]) -> None:
        folder = Path(notebooks[0]).parent
        student = self._student(str(folder))
        written = {
            "seals": self._seals,
            "timestamp": timestamp_in(folder)[0],
            "late": seconds_late(self._coursedir, student),
        }
        self._journal.finish(student, written)

    @staticmethod
    def _after(configured: Hook | None, ours: Hook) -> Hook:
        def hook(*, notebooks: list[str], **arguments: Any) -> None:
            ours(notebooks)
            if configured is not None:
                configured(notebooks=notebooks, **arguments)

        return hook

    def _student(self, folder: str) -> str:
        return preflight.student_of(self._coursedir, self._coursedir.submitted_directory, folder)

    def _is_submission(self, filename: str) -> bool:
        submitted = Path(self._coursedir.root, self._coursedir.submitted_directory)
        return Path(filename).is_relative_to(submitted)

    def _submission(self, student: str, name: str) -> Submission:
        coursedir = self._coursedir
        folder = coursedir.format_path(
            coursedir.submitted_directory, student, coursedir.assignment_id
        )
        lesson = preflight.lesson_key(self._sources[name])
        return Submission(student, name, Path(folder, f"{name}.ipynb"), lesson)

    def _repaired(self, name: str, path: Path) -> dict[str, Any]:
        repair = Repair(self._sources[name])
        try:
            data = Submission("", name, path, "").read()
            return repair.rebuild(parse_notebook(text_of(data, path.name), path.name))
        except UnreadableNotebook as error:
            self.log.warning("%s: %s", path, error)
            return repair.without(str(error))


class JournalExporter(SubmissionExporter):
    """The same for a run that writes one student after another, from its own journal.

    Of what it goes by nothing changes within a run: the sources, what judges, the gradebook's
    cells. A class is made for each run (``for_a_run``), so that no other sees what is kept here.
    """

    _kept_sources: dict[str, dict[str, Any]] | None = None
    _kept_verdicts: Verdicts | None = None

    @classmethod
    def for_a_run(cls) -> type[JournalExporter]:
        """One that has kept nothing yet."""
        return type(cls.__name__, (cls,), {})

    def _checked_sources(self) -> dict[str, dict[str, Any]]:
        kept = type(self)
        if kept._kept_sources is None:
            kept._kept_sources = super()._checked_sources()
        return kept._kept_sources

    def _verdicts_of(self, journal: Journal) -> Verdicts:
        kept = type(self)
        if kept._kept_verdicts is None:
            kept._kept_verdicts = super()._verdicts_of(journal)
        return kept._kept_verdicts

    def _start_grader(self, _: Autograde) -> None:
        """What is in the journal needs none."""
