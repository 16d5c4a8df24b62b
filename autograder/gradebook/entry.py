"""nbgrader's autograding where verdicts are there: one session a student, one pass a notebook."""

from __future__ import annotations

from nbgrader import utils
from nbgrader.converters import Autograde
from nbgrader.converters.base import BaseConverter
from traitlets import Instance

from autograder.gradebook.sitting import Sitting

CHECK = "nbgrader.preprocessors.CheckCellMetadata"


class Entry(Autograde):
    """The same steps, in the same order, as stock autograding takes.

    That writes a notebook when it is put in order and reads it again to grade it, since
    executing it may fail; nothing is executed here.
    """

    sitting = Instance(Sitting)

    def start(self) -> None:
        with self.sitting.of_a_student():
            super().start()

    def convert_single_notebook(self, notebook_filename: str) -> None:
        again = CHECK in self.autograde_preprocessors  # it looks through the whole notebook
        steps = [step for step in self.sanitize_preprocessors if not (again and step == CHECK)]
        self.exporter._preprocessors = []
        for step in [*steps, *self.autograde_preprocessors]:
            self.exporter.register_preprocessor(step)
        self._sanitizing = True  # reads what was submitted
        with utils.setenv(NBGRADER_EXECUTION="autograde"):
            BaseConverter.convert_single_notebook(self, notebook_filename)

    def run_post_convert_hook(self) -> None:
        """Have the gradebook hold the student's grades before anybody takes them as entered."""
        self.sitting.save()
        super().run_post_convert_hook()
