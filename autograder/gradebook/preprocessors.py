"""nbgrader's steps of autograding that are ours: the engine's verdict, and what needs a look."""

from __future__ import annotations

from typing import Any

from nbformat.notebooknode import NotebookNode, from_dict
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder.engine.verdict import ERROR, ExerciseResult
from autograder.feedback import exercise_html, problem_html, summary_html
from autograder.gradebook.journal import Record
from autograder.gradebook.repair import handed_out

Processed = tuple[NotebookNode, dict[str, Any]]


class GradeByEngine(NbGraderPreprocessor):
    """Fills the outputs of every tests cell from the verdict, where nbgrader reads the score.

    It stands where nbgrader's own Execute would run the student's code. Its parent is a
    `SubmissionExporter`, which knows the verdict.
    """

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> Processed:
        told = resources["nbgrader"]
        record: Record = self.parent.verdict(told["student"], told["notebook"])
        results = {e.name: e for e in record.verdict.exercises} if record.verdict else {}
        for cell in nb.cells:
            if utils.is_grade(cell) and not utils.is_solution(cell):
                self._fill(cell, record, results)
        nb.cells.insert(0, _head(record, nb.metadata.get("forwardpass", {}).get("notes", [])))
        return nb, resources

    def _fill(self, cell: NotebookNode, record: Record, results: dict[str, ExerciseResult]) -> None:
        told = cell.metadata.get("forwardpass", {})
        result = results.get(told.get("exercise", ""))
        points = float(cell.metadata.nbgrader["points"])
        score = 0.0
        if result is not None:
            # The gradebook's points may differ from the grader's where it was rebuilt since.
            share = result.score / result.max_score if result.max_score else 0.0
            score = round(points * min(1.0, share), 4)
            html = exercise_html(result)
        elif record.verdict is None:
            html = problem_html("Not graded automatically.", record.failure)
        else:
            html = problem_html(
                "Not graded automatically.", "The hidden tests do not know this exercise."
            )
        failed = result is None or any(test.outcome == ERROR for test in result.tests)
        cell.metadata["forwardpass"] = {**told, "review": failed}
        cell.source = handed_out(cell)
        cell.outputs = [
            from_dict(
                {
                    "output_type": "execute_result",
                    "execution_count": None,
                    "data": {"text/plain": repr(score), "text/html": html},
                    "metadata": {},
                }
            )
        ]


class FlagForReview(NbGraderPreprocessor):
    """Marks what the engine could not judge as needing a grade by hand; after SaveAutoGrades."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> Processed:
        told = resources["nbgrader"]
        cells = [
            cell.metadata.nbgrader["grade_id"]
            for cell in nb.cells
            if utils.is_grade(cell) and cell.metadata.get("forwardpass", {}).get("review")
        ]
        if cells:
            with Gradebook(told["db_url"]) as gradebook:
                for cell in cells:
                    grade = gradebook.find_grade(
                        cell, told["notebook"], told["assignment"], told["student"]
                    )
                    grade.needs_manual_grade = True
                gradebook.db.commit()
        return nb, resources


def _head(record: Record, notes: list[str]) -> NotebookNode:
    """The cell at the notebook's top: the score and what became of its cells, or the problem."""
    if record.verdict is None:
        source = problem_html(
            "This notebook could not be graded.",
            f"{record.failure}. Below is the lesson as it was handed out; the file that was "
            "handed in is untouched.",
        )
    else:
        source = summary_html(record.verdict, notes)
    return from_dict(
        {
            "cell_type": "markdown",
            "id": "forwardpass-summary",
            "metadata": {"forwardpass": {"role": "summary"}},
            "source": source,
        }
    )
